"""Three tasks that read what they were sent."""

import csv
import json


def process(inputs, ctx):
    text = inputs["route"].decode()
    return json.dumps({"keys": keys, "columns": columns, "words": words}[ctx.task](text)).encode()


def keys(text):
    return sorted(json.loads(text))


def columns(text):
    rows = list(csv.reader(text.splitlines()))
    return {name: len({row[i] for row in rows[1:]}) for i, name in enumerate(rows[0])}


def words(text):
    return len(text.split())
