"""One site: its orders, `name amount` a line, to their sum for the balance and a receipt for the second home."""


def process(inputs, ctx):
    orders = [line.split() for line in inputs["input"].decode().splitlines() if line.strip()]
    total = sum(int(amount) for _, amount in orders)
    receipt = "".join(f"{name}: {amount} paid at {ctx.task}\n" for name, amount in orders)
    return {"balance": f"{ctx.task} {total}\n".encode(), "home2": receipt.encode()}
