"""Jupiter v5: one script, called once per task, loops for ever. Files are named <src>_<dst>_<item>."""

import json
import os
import re

from jupiter_utils import app_config_parser

app_config = app_config_parser.AppConfig(os.path.dirname(os.path.abspath(__file__)))


def clean(texts):
    return "\n".join(re.findall("[a-z]+", texts["home"].lower()))


def count(texts):
    return str(len(texts["clean"].split()))


def longest(texts):
    return max(sorted(texts["clean"].split()), key=len, default="")


def report(texts):
    return json.dumps({"words": int(texts["count"]), "longest": texts["longest"]})


PARENTS = {"clean": ["home"], "count": ["clean"], "longest": ["clean"], "report": ["count", "longest"]}
WORK = {"clean": clean, "count": count, "longest": longest, "report": report}


def task(q, pathin, pathout, task_name):
    arrived = {}  # item -> parent -> text: nobody joins for a v5 task, it counts its own inputs
    while True:
        name = q.get()
        src, _, item = name.split("_", 2)
        with open(os.path.join(pathin, name)) as file:
            arrived.setdefault(item, {})[src] = file.read()
        if len(arrived[item]) == len(PARENTS[task_name]):
            result = WORK[task_name](arrived.pop(item))
            for child in app_config.child_tasks(task_name):
                with open(os.path.join(pathout, f"{task_name}_{child}_{item}"), "w") as file:
                    file.write(result)
        q.task_done()
