"""Real agents that are killed while four jobs run: a native DAG with joins, routers and chance, a timed one, v4, v5.

Between a quarter and three quarters of the items every node is killed (-9) and started again, two at once, links are
cut into halves and between home and its deputy, and a disk is filled. In the end home and a deputy are lost for good:
there are two replicas. What comes out is compared, by item, sink and bytes, with what the same functions give without
a cluster.
"""

from __future__ import annotations

import inspect
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupiter_agent.bench.chaos_field import BACK_S, ChaosField
from jupiter_agent.bench.chaos_times import TIMED, Pauses
from jupiter_agent.core.ids import HOME
from jupiter_agent.errors import JupiterError
from jupiter_agent.sim.chaos import answer
from jupiter_agent.sim.chaos.answer import Violation, merged
from jupiter_agent.sim.chaos.apps import ChaosApp
from jupiter_agent.sim.chaos.scenario import CONSTANT, FILTER, PLAIN, ROUTER, Scenario, Task

NODES = 5
ITEMS, SIDE_ITEMS, TIMED_ITEMS = 36, 8, 120
JOBS = {"native": ITEMS, "v5": SIDE_ITEMS, "v4": SIDE_ITEMS}
CUT_S, FULL_S = 7.0, 3.0
"""Longer than agents wait before they take another for dead; how long a disk is full"""
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
    worker_s: float = 0.0
    """worker killed: from its detection until an item is finished elsewhere"""
    home_s: float = 0.0
    """home killed: from its detection until results flow again"""
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

    def __init__(self, seed: int, say: Callable[[str], None] = lambda line: None) -> None:
        self.rng = random.Random(seed)
        self.app = ChaosApp(scenario(seed))
        self.verdict = Verdict(seed)
        self._killed: set[str] = set()
        self._say = say
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        line = f"{time.monotonic() - self._began:7.2f} {text}"
        self.verdict.log.append(line)
        self._say(line)

    def play(self) -> Verdict:
        with ChaosField(NODES) as self.field:
            self.note(f"{NODES} agents are up")
            jobs = self._submit()
            self._pause_times(jobs["timed"])
            self._disturb(jobs)
            for job in jobs.values():
                self._until(lambda job=job: self.ctl("close", job), "close")  # type: ignore[misc]
            self._end(jobs)
        self.verdict.seconds = time.monotonic() - self._began
        return self.verdict

    # --- apps and items ------------------------------------------------------------------------------------------

    def _submit(self) -> dict[str, str]:
        folder = self.field.folder
        write_native(folder / "native", self.app)
        write_v5(folder / "v5")
        write_v4(folder / "v4")
        write_timed(folder / "timed", self.field.names[1])
        jobs = {}
        for name, count in {**JOBS, "timed": TIMED_ITEMS}.items():
            items = folder / f"in-{name}"
            items.mkdir()
            for k in range(count):
                (items / f"i{k}").write_bytes(f"{name} item {k}".encode())
            args = ["submit", str(folder / name), "--keep-open", "--ep", "off", "--replicas", "2"]
            if name == "timed":
                args += ["--mapping", str(folder / name / "mapping.json"), "--input", str(items)]
            else:
                args += [arg for k in range(count // 4) for arg in ("--input", str(items / f"i{k}"))]
            jobs[name] = self.ctl(*args)["id"]
            self.verdict.items += count
        return jobs

    def _put_rest(self, jobs: dict[str, str], share: float) -> None:
        """Items up to this share of all, at whoever answers; those of the small jobs in two parts."""
        for name, count in JOBS.items():
            if name != "native" and share not in (0.5, 1.0):
                continue
            job, folder = jobs[name], self.field.folder / f"in-{name}"
            paths = [str(folder / f"i{k}") for k in range(int(count * share))]
            self._until(lambda job=job, paths=paths: self.ctl("put", job, *paths), "put")  # type: ignore[misc]

    # --- faults --------------------------------------------------------------------------------------------------

    def _pause_times(self, job: str) -> None:
        """A worker and a home are killed, and watched from outside."""
        pauses = Pauses(self.field, job, self.note)
        self.verdict.worker_s = pauses.worker_s()
        self._killed |= set(self.field.names) - set(self.field.running())
        self._back()
        self.verdict.home_s = pauses.home_s()
        self._killed |= set(self.field.names) - set(self.field.running())
        self._back()
        self.verdict.kills += 2

    def _disturb(self, jobs: dict[str, str]) -> None:
        """Each fault once, each node killed at least once, while the items come in."""
        rest = [name for name in self.field.names if name not in self._killed]
        order = self.rng.sample(rest, len(rest))
        faults: list[Callable[[], None]] = [
            *(lambda name=name: self._kill(name) for name in order[:-2]),
            lambda: self._kill(*order[-2:]),
            self._halves,
            lambda: self._deputy_cut(jobs["native"]),
            self._disk,
        ]
        self.rng.shuffle(faults)
        for step, fault in enumerate(faults, 1):
            self._put_rest(jobs, 0.5 if step == len(faults) // 2 else 0.25 + 0.5 * step / len(faults))
            fault()
        self._lose(jobs["native"], list(jobs.values()))
        self._put_rest(jobs, 1.0)

    def _kill(self, *names: str) -> None:
        away_s = self.rng.choice([0.2, 1.0, 4.0])
        self.note(f"kill -9 {' and '.join(names)}, away for {away_s:g} s")
        self.verdict.kills += len(names)
        self.field.kill(*names)
        time.sleep(away_s)
        self._back()

    def _back(self) -> None:
        """Who does not run and is not lost runs again."""
        down = [name for name in self.field.names if name not in self.field.gone and not self.field.pid(name)]
        self.field.start(*down)
        if down:
            self.note(f"{', '.join(down)} back")

    def _halves(self) -> None:
        side = self.rng.sample(self.field.names, 2)
        self._cut(side, [name for name in self.field.names if name not in side])

    def _cut(self, side: list[str], rest: list[str]) -> None:
        self.note(f"cut {', '.join(side)} off {', '.join(rest)} for {CUT_S:g} s")
        self.field.cut(side, rest)
        time.sleep(CUT_S)
        self.field.heal()

    def _deputy_cut(self, job: str) -> None:
        """The link between home and a deputy is cut; then home is killed."""
        row = self._until(lambda: self.ctl("get", "jobs", job), "get jobs")["items"][0]
        home, deputies = row["home"], row["deputies"]
        self.note(f"cut home {home} off its deputy {deputies[0] if deputies else '(none)'}, then kill it")
        self.field.cut([home], deputies[:1])
        time.sleep(CUT_S / 2)
        self.verdict.kills += 1
        self.field.kill(home)
        time.sleep(1.0)
        self.field.heal()
        self._back()

    def _disk(self) -> None:
        if not self.field.on_small_disk:
            self.note("no disk is filled: that needs root")
            return
        self.note(f"fill the disk of {self.field.on_small_disk} for {FULL_S:g} s")
        with self.field.full_disk():
            time.sleep(FULL_S)
        self._back()

    def _lose(self, job: str, jobs: list[str]) -> None:
        """Home and a deputy are lost for good, at once, when there are two whole copies beside home's."""
        deadline = time.monotonic() + BACK_S
        while True:
            rows = {row["id"]: row for row in self._until(lambda: self.ctl("get", "jobs"), "get jobs")["items"]}
            if all(each in rows and not rows[each]["degraded"] for each in jobs):
                break
            if time.monotonic() > deadline:
                self.verdict.wrong.append(f"degraded for {BACK_S:g} s: {[rows.get(each) for each in jobs]}")
                return
            time.sleep(0.5)
        lost = [rows[job]["home"], rows[job]["deputies"][0]]
        self.note(f"lose home {lost[0]} and its deputy {lost[1]} for good")
        self.verdict.kills += len(lost)
        self.field.lose(*lost)

    # --- asking, patiently -----------------------------------------------------------------------------------------

    def ctl(self, *args: str) -> Any:
        return self.field.ctl(*args)

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

    def _end(self, jobs: dict[str, str]) -> None:
        for name, job in jobs.items():
            try:
                self._until(lambda job=job: self.ctl("wait", job, "--timeout", "60"), "wait")  # type: ignore[misc]
            except JupiterError as error:
                self.note(f"{name}: {error.message}")
            rows = self._until(lambda job=job: self.ctl("get", "items", job), "get items")["items"]  # type: ignore[misc]
            out = self.field.folder / f"out-{name}"
            out.mkdir()
            self._until(lambda job=job, out=out: self.ctl("results", job, "--out", str(out)), "results")  # type: ignore[misc]
            self._judge(name, {row["name"]: row for row in rows}, out)

    def _judge(self, name: str, rows: dict[str, dict[str, Any]], out: Path) -> None:
        verdict = self.verdict
        for path in sorted((self.field.folder / f"in-{name}").iterdir()):
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
            expected = {"a": data} if name == "timed" else {"second": data + b"firstsecond"}
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


def write_timed(folder: Path, host: str) -> None:
    folder.mkdir()
    (folder / "app_config.yaml").write_text(
        "application:\n  tasks:\n    dag_tasks:\n      - {name: a, base_script: timed.py, children: [home]}\n"
    )
    (folder / "timed.py").write_text(TIMED)
    (folder / "mapping.json").write_text(json.dumps({"a": host}))


def play_real(seed: int) -> Verdict:
    return RealChaos(seed, lambda line: print(line, file=sys.stderr, flush=True)).play()
