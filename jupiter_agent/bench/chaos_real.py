"""Real agents that are killed while three jobs run: one native DAG with joins, routers and chance, one v4, one v5.

Between a quarter and three quarters of the items every node is killed in turn (-9) and started again, two at once
where copies allow it, and some are stopped for a while as a cut link would. What comes out is compared, by item, sink
and bytes, with what the same functions give without a cluster.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupiter_agent.bench.cluster import BenchCluster
from jupiter_agent.core.ids import HOME
from jupiter_agent.errors import JupiterError
from jupiter_agent.sim.chaos import answer
from jupiter_agent.sim.chaos.answer import Violation, merged
from jupiter_agent.sim.chaos.apps import ChaosApp
from jupiter_agent.sim.chaos.scenario import CONSTANT, FILTER, PLAIN, ROUTER, Scenario, Task

NODES = 5
ITEMS, SIDE_ITEMS = 48, 12
NONCES = 8
"""answers that a task by chance may give"""
LIMIT_S = 150.0

STEP = """
import json, os, random, time
from answer import answer

RECIPE = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "recipe.json")))

def process(inputs, ctx):
    kind, chancy, mean_s, edges = RECIPE[ctx.task]
    time.sleep(min(random.expovariate(1 / mean_s), 10 * mean_s))
    return answer(ctx.task, kind, edges, inputs, random.SystemRandom().randrange(1, %d) if chancy else 0)
"""

V5 = """
import os, time

def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        data = open(os.path.join(pathin, name), "rb").read()
        base = name.split("_", 2)[2]
        time.sleep(0.02)
        child = "second" if task_name == "first" else "home"
        with open(os.path.join(pathout, f"{task_name}_{child}_{base}"), "wb") as out:
            out.write(data + task_name.encode())
        q.task_done()
"""

V4 = """
import os, time

def task(onefile, pathin, pathout):
    data = open(os.path.join(pathin, onefile), "rb").read()
    time.sleep(0.02)
    path = os.path.join(pathout, onefile)
    with open(path, "wb") as out:
        out.write(data + os.environ["TASK"].encode())
    return [path]
"""


@dataclass
class Verdict:
    """Of one seed. `log`: what was done to whom when."""

    seed: int
    items: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)

    @property
    def bad(self) -> list[str]:
        return [*self.lost, *self.twice, *self.wrong]


def scenario(seed: int) -> Scenario:
    """A DAG with joins of two to four, a router and a filter, and some tasks that answer by chance."""
    rng = random.Random(seed)
    chancy = {name: rng.random() < 0.5 for name in ("in", "a", "b", "c", "d", "two", "all")} | {"in": True}
    pace = {name: rng.choice([0.02, 0.05, 0.1]) for name in chancy}
    shape: dict[str, tuple[tuple[str, ...], str]] = {
        "in": (("a", "b", "c", "d"), ROUTER),
        "a": (("two", "all"), rng.choice([PLAIN, FILTER])),
        "b": (("two", "all"), PLAIN),
        "c": (("all",), rng.choice([PLAIN, CONSTANT])),
        "d": (("all", HOME), rng.choice([PLAIN, ROUTER])),
        "two": ((), PLAIN),
        "all": ((), PLAIN),
    }
    tasks = {name: Task(children, kind, chancy[name], pace[name]) for name, (children, kind) in shape.items()}
    return Scenario(seed, NODES, tasks, tuple((0.0, f"i{k}") for k in range(ITEMS)))


class RealChaos:
    """One seed on a fresh cluster in a temporary folder."""

    def __init__(self, seed: int, lose_home: bool, say: Callable[[str], None] = lambda line: None) -> None:
        self.rng = random.Random(seed)
        self.app = ChaosApp(scenario(seed))
        self.verdict = Verdict(seed)
        self.lose_home = lose_home
        self._say = say
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        line = f"{time.monotonic() - self._began:7.2f} {text}"
        self.verdict.log.append(line)
        self._say(line)

    def play(self) -> Verdict:
        with BenchCluster(NODES) as self.cluster:
            self._began = time.monotonic()
            jobs = self._submit()
            self._disturb(jobs)
            for job in jobs:
                self._until(lambda job=job: self.ctl("close", job), "close")  # type: ignore[misc]
            self._end(jobs)
        self.verdict.seconds = time.monotonic() - self._began
        return self.verdict

    # --- apps and items ------------------------------------------------------------------------------------------

    def _submit(self) -> list[str]:
        folder = self.cluster.folder
        write_native(folder / "native", self.app)
        write_v5(folder / "v5")
        write_v4(folder / "v4")
        jobs = []
        for name, count in (("native", ITEMS), ("v5", SIDE_ITEMS), ("v4", SIDE_ITEMS)):
            items = folder / f"in-{name}"
            items.mkdir()
            for k in range(count):
                (items / f"i{k}").write_bytes(f"{name} item {k}".encode())
            first = [arg for k in range(count // 4) for arg in ("--input", str(items / f"i{k}"))]
            args = ["submit", str(folder / name), "--keep-open", "--ep", "off", *first]
            jobs.append(self.ctl(*args)["id"])
            self.verdict.items += count
        return jobs

    def _put_rest(self, jobs: list[str], share: float) -> None:
        """Items up to this share of all, at whoever answers."""
        for job, name, count in zip(jobs, ("native", "v5", "v4"), (ITEMS, SIDE_ITEMS, SIDE_ITEMS), strict=True):
            paths = [str(self.cluster.folder / f"in-{name}" / f"i{k}") for k in range(int(count * share))]
            self._until(lambda job=job, paths=paths: self.ctl("put", job, *paths), "put")  # type: ignore[misc]

    # --- faults --------------------------------------------------------------------------------------------------

    def _disturb(self, jobs: list[str]) -> None:
        """Each node in turn, while the items come in."""
        agents = {row["name"]: row for row in self.cluster.agents()}
        order = self.rng.sample(sorted(agents), len(agents))
        for step, name in enumerate(order):
            self._put_rest(jobs, 0.25 + 0.75 * (step + 1) / len(order))
            time.sleep(self.rng.uniform(0.0, 1.0))
            if self.rng.random() < 0.3:
                self._pause(self.rng.choice([other for other in order if other != name]))
            self._kill(name, self.rng.choice([0.2, 1.0, 4.0, 8.0]))
        self._put_rest(jobs, 1.0)

    def _kill(self, name: str, away_s: float) -> None:
        self.note(f"kill -9 {name}, away for {away_s:g} s")
        self.verdict.kills += 1
        self.cluster.jupiter("local", "kill", name, "--dir", str(self.cluster.dir))
        time.sleep(away_s)
        self.cluster.jupiter("local", "start", name, "--dir", str(self.cluster.dir))
        self.note(f"{name} is back")

    def _pause(self, name: str) -> None:
        """As if its links were cut: it says nothing, and its port stays open."""
        pid = next((row["pid"] for row in self.cluster.agents() if row["name"] == name), None)
        if pid:
            self.note(f"stop {name} for 3 s")
            os.kill(pid, signal.SIGSTOP)
            time.sleep(3.0)
            os.kill(pid, signal.SIGCONT)

    # --- asking, patiently -----------------------------------------------------------------------------------------

    def ctl(self, *args: str) -> Any:
        return self.cluster.ctl(*args)

    def _until(self, ask: Callable[[], Any], what: str) -> Any:
        """Repeat a call until it is answered: agents are down, or just come back."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                return ask()
            except JupiterError as error:
                if time.monotonic() > deadline:
                    raise JupiterError(f"{what} was not answered within {LIMIT_S:g} s: {error.message}") from None
                time.sleep(0.5)

    # --- the end -------------------------------------------------------------------------------------------------

    def _end(self, jobs: list[str]) -> None:
        for job, name in zip(jobs, ("native", "v5", "v4"), strict=True):
            try:
                self._until(lambda job=job: self.ctl("wait", job, "--timeout", "60"), "wait")  # type: ignore[misc]
            except JupiterError as error:
                self.note(f"{name}: {error.message}")
            rows = self._until(lambda job=job: self.ctl("get", "items", job), "get items")["items"]  # type: ignore[misc]
            out = self.cluster.folder / f"out-{name}"
            out.mkdir()
            self._until(lambda job=job, out=out: self.ctl("results", job, "--out", str(out)), "results")  # type: ignore[misc]
            self._judge(name, {row["name"]: row for row in rows}, out)

    def _judge(self, name: str, rows: dict[str, dict[str, Any]], out: Path) -> None:
        verdict = self.verdict
        for path in sorted((self.cluster.folder / f"in-{name}").iterdir()):
            item, row = f"{name}/{path.name}", rows.get(path.name)
            if row is None or row["state"] != "done":
                verdict.lost.append(f"{item}: {row or 'unknown'}")
                continue
            sinks = [(result["sink"], result["name"]) for result in row["results"]]
            if len(sinks) != len(set(sinks)):
                verdict.twice.append(f"{item}: {sinks}")
            found = [file for file in sorted((out / path.name).rglob("*")) if file.is_file()]
            files = {file.parent.name: file.read_bytes() for file in found}
            if problem := self._compared(name, path, files):
                verdict.wrong.append(f"{item}: {problem}")

    def _compared(self, name: str, path: Path, files: dict[str, bytes]) -> str:
        """'' when the files by sink are what an item must give."""
        data = path.read_bytes()
        if name != "native":
            expected = {"second": data + b"firstsecond"}
            return "" if files == expected else f"{files} instead of {expected}"
        for task in self.app.tasks:
            self.app.drawn[name, path.name, task] = list(range(1, NONCES))
        try:
            merged(f"results of {path.name}", list(files.values()))
        except Violation as violation:
            return str(violation)
        return "" if self.app.explains((name, path.name), data, files) else f"no evaluation gives {sorted(files)}"


def write_native(folder: Path, app: ChaosApp) -> None:
    folder.mkdir()
    lines = ["application:", "  tasks:", "    dag_tasks:"]
    for name in app.tasks:
        children = ", ".join(app.dag.out_edges(name))
        lines.append(f"      - {{name: {name}, base_script: step.py, children: [{children}]}}")
    (folder / "app_config.yaml").write_text("\n".join(lines) + "\n")
    (folder / "step.py").write_text(STEP % NONCES)
    (folder / "answer.py").write_text(inspect.getsource(answer))
    recipe = {n: (t.kind, t.chancy, t.mean_s, app.dag.out_edges(n)) for n, t in app.tasks.items()}
    (folder / "recipe.json").write_text(json.dumps(recipe))


def write_v5(folder: Path) -> None:
    folder.mkdir()
    (folder / "app_config.yaml").write_text(
        "application:\n  tasks:\n    dag_tasks:\n"
        "      - {name: first, base_script: step5.py, children: [second]}\n"
        "      - {name: second, base_script: step5.py, children: [home]}\n"
    )
    (folder / "step5.py").write_text(V5)


def write_v4(folder: Path) -> None:
    (folder / "scripts").mkdir(parents=True)
    (folder / "configuration.txt").write_text("2\nfirst 1 true second\nsecond 1 true home\n")
    table = {"taskname_map": {"first": ["step4", True], "second": ["step4", True]}}
    (folder / "scripts" / "config.json").write_text(json.dumps(table))
    (folder / "scripts" / "step4.py").write_text(V4)


def play_real(seed: int, lose_home: bool = False) -> Verdict:
    return RealChaos(seed, lose_home, lambda line: print(line, file=sys.stderr, flush=True)).play()
