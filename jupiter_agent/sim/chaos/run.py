"""One seed: form the cluster, submit, let faults fall, heal, wait until all is quiet, judge. And shrink a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from jupiter_agent.core.ids import HOME
from jupiter_agent.sim.chaos.answer import Violation, merged
from jupiter_agent.sim.chaos.apps import ChaosApp
from jupiter_agent.sim.chaos.oracle import home_of, objects_left, results_of, unsettled
from jupiter_agent.sim.chaos.scenario import Scenario, Task, draw
from jupiter_agent.sim.chaos.world import ChaosWorld

QUIET_S = 90.0
"""after the last fault everything is as it should be within this time"""
AFTER_S = 32.0
AGAIN_S = 1.5
"""how often a client repeats what was not acknowledged"""


@dataclass
class Outcome:
    """`failure`: '' or its class and text. `runs`: attempts started; `items`: acknowledged ones."""

    seed: int
    failure: str = ""
    items: int = 0
    runs: int = 0
    settled_s: float = 0.0
    log: list[str] = field(default_factory=list)
    story: str = ""

    @property
    def kind(self) -> str:
        return self.failure.partition(":")[0]


class ChaosRun:
    """A scenario on its way."""

    def __init__(self, scenario: Scenario, mortal_home: bool) -> None:
        self.scenario = scenario
        self.world = ChaosWorld(scenario.seed, mortal_home, scenario.replicas)
        self.app = ChaosApp(scenario)
        self.acked: dict[str, dict[str, bytes]] = {}
        """job -> acknowledged items"""
        self.cancelled: set[str] = set()
        """jobs whose cancel was acknowledged"""
        self._outstanding: set[tuple[str, str]] = set()
        self.world.on_cancel = self._cancel

    def play(self) -> Outcome:
        scenario, world = self.scenario, self.world
        outcome = Outcome(scenario.seed, log=world.log)
        try:
            self._begin()
            end = max([fault.at for fault in scenario.faults] + [at for at, _ in scenario.items], default=0.0)
            world.run(end + (AFTER_S if scenario.faults else 0.0))
            world.end_faults()
            outcome.settled_s = self._settle()
            self._judge()
            self._close()
        except Violation as violation:
            outcome.failure = str(violation)
        except AssertionError as broken:  # an invariant of a machine, or the grid's own
            outcome.failure = f"broken: {broken!r}"
        outcome.items = sum(map(len, self.acked.values()))
        outcome.runs = len(world.starts)
        return outcome

    def _begin(self) -> None:
        scenario, world = self.scenario, self.world
        names = [f"node{i + 1}" for i in range(scenario.nodes)]
        for name in names:
            world.add_peer(name, [other for other in names if other != name])
        took = world.run_until(lambda: all(len(world.nodes[n].machine.alive()) == len(names) for n in names), 30.0)
        assert took is not None, "the cluster did not form"
        world.run(0.5)
        world.poll()
        self._submit(world.chance.choice(names))
        if scenario.second_job:
            self._submit(world.chance.choice(names))
            for k in range(2):
                self._put(world.jobs[1], f"second{k}")
        network = world.network
        network.loss, network.duplicate, network.reorder = scenario.loss, 0.07, 0.1 if scenario.loss else 0.0
        for at, name in scenario.items:
            world.network.after(at, lambda name=name: self._put(world.jobs[0], name))  # type: ignore[misc]
        for fault in scenario.faults:
            if fault.event:
                world.traps.append(replace(fault, at=fault.at + world.now))
            else:
                world.network.after(fault.at, lambda fault=fault: world.strike(fault))  # type: ignore[misc]

    def _submit(self, home: str) -> None:
        app, world = self.app, self.world
        args: dict[str, Any] = {"mapper": self.scenario.mapper, "keep_open": True, "seed": self.scenario.seed}
        args["replicas"] = self.scenario.replicas
        job = world.submit(home, app.sim, {}, **args)["id"]
        world.jobs.append(job)
        world.chaos_apps[job] = app
        self.acked[job] = {}

    # --- the client: patient, and at any node ------------------------------------------------------------------------

    def _patient(self, done: Callable[[], bool], ask: Callable[[str], int], on_yes: Callable[[str], None]) -> None:
        """Ask some running node again and again until one says yes."""
        world = self.world
        asked: list[tuple[int, str]] = []

        def look() -> None:
            for seq, node in asked:
                if not done() and seq in world.answers and world.answers[seq].exit_code == 0:
                    on_yes(node)

        def again() -> None:
            look()
            if done():
                return
            if running := [node.seat.name for node in world.running()]:
                node = world.chance.choice(running)
                asked.append((ask(node), node))
            for pause in (0.05, 0.2, 0.5, 1.0):
                world.network.after(pause, look)
            world.network.after(AGAIN_S, again)

        again()

    def _put(self, job: str, name: str) -> None:
        data, world = self._bytes(name), self.world

        def ask(node: str) -> int:
            return world.call(node, "put", job=job, inputs=[world.upload(node, name, data)])

        def on_yes(node: str) -> None:
            world.note(f"{name} is acknowledged")
            self._outstanding.discard((job, name))
            self.acked[job][name] = data
            world.event("ack", (world.homes(job) or [node])[0])

        self._outstanding.add((job, name))
        self._patient(lambda: (job, name) not in self._outstanding or job in self.cancelled, ask, on_yes)

    def _bytes(self, name: str) -> bytes:
        return f"bytes of {name}".encode().ljust(100_000 if self.scenario.large else 0)

    def _cancel(self) -> None:
        world, job = self.world, self.world.jobs[-1]
        if len(world.jobs) < 2 or job in self.cancelled:
            return

        def on_yes(node: str) -> None:
            world.note(f"cancel of {job} is acknowledged")
            self.cancelled.add(job)
            self._outstanding = {each for each in self._outstanding if each[0] != job}
            world.event("cancelled", (world.homes(job) or [node])[0])

        self._patient(lambda: job in self.cancelled, lambda node: world.call(node, "cancel", job=job), on_yes)

    # --- the end -------------------------------------------------------------------------------------------------

    def _settle(self) -> float:
        """Run until nothing is open; the seconds it took. Violation when it takes too long."""
        world, began = self.world, self.world.now
        while True:
            world.run(1.0)
            why = self._unsettled()
            if not why:
                return world.now - began
            if world.now - began > QUIET_S:
                raise Violation(why)

    def _unsettled(self) -> str:
        if self._outstanding:
            return f"stuck: not acknowledged: {sorted(name for _, name in self._outstanding)}"
        whys = (unsettled(self.world, job, self.acked[job], job in self.cancelled) for job in self.world.jobs)
        return next(filter(None, whys), "")

    def _judge(self) -> None:
        """The results of every item are whole, and those of one evaluation."""
        world = self.world
        for job in world.jobs:
            for name, data in self._finished(job):
                results = results_of(world, job, name)
                if results is None:
                    raise Violation(f"lost: results of {name} are not at home")
                merged(f"results of {name}", list(results.values()))
                if not world.chaos_apps[job].explains((job, name), data, results):
                    raise Violation(f"mixed: no evaluation gives what {name} gave: {sorted(results)}")

    def _finished(self, job: str) -> list[tuple[str, bytes]]:
        """Acknowledged items but for dead letters (`unsettled` judges those)."""
        if job in self.cancelled:
            return []
        items = home_of(self.world, job).items
        return [(name, data) for name, data in self.acked[job].items() if items[name].state != "failed"]

    def _close(self) -> None:
        """Intake closes, every job ends, and nothing of it is left on any node."""
        world = self.world
        for job in world.jobs:
            if job not in self.cancelled:
                world.ask(world.homes(job)[0], "close", job=job)
        world.run(25.0)
        for job in world.jobs:
            homes = [local for _, local in world.locals(job) if local.home]
            letters = any(item.state == "failed" for item in home_of(world, job).items.values())
            wanted = "cancelled" if job in self.cancelled else "failed" if letters else "completed"
            if [local.job.over for local in homes if local.job.home.writer == local.home._around.me] != [wanted]:  # type: ignore[union-attr]
                raise Violation(f"end: {job} is {[local.job.over for local in homes]}, not {wanted}")
            if others := [name for name, local in world.locals(job) if local.home is None and not local.job.over]:
                raise Violation(f"leak: {others} take part in {job}, which is over")
        if left := objects_left(world):
            raise Violation(left)


def play(scenario: Scenario, mortal_home: bool) -> Outcome:
    outcome = ChaosRun(scenario, mortal_home).play()
    outcome.story = scenario.describe()
    return outcome


def play_seed(seed: int, mortal_home: bool) -> Outcome:
    return play(draw(seed), mortal_home)


# --- shrinking -------------------------------------------------------------------------------------------------------


def shrink(scenario: Scenario, mortal_home: bool) -> Outcome:
    """The smallest scenario found that fails in the same way: fewer faults, items, tasks; no loss."""
    best = play(scenario, mortal_home)
    kind, improved = best.kind, True
    while improved:
        improved = False
        for smaller in _smaller(scenario):
            for seed in (scenario.seed, scenario.seed + 1_000_003):
                outcome = play(replace(smaller, seed=seed), mortal_home)
                if outcome.kind == kind:
                    scenario, best, improved = replace(smaller, seed=seed), outcome, True
                    break
            if improved:
                break
    return best


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    for position in range(len(scenario.faults) - 1, -1, -1):
        yield replace(scenario, faults=_without(scenario.faults, position))
    for position in range(len(scenario.items) - 1, -1, -1):
        if len(scenario.items) > 1:
            yield replace(scenario, items=_without(scenario.items, position))
    if scenario.loss:
        yield replace(scenario, loss=0.0)
    if scenario.large:
        yield replace(scenario, large=False)
    if scenario.second_job and not any(fault.kind == "cancel" for fault in scenario.faults):
        yield replace(scenario, second_job=False)
    if len(scenario.tasks) > 1:
        last = list(scenario.tasks)[-1]
        tasks = {name: _childless(task, last) for name, task in scenario.tasks.items() if name != last}
        faults = tuple(fault for fault in scenario.faults if fault.task != last)
        yield replace(scenario, tasks=tasks, faults=faults)


def _childless(task: Task, gone: str) -> Task:
    children = tuple(child for child in task.children if child != gone)
    return replace(task, children=() if children == (HOME,) else children)


def _without(values: Iterable[Any], position: int) -> tuple[Any, ...]:
    return tuple(value for at, value in enumerate(values) if at != position)
