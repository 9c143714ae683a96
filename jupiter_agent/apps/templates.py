"""What `jupiter app init` writes: one small app in each of the four contracts, ready to run.

All four compute the same thing: a text goes in, its words are cleaned once, looked at from two sides, and joined.
"""

from __future__ import annotations

import json
from pathlib import Path

from jupiter_agent.core.ids import is_item_name
from jupiter_agent.errors import UsageError

CONTRACTS = ("native", "command", "v5", "v4")

_PICTURE = """\
  input -> clean -+-> count ---+-> report -> home
                  +-> longest -+
"""
_TEXTS = {
    "river.txt": (
        "A river has no head. It is fed by every stream that meets it,\nand it goes on when one of them runs dry.\n"
    ),
    "mesh.txt": "Peers ask, peers answer; nobody leads.\nWhat one of them knows, its neighbours will know soon.\n",
}

_NATIVE = {
    "app_config.yaml": f"""\
# Words of a text: cleaned once, looked at from two sides, joined.
#
#{_PICTURE.rstrip().replace(chr(10), chr(10) + "#")}

application:
  name: NAME
  tasks:
    dag_tasks:
      - {{name: clean, base_script: clean.py, children: [count, longest]}}
      - {{name: count, base_script: sides.py, children: [report]}}
      - {{name: longest, base_script: sides.py, children: [report]}}
      - {{name: report, base_script: report.py, children: [home]}}
""",
    "clean.py": '''\
"""Words of a text in lower case, one a line."""

import re


def process(inputs, ctx):
    words = re.findall("[a-z]+", inputs["input"].decode().lower())
    ctx.log.info("%s has %d words", ctx.item, len(words))
    return "\\n".join(words).encode()
''',
    "sides.py": '''\
"""Two tasks share this script; `ctx.task` tells which one runs."""


def process(inputs, ctx):
    words = inputs["clean"].decode().split()
    if ctx.task == "count":
        return str(len(words)).encode()
    return max(sorted(words), key=len, default="").encode()
''',
    "report.py": '''\
"""The join: called when both parents have delivered for an item."""

import json


def process(inputs, ctx):
    report = {"words": int(inputs["count"]), "longest": inputs["longest"].decode()}
    return json.dumps(report).encode()
''',
}

_COMMAND = {
    "app_config.yaml": f"""\
# Words of a text: cleaned once, looked at from two sides, joined. No Python: a program per task.
#
#{_PICTURE.rstrip().replace(chr(10), chr(10) + "#")}

application:
  name: NAME
  tasks:
    dag_tasks:
      - {{name: clean, command: [./clean.sh], children: [count, longest], timeout_s: 60}}
      - {{name: count, command: [./count.sh], children: [report], timeout_s: 60}}
      - {{name: longest, command: [./longest.sh], children: [report], timeout_s: 60}}
      - {{name: report, command: [./report.sh], children: [home], timeout_s: 60}}
""",
    "clean.sh": """\
#!/bin/sh
# Inputs are files in $JUPITER_IN/<parent>/; what lies in $JUPITER_OUT/ at the end goes to all children.
set -eu
export LC_ALL=C
cat "$JUPITER_IN"/input/* | tr 'A-Z' 'a-z' | tr -cs 'a-z' '\\n' | sed '/^$/d' > "$JUPITER_OUT/words"
""",
    "count.sh": """\
#!/bin/sh
set -eu
cat "$JUPITER_IN"/clean/words | wc -l | tr -d ' ' > "$JUPITER_OUT/count"
""",
    "longest.sh": """\
#!/bin/sh
set -eu
export LC_ALL=C
sort "$JUPITER_IN"/clean/words | awk 'length > length(best) { best = $0 } END { print best }' > "$JUPITER_OUT/longest"
""",
    "report.sh": """\
#!/bin/sh
# An exit code other than 0 is a failed attempt; the last lines on stderr say why.
set -eu
words=$(cat "$JUPITER_IN"/count/count)
longest=$(cat "$JUPITER_IN"/longest/longest)
printf '{"words": %s, "longest": "%s"}' "$words" "$longest" > "$JUPITER_OUT/report"
""",
}

_V5 = {
    "app_config.yaml": f"""\
# Words of a text: cleaned once, looked at from two sides, joined.
#
#{_PICTURE.rstrip().replace(chr(10), chr(10) + "#")}

jupiter_config:
  task_mapper: heft
application:
  name: NAME
  tasks:
    home:
      base_script: home.py
      children: [clean]
    dag_tasks:
      - {{name: clean, base_script: task.py, children: [count, longest]}}
      - {{name: count, base_script: task.py, children: [report]}}
      - {{name: longest, base_script: task.py, children: [report]}}
      - {{name: report, base_script: task.py, children: [home]}}
""",
    "home.py": '''\
"""Home's script: sees every result. It could make items, too: files named home_<child>_<item> in pathout."""

import os


def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        with open(os.path.join(pathin, name)) as result:
            print(f"{name}: {result.read()}", flush=True)
        q.task_done()
''',
    "task.py": '''\
"""Jupiter v5: one script, called once per task, loops for ever. Files are named <src>_<dst>_<item>."""

import json
import os
import re

from jupiter_utils import app_config_parser

app_config = app_config_parser.AppConfig(os.path.dirname(os.path.abspath(__file__)))


def clean(texts):
    return "\\n".join(re.findall("[a-z]+", texts["home"].lower()))


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
''',
}

_V4 = {
    "configuration.txt": """\
4
clean 1 true count longest
count 1 true report
longest 1 true report
report 2 true home
""",
    "name_convert.txt": "clean words input\ncount count words\nlongest longest words\nreport report count\n",
    "scripts/config.json": """\
{
  "taskname_map": {
    "clean": ["clean", true],
    "count": ["count", true],
    "longest": ["longest", true],
    "report": ["report", true]
  }
}
""",
    "scripts/clean.py": '''\
"""Words of a text in lower case, one a line. The name up to the first _ (else .) says which item a file belongs to."""

import os
import re


def task(onefile, pathin, pathout):
    with open(os.path.join(pathin, onefile)) as file:
        words = re.findall("[a-z]+", file.read().lower())
    out = os.path.join(pathout, onefile.split(".")[0].split("_")[0] + "_words")
    with open(out, "w") as file:
        file.write("\\n".join(words))
    return [out]
''',
    "scripts/count.py": '''\
"""How many words there are."""

import os


def task(onefile, pathin, pathout):
    with open(os.path.join(pathin, onefile)) as file:
        words = file.read().split()
    out = os.path.join(pathout, onefile.split("_")[0] + "_count")
    with open(out, "w") as file:
        file.write(str(len(words)))
    return [out]
''',
    "scripts/longest.py": '''\
"""The longest word, the first of them by the alphabet."""

import os


def task(onefile, pathin, pathout):
    with open(os.path.join(pathin, onefile)) as file:
        words = file.read().split()
    out = os.path.join(pathout, onefile.split("_")[0] + "_longest")
    with open(out, "w") as file:
        file.write(max(sorted(words), key=len, default=""))
    return [out]
''',
    "scripts/report.py": '''\
"""The join: NUM_INPUTS is 2, so it gets a list of the two files of an item, in the order of their arrival."""

import json
import os


def task(files, pathin, pathout):
    texts = {}
    for name in files:
        with open(os.path.join(pathin, name)) as file:
            texts[name.split("_")[1]] = file.read()
    out = os.path.join(pathout, files[0].split("_")[0] + "_report")
    with open(out, "w") as file:
        json.dump({"words": int(texts["count"]), "longest": texts["longest"]}, file)
    return [out]
''',
}

_README = f"""\
# NAME

Words of a text: cleaned once, looked at from two sides, joined. CONTRACT tasks.

{"    " + _PICTURE.rstrip().replace(chr(10), chr(10) + "    ")}

    jupiter app lint NAME
    jupiter ctl submit NAME --samples --wait --results out

`SAMPLES/` holds two short texts, written for this app and free to use. RESULTS hold:

    {{"words": 24, "longest": "stream"}}          for river.txt
    {{"words": 16, "longest": "neighbours"}}      for mesh.txt
"""

_FOLDERS = {"native": "samples", "command": "samples", "v5": "sample_inputs", "v4": "sample_input"}
_FILES = {"native": _NATIVE, "command": _COMMAND, "v5": _V5, "v4": _V4}
_KINDS = {"native": "Native", "command": "Command", "v5": "Jupiter v5", "v4": "Jupiter v4"}
_RESULTS = {
    "native": "`out/<text>/report/report`",
    "command": "`out/<text>/report/report`",
    "v5": "`out/<text>/report/<text>`",
    "v4": "`out/river/report/river_report` and its like (an item is named by its join key)",
}


def template(contract: str, name: str) -> dict[str, str]:
    """Path inside the app -> text. UsageError for an unknown contract or a name no app can have."""
    if contract not in CONTRACTS:
        raise UsageError(f"unknown contract '{contract}'", f"one of: {', '.join(CONTRACTS)}")
    if not is_item_name(name) or len(name) > 63:
        raise UsageError(f"'{name[:80]}' cannot be an app's name", "a plain word of at most 63 characters, without /")
    folder = _FOLDERS[contract]
    readme = _README.replace("CONTRACT", _KINDS[contract]).replace("SAMPLES", folder)
    files = {**_FILES[contract], "README.md": readme.replace("RESULTS", _RESULTS[contract])}
    for path in ("README.md", "app_config.yaml"):
        if path in files:
            written = json.dumps(name, ensure_ascii=False) if path == "app_config.yaml" else name
            files[path] = files[path].replace("NAME", written)
    return {**files, **{f"{folder}/{item}": text for item, text in _TEXTS.items()}}


def write_app(folder: Path, files: dict[str, str] | dict[str, bytes]) -> None:
    """Write an app's files; shell scripts become executable. UsageError when the folder holds anything."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is there already, and nothing is overwritten", "name a new folder")
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
            if path.endswith(".sh"):
                target.chmod(0o755)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or folder}: {error.strerror}") from error
