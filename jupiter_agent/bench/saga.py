"""SAGA's HEFT (PyPI anrg-saga) beside ours, on the same problem in the same run.

SAGA is no dependency: its licence is non-commercial. It is installed once, on demand, into an environment of the bench
in the user's cache folder and runs there. Without it (no network) the row fails and says so.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from jupiter_agent.bench import Figure
from jupiter_agent.bench.apart import environment, interpreter, say

SAGA = "anrg-saga"
NEEDS = ("numpy", "networkx", "pydantic")
"""of what SAGA lists, what its HEFT imports"""
LIMIT_S = 600.0
LEAST = 150.0
NAME = "heft beside SAGA's HeftScheduler, 106 nodes, 200 tasks, CPU"

SCRIPT = """
import json, sys, time, types
from pathlib import Path
import saga
package = types.ModuleType("saga.schedulers")  # its own __init__ imports solvers that HEFT has no use for
package.__path__ = [str(Path(saga.__file__).parent / "schedulers")]
sys.modules["saga.schedulers"] = package
from saga import Network, TaskGraph
from saga.schedulers.cpop import upward_rank
from saga.schedulers.heft import HeftScheduler

given = json.load(sys.stdin)
name = "t{:04}".format
network = Network.create(
    [(f"n{n:04}", 1 / s) for n, s in enumerate(given["slowness"])],
    [(f"n{a:04}", f"n{b:04}", r) for a, b, r in given["rates"]],
)
tasks = TaskGraph.create(
    [(name(t), c) for t, c in enumerate(given["costs"])], [(name(u), name(v), d) for u, v, d in given["edges"]]
)
best = float("inf")
for _ in range(given["repeats"]):
    upward_rank.cache_clear()
    began = time.process_time()
    made = HeftScheduler().schedule(network, tasks)
    best = min(best, time.process_time() - began)
print(json.dumps([best, made.makespan]))
"""


def beside_saga(cpu_s: Callable[[Callable[[], object]], float]) -> Figure:
    """How many times the CPU time of our HEFT SAGA's takes: related machines, symmetric links, as it needs them."""
    import numpy as np

    from schedulers import Problem, schedule
    from schedulers.generate import layered

    python = interpreter("saga", "saga, numpy, networkx, pydantic", [["--no-deps", SAGA], NEEDS])
    if python is None:
        return Figure(f"{NAME}: SAGA IS NOT AVAILABLE", 0.0, "x", LEAST, at_least=True)
    drawn = layered(200, 106, 1)
    rng = np.random.default_rng(1)
    costs, slowness = rng.uniform(0.5, 1.5, 200), 1 / rng.uniform(0.5, 2.0, 106)
    inv_rate = (drawn.inv_rate + drawn.inv_rate.T) / 2
    p = Problem(costs[:, None] * slowness, drawn.edges, np.zeros((106, 106)), inv_rate)
    rates = [(a, b, 1 / float(inv_rate[a, b])) for a in range(106) for b in range(a)]
    given = {"costs": costs.tolist(), "slowness": slowness.tolist(), "rates": rates, "edges": p.edges, "repeats": 3}
    done = subprocess.run(
        [str(python), "-c", SCRIPT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env=environment(),
    )
    if done.returncode:
        say(f"SAGA failed: {done.stderr.strip().splitlines()[-1:]}")
        return Figure(f"{NAME}: SAGA FAILED", 0.0, "x", LEAST, at_least=True)
    seconds, makespan = json.loads(done.stdout.splitlines()[-1])
    ours = cpu_s(lambda: schedule("heft", p))
    say(f"SAGA {seconds:.3f} s for makespan {makespan:.4f}, heft {ours:.5f} s for {schedule('heft', p).makespan:.4f}")
    return Figure(NAME, seconds / ours, "x", LEAST, at_least=True)
