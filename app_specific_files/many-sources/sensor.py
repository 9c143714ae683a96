"""An hour of one sensor, as lines `kind,value`: the mean of what is plausible, else nothing."""


def process(inputs, ctx):
    low, high = float(ctx.params["low"]), float(ctx.params["high"])
    rows = (line.split(",") for line in inputs["input"].decode().split())
    values = [float(value) for kind, value in rows if kind == ctx.params["kind"] and low <= float(value) <= high]
    if not values:
        ctx.log.warning("%s: no plausible value for %s", ctx.item, ctx.task)
        return None
    return f"{sum(values) / len(values):.3f}".encode()
