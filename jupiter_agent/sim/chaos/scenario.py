"""What happens in one simulated chaos run, drawn from a seed: cluster, app, items, faults and traps. Plain data.

The cases are those that were found to matter: joins of two attempts need a branching ancestor that is not
deterministic; restarts quicker than the detector; partitions longer than detector and re-copying; traps, faults
placed a moment after a chosen event, for windows that random moments do not hit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from jupiter_agent.core.ids import HOME

PLAIN, CONSTANT, FILTER, ROUTER = "plain", "constant", "filter", "router"
EVENTS = ("ack", "commit", "finished", "cancelled", "start", "end", "write", "promote", "named")
"""what a trap may wait for"""
FAULT_S = 25.0
"""faults and items come within this time"""


@dataclass(frozen=True)
class Task:
    """`chancy`: another answer every run. `mean_s`: of its exponentially distributed duration."""

    children: tuple[str, ...]
    kind: str = PLAIN
    chancy: bool = False
    mean_s: float = 0.5


@dataclass(frozen=True)
class Fault:
    """`at` seconds after submit; of a trap: from then on, `delay` s after the first `event`. `who`: a node, home, dep.

    crash (disk kept), power (the unsynced tail of the disk is lost), wipe (never back), cut (`nodes` from the rest),
    oneway (`who` hears nothing of `nodes[0]`), loss (half of all frames), blackout (power, everybody), move (`task` to
    `who`), cancel (the second job).
    """

    at: float
    kind: str
    who: str = ""
    seconds: float = 0.0
    nodes: tuple[str, ...] = ()
    task: str = ""
    event: str = ""
    delay: float = 0.0
    silent: bool = False

    def __str__(self) -> str:
        trap = f"{self.delay:g} s after the next '{self.event}', " if self.event else ""
        what = " ".join(filter(None, [self.kind, self.task, self.who, ",".join(self.nodes)]))
        return f"{self.at:.2f}: {trap}{what}" + (f" for {self.seconds:g} s" if self.seconds else "")


@dataclass(frozen=True)
class Scenario:
    """`items`: (when, name). `replicas`: copies beside home's. `large`: outputs that do not travel in messages."""

    seed: int
    nodes: int
    tasks: dict[str, Task]
    items: tuple[tuple[float, str], ...]
    faults: tuple[Fault, ...] = ()
    replicas: int = 1
    mapper: str = "wave-greedy"
    large: bool = False
    max_open: int = 64
    second_job: bool = False
    loss: float = 0.08
    notes: tuple[str, ...] = field(default=())

    def describe(self) -> str:
        dag = "; ".join(
            f"{name}{'*' if task.chancy else ''}:{task.kind}({task.mean_s:g}s)->{','.join(task.children) or HOME}"
            for name, task in self.tasks.items()
        )
        lines = [
            f"seed {self.seed}, {self.nodes} nodes, replicas {self.replicas}, {self.mapper}, max_open {self.max_open}"
            f"{', large' if self.large else ''}{', second job' if self.second_job else ''}",
            f"tasks {dag}",
            "items " + ", ".join(f"{name}@{at:.2f}" for at, name in self.items),
            *(str(fault) for fault in self.faults),
        ]
        return "\n".join(lines)


def draw(seed: int) -> Scenario:
    """The scenario of a seed: the same on every machine."""
    rng = Random(seed * 7919 + 1)
    nodes = rng.randint(3, 6)
    replicas = 2 if nodes > 3 and rng.random() < 0.35 else 1
    tasks = draw_dag(rng)
    items = tuple((round(rng.uniform(0, 20), 2), f"i{k}") for k in range(rng.randint(1, 5)))
    count = rng.choice([0, 1, 2, 3, 4, 5, 7, 9])
    faults = tuple(sorted((_fault(rng, nodes, list(tasks)) for _ in range(count)), key=lambda fault: fault.at))
    return Scenario(
        seed,
        nodes,
        tasks,
        items,
        faults,
        replicas,
        mapper=rng.choice(["heft", "wave-random", "wave-greedy"]),
        large=rng.random() < 0.2,
        max_open=rng.choice([1, 2, 64, 64]),
        second_job=any(fault.kind == "cancel" for fault in faults),
        loss=rng.choice([0.0, 0.02, 0.08]),
    )


def branching(seed: int) -> Scenario:
    """Two paths from a task that answers by chance to a join, constants between, hosts that are lost in the middle.

    What the rules of joins are for: every few seeds notice when one is off.
    """
    rng = Random(seed)
    tasks = {
        "t0": Task(("t1", "t2"), ROUTER, True, 0.3),
        "t1": Task(("t3",), rng.choice([PLAIN, CONSTANT, FILTER]), False, 1.0),
        "t2": Task(("t3", HOME), PLAIN, rng.random() < 0.5, 1.0),
        "t3": Task((), PLAIN, False, 0.5),
    }
    items = tuple((round(rng.uniform(0, 8), 2), f"i{k}") for k in range(6))
    faults = []
    for _ in range(8):
        node, kind = f"node{rng.randint(1, 5)}", rng.choice(["power", "power", "crash", "cut"])
        at, seconds = round(rng.uniform(0.5, 14), 2), rng.choice([0.2, 5.0, 12.0])
        side = (node,) if kind == "cut" else ()
        faults.append(Fault(at, kind, node, seconds, side, silent=rng.random() < 0.5))
    faults.sort(key=lambda fault: fault.at)
    return Scenario(seed, 5, tasks, items, tuple(faults), mapper=rng.choice(["heft", "wave-random"]))


def draw_dag(rng: Random) -> dict[str, Task]:
    """1..7 tasks: chain, fan-out, diamond, or random with joins of 2..4, several entries and edges to home."""
    count, shape = rng.randint(1, 7), rng.choice(["chain", "fan", "diamond", "random", "random", "random"])
    parents: list[list[int]] = []
    for task in range(count):
        if shape == "chain" or task == 0:
            parents.append([task - 1] if task else [])
        elif shape == "fan":
            parents.append([0])
        elif shape == "diamond":
            last = task == count - 1 and count > 2
            parents.append(list(range(max(1, count - 5), task)) if last else [0])
        else:
            parents.append(sorted(rng.sample(range(task), min(task, rng.choice([0, 1, 1, 2, 2, 3, 4])))))
    tasks = {}
    for task in range(count):
        children = [f"t{child}" for child in range(count) if task in parents[child]]
        if children and rng.random() < 0.1:
            children.append(HOME)
        kind = rng.choice([PLAIN, PLAIN, CONSTANT, FILTER, ROUTER])
        tasks[f"t{task}"] = Task(tuple(children), kind, rng.random() < 0.6, rng.choice([0.1, 0.5, 2.0, 5.0]))
    return tasks


_KINDS = [
    *["crash"] * 2,
    *["power"] * 2,
    *["cut"] * 2,
    *["oneway"] * 2,
    *["move"] * 2,
    *["wipe"] * 2,
    *["trap"] * 4,
    "cancel",
    "loss",
    "blackout",
]


def _fault(rng: Random, nodes: int, tasks: list[str]) -> Fault:
    at, kind, silent = round(rng.uniform(0.5, FAULT_S), 2), rng.choice(_KINDS), rng.random() < 0.5
    node = f"node{rng.randint(1, nodes)}"
    if kind == "trap":
        event = rng.choice(EVENTS)
        what = rng.choice(["wipe", "wipe", "crash", "power", "cut", "blackout" if rng.random() < 0.3 else "power"])
        seconds = {"crash": [0.2, 6.0], "power": [0.2, 2.0, 12.0], "cut": [5.0, 12.0], "blackout": [0.5, 3.0]}
        pause = rng.choice(seconds.get(what, [0.0]))
        return Fault(at, what, "", pause, event=event, delay=rng.choice([0, 0.02, 0.1, 0.4]), silent=silent)
    if kind in ("crash", "power"):
        who = rng.choice([node, "home", "home", "dep"])
        return Fault(at, kind, who, rng.choice([0.2, 1.0, 2.0, 6.0, 12.0, 30.0]), silent=silent)
    if kind == "cut":
        side = rng.sample(range(1, nodes + 1), rng.randint(1, nodes - 1))
        apart = tuple(f"node{i}" for i in sorted(side))
        return Fault(at, kind, "", rng.choice([2.0, 5.0, 9.0, 15.0, 25.0]), apart)
    if kind == "oneway":
        who, other = rng.choice([node, "home", "dep"]), rng.choice([f"node{rng.randint(1, nodes)}", "home", "dep"])
        return Fault(at, kind, who, rng.choice([3.0, 8.0]), (other,))
    if kind == "move":
        return Fault(at, kind, node, task=rng.choice(tasks))
    if kind == "wipe":
        return Fault(at, kind, rng.choice([node, "home", "home", "dep"]), silent=silent)
    return Fault(at, kind, "", rng.choice([0.5, 3.0, 8.0]))
