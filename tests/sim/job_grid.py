"""What the simulated jobs need around a Grid: forming it, waiting for a job, finding what is left, faults."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from job_apps import Recipe, check_results, random_app

from jupiter_agent.core.execution import Execution
from jupiter_agent.core.home import Home
from jupiter_agent.core.jobs import Local
from jupiter_agent.core.messages.jobs import Award, Awarded, Register, Registers
from jupiter_agent.core.records import kept as named_by
from jupiter_agent.sim.grid import Grid, SimApp

MAPPERS = ["heft", "wave-random", "wave-greedy", "wave-auction"]


def formed(count: int = 5, seed: int = 1) -> Grid:
    """node1..nodeN, all of whom remember all addresses; profiles are known everywhere."""
    grid = Grid(seed)
    names = [f"node{i + 1}" for i in range(count)]
    for name in names:
        grid.add_peer(name, [other for other in names if other != name])
    assert grid.run_until(lambda: all(len(grid.nodes[n].machine.alive()) == count for n in names), 30.0) is not None
    grid.run(0.5)
    return grid


def local_of(grid: Grid, node: str, job: str) -> Local:
    return grid.nodes[node].machine.jobs.local[job]


def acting(grid: Grid, job: str) -> str:
    """The living node that acts as home; of several, as while a partition lasts, the one of the highest version."""
    homes = [
        (local.home.version, node.seat.name)
        for node in grid.running()
        if (local := node.machine.jobs.local.get(job)) and local.home
    ]
    assert homes, "nobody is home"
    return max(homes)[1]


def home_of(grid: Grid, node: str, job: str) -> Home:
    """The home at this node, or wherever it has gone."""
    local = grid.nodes[node].machine.jobs.local.get(job) if grid.nodes[node].running else None
    home = local.home if local and local.home else local_of(grid, acting(grid, job), job).home
    assert home is not None
    return home


def has_home(grid: Grid, job: str) -> bool:
    running = (node.machine.jobs.local.get(job) for node in grid.running())
    return any(local and local.home for local in running)


def finish(grid: Grid, node: str, job: str, seconds: float = 60.0) -> str:
    """Run until the job's home says that it is over; its state then."""
    took = grid.run_until(lambda: has_home(grid, job) and bool(home_of(grid, node, job).job.over), seconds)
    items = {item.name: item.state for item in home_of(grid, node, job).items.values()}
    assert took is not None, f"not over after {seconds} s: {items}, {mapping(grid, node, job)}"
    return home_of(grid, node, job).job.over


def mapping(grid: Grid, node: str, job: str) -> dict[str, str]:
    """task -> node name, as this node knows it, or home in its place."""
    known = grid.nodes[node].machine.jobs.local.get(job) if grid.nodes[node].running else None
    job_there = known.job if known else home_of(grid, node, job).job
    name = next(each.machine.name for each in grid.running())
    return {task: name(register.node) for task, register in job_there.registers.items()}


def verify(grid: Grid, node: str, job: str, recipe: Recipe, items: dict[str, bytes]) -> None:
    """Every item came out, once, with the results of one direct evaluation."""
    results = grid.results(node, job)
    assert sorted(results) == sorted(items)
    for name, data in items.items():
        check_results(recipe, data, results[name])


def refused(grid: Grid, node: str, verb: str, seconds: float = 30.0, **args: Any) -> tuple[int, str, str]:
    """Ask for something that is refused: (exit code, error, hint)."""
    seq = grid.call(node, verb, **args)
    assert grid.run_until(lambda: seq in grid.answers, seconds, every_s=0.05) is not None, f"{node} does not answer"
    answer = grid.answers[seq]
    assert answer.exit_code != 0, answer.body
    return answer.exit_code, answer.error, answer.hint


def put(grid: Grid, node: str, job: str, name: str, data: bytes, **args: Any) -> dict[str, Any]:
    body: dict[str, Any] = grid.ask(node, "put", job=job, inputs=[grid.upload(node, name, data)], **args)
    return body


def told_by(grid: Grid, node: str, job: str) -> list[Register]:
    """Every register that a node sent to another one."""
    told = []
    for _, name, send in grid.sent:
        if name == node and isinstance(send.message, Award | Registers) and send.dst != grid.id(node):
            told += send.message.registers
    return told


def first(grid: Grid, kind: type, seconds: float = 5.0) -> None:
    """Run until the first message of a kind is sent."""
    began = len(grid.sent)
    seen = grid.run_until(lambda: any(isinstance(s.message, kind) for _, _, s in grid.sent[began:]), seconds, 0.0005)
    assert seen is not None


def crash_after_awards(grid: Grid, node: str) -> None:
    """kill -9, as soon as the first host of an entry task has its award."""
    first(grid, Awarded)
    grid.crash(node)


# --- what is left behind -----------------------------------------------------------------------------------------


def left_behind(grid: Grid) -> list[str]:
    """What any living node still keeps although every job is over, results at home excepted."""
    found = []
    for node in grid.running():
        peer, name = node.machine, node.seat.name
        results = {
            obj.sha256 for s in peer.jobs.succession.shelves.values() for i in s.items.values() for obj in named_by(i)
        }
        for local in peer.jobs.local.values():
            if local.home is None:
                found.append(f"{name} takes part in a job that is over")
            else:
                results |= {obj.sha256 for item in local.home.items.values() for _, obj in item.results}
            if kept := _kept(local.execution):
                found.append(f"{name} keeps {kept}")
        transfers = peer.transfers
        if set(transfers._users) - results or transfers._fetches:
            found.append(f"{name} has objects that nobody needs")
        if peer.queue.committed() or peer.queue._lanes:
            found.append(f"{name} has attempts")
    return found


def _kept(execution: Execution) -> set[str]:
    joins = [*execution._joins.values(), execution.home_join]
    items = {item for join in joins for item in join.items()} | execution.outbox.items() | set(execution._numbers)
    attempts = {attempt.item for attempt in execution._fetching} | {a.item for _, a in execution._retries}
    return items | attempts | set(execution.letters.failures)


# --- faults ------------------------------------------------------------------------------------------------------


class Faults:
    """Crashes, restarts, partitions and loss at random moments; `log` says which, `gone` who never comes back."""

    def __init__(self, grid: Grid, rng: Random, home: str) -> None:
        self.grid, self.rng, self.home = grid, rng, home
        self.log: list[tuple[float, str, object]] = []
        self.gone: set[str] = set()

    def plan(self, within_s: float) -> None:
        kinds = [self.quick, self.quick, self.slow, self.lost, self.cut, self.loss]
        for _ in range(self.rng.randrange(1, 5)):
            self.grid.network.after(self.rng.uniform(0, within_s), self.rng.choice(kinds))

    def living(self) -> list[str]:
        return [node.seat.name for node in self.grid.running()]

    def quick(self) -> None:
        """Back before anybody can have noticed, with its memory lost."""
        self._restart("quick", "closed", self.rng.uniform(0.05, 0.6))

    def slow(self) -> None:
        self._restart("slow", self.rng.choice(["closed", "silent"]), self.rng.uniform(2, 9))

    def lost(self) -> None:
        """Never the home: its stand-ins are another matter."""
        others = [name for name in self.living() if name != self.home]
        if len(others) > 2:
            name = self.rng.choice(others)
            self.gone.add(name)
            self._note("lost", name)
            self.grid.crash(name, self.rng.choice(["closed", "silent"]))

    def cut(self) -> None:
        side = [name for name in self.grid.nodes if self.rng.random() < 0.5]
        self._note("cut", side)
        self.grid.partition(side, [name for name in self.grid.nodes if name not in side])
        self.grid.network.after(self.rng.uniform(1, 8), self.grid.heal)

    def loss(self) -> None:
        self._note("loss", 0.1)
        self._lose(0.1)
        self.grid.network.after(4.0, lambda: self._lose(0.0))

    def end(self) -> None:
        """Everything works again, and all but the lost are back."""
        self.grid.heal()
        self._lose(0.0)
        for name, node in self.grid.nodes.items():
            if not node.running and name not in self.gone:
                self.grid.start(name)

    def _lose(self, share: float) -> None:
        self.grid.network.loss = share

    def _note(self, kind: str, what: object) -> None:
        self.log.append((round(self.grid.now, 2), kind, what))

    def _restart(self, kind: str, how: str, pause_s: float) -> None:
        if len(living := self.living()) > 1:
            name = self.rng.choice(living)
            self._note(kind, name)
            self.grid.crash(name, how)
            node = self.grid.nodes[name]
            self.grid.network.after(pause_s, lambda: None if node.running else self.grid.start(name))


def put_until_taken(grid: Grid, node: str, job: str, name: str, data: bytes) -> None:
    """As a patient user does: the same bytes twice are ignored."""
    for _ in range(8):
        seq = grid.call(node, "put", job=job, inputs=[grid.upload(node, name, data)])
        grid.run_until(lambda seq=seq: seq in grid.answers, 20.0)  # type: ignore[misc]
        if seq in grid.answers and grid.answers[seq].exit_code == 0:
            return
        grid.run(1.0)
    raise AssertionError(f"{name} is not taken in: {grid.answers.get(seq)}")


def survive(seed: int, make_app: Callable[..., tuple[SimApp, Recipe]] = random_app) -> Faults:
    """A random job under random faults: safety always, and by a deadline everything out, right, and forgotten."""
    rng = Random(seed)
    grid = formed(rng.randrange(4, 7), seed)
    size, most = rng.choice([0, 0, 100_000, 300_000]), rng.choice([2, 64])
    app, recipe = make_app(rng, chance=rng.choice([0, 0.5]), pace=0.3, size=size, max_open=most)
    home = rng.choice(list(grid.nodes))
    items = {f"early{i}": b"early%d" % i + bytes(rng.choice([0, 100_000])) for i in range(rng.randrange(1, 6))}
    job = grid.submit(home, app, items, mapper=rng.choice(MAPPERS), keep_open=True)["id"]
    faults = Faults(grid, rng, home)
    faults.plan(within_s=6.0)
    late = {f"late{i}": b"late%d" % i + bytes(rng.choice([0, 100_000])) for i in range(rng.randrange(4))}
    for name, data in late.items():
        grid.run(rng.uniform(0, 1.5))
        if living := faults.living():
            at = rng.choice(living)
            grid.call(at, "put", job=job, inputs=[grid.upload(at, name, data)])
    grid.run(12.0)
    faults.end()
    grid.run(6.0)
    for name, data in late.items():
        put_until_taken(grid, rng.choice(faults.living()), job, name, data)
    grid.ask(home, "close", job=job)
    assert finish(grid, home, job) == "completed", faults.log
    verify(grid, home, job, recipe, items | late)
    grid.run(25.0)
    assert left_behind(grid) == [], faults.log
    return faults
