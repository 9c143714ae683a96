"""The join by item name: where both sensors have something for an hour, the dew point (Magnus formula, over water)."""

import json
import math

A, B = 17.62, 243.12


def process(inputs, ctx):
    if len(inputs) < 2:
        return json.dumps({"missing": "hygro" if "thermo" in inputs else "thermo"}).encode()
    celsius, percent = float(inputs["thermo"]), float(inputs["hygro"])
    gamma = math.log(percent / 100) + A * celsius / (B + celsius)
    return json.dumps({"celsius": celsius, "percent": percent, "dew": round(B * gamma / (A - gamma), 2)}).encode()
