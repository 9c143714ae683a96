"""The join: one description per picture."""

import json


def process(inputs, ctx):
    return json.dumps({"picture": ctx.item, **{name: json.loads(inputs[name]) for name in sorted(inputs)}}).encode()
