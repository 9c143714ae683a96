"""The router: a dict names the children that get something. Who is not named learns so and does not wait."""

import json


def process(inputs, ctx):
    data = inputs["input"]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        ctx.log.info("%s is no text: nobody gets it", ctx.item)
        return None
    chosen = [child for child, fits in (("keys", is_json), ("columns", is_table), ("words", is_prose)) if fits(text)]
    ctx.log.info("%s goes to %s", ctx.item, chosen)
    return dict.fromkeys(chosen, data)


def is_json(text):
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def is_table(text):
    commas = {line.count(",") for line in text.splitlines()}
    return len(commas) == 1 and commas != {0} and text.count("\n") > 1


def is_prose(text):
    return sum(char.isalpha() or char == " " for char in text) > 0.75 * len(text)
