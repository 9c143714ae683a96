"""State machines over the executor and the registers: any order of messages, answers, moves and restarts of others."""

from __future__ import annotations

from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from job_rig import VERSION, Host, make_job, of_type, parcel, place, reg, sent, small

from jupiter_agent.core.effects import Effect, StartRun
from jupiter_agent.core.events import RunDone, RunFailed
from jupiter_agent.core.messages.jobs import ItemFailed, Parcel, ParcelReceived, Register

PHASES = [phase for phase in Phase if phase is not Phase.explain]  # tracing every line takes minutes
JOIN: dict[str, list[str]] = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["e"], "e": []}
NODES = ["n1", "n2", "n3"]
ITEMS = ["i", "j"]


class Registers(RuleBasedStateMachine):
    """Three nodes write assignments and tell each other some of them, late, twice, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = {node: make_job(JOIN) for node in NODES}
        self.told: list[Register] = []
        self.best: dict[tuple[str, str], tuple[int, int, str, int]] = {}

    @rule(
        writer=st.sampled_from(NODES),
        task=st.sampled_from(list(JOIN)),
        to=st.sampled_from(NODES),
        boot=st.integers(1, 3),
    )
    def write(self, writer: str, task: str, to: str, boot: int) -> None:
        job = self.jobs[writer]
        before = job.registers.get(task)
        made = job.write(task, to, (writer, boot), "")
        assert job.host(task) == to
        assert before is None or made.version()[:2] > before.version()[:2], "a write wins over what its writer knew"
        self.told.append(made)

    @precondition(lambda self: self.told)
    @rule(node=st.sampled_from(NODES), data=st.data())
    def hear(self, node: str, data: st.DataObject) -> None:
        heard = data.draw(st.lists(st.sampled_from(self.told), min_size=1, max_size=4))
        won = self.jobs[node].merge(heard)
        assert self.jobs[node].merge(heard) == [], "said twice is said once"
        assert all(self.jobs[node].registers[register.task].version() >= register.version() for register in heard)
        assert {register.task for register in won} <= {register.task for register in heard}

    @rule()
    def all_meet(self) -> None:
        everything = [register for job in self.jobs.values() for register in job.registers.values()]
        for job in self.jobs.values():
            job.merge(everything)
        assert len({job.digest() for job in self.jobs.values()}) == 1, "who has seen the same agrees"

    @invariant()
    def nobody_goes_back(self) -> None:
        for node, job in self.jobs.items():
            job.check()
            for task, register in job.registers.items():
                assert register.version() >= self.best.get((node, task), register.version())
                self.best[node, task] = register.version()


class Executor(RuleBasedStateMachine):
    """The node n1 hosts the join `d`; two attempts of `a` reach it by `b` and `c`, in any order, again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.host = Host(place(make_job(JOIN), a="n2", b="n2", c="n3", d="n1", e="n2"))
        self.now = 0.0
        self.running: dict[int, StartRun] = {}
        self.ran: dict[tuple[str, bytes], int] = {}
        self.arrived: dict[tuple[str, bytes], set[str]] = {}
        self.over: set[str] = set()
        self.failures: dict[tuple[str, bytes], int] = {}
        self.epoch = 1

    def take(self, effects: list[Effect]) -> None:
        for run in of_type(effects, StartRun):
            self.running[run.run] = run

    def stamp(self, run: StartRun) -> bytes:
        """The attempt of `a` whose outputs a run joins: both inputs must be of the same."""
        stamps = {obj.name.encode() for _, objects in run.inputs for obj in objects}
        assert len(stamps) == 1, f"mixed: {stamps}"
        return stamps.pop()

    def deliver(self, edge: str, item: str, stamp: bytes, token: bool) -> list[Effect]:
        objects = [] if token else [small(edge.encode() + stamp, stamp.decode())]
        number = ITEMS.index(item) + 1
        made: Any = {"item": item, "number": number, "carried": {"a": stamp}, "objects": objects}
        return self.host.execution.on_parcel("n2", parcel(edge, "d", edge.encode() + stamp, **made), self.now)

    @rule(
        edge=st.sampled_from("bc"),
        item=st.sampled_from(ITEMS),
        stamp=st.sampled_from([b"1", b"2"]),
        token=st.booleans(),
    )
    def parcel_comes(self, edge: str, item: str, stamp: bytes, token: bool) -> None:
        first = edge not in self.arrived.get((item, stamp), set())
        effects = self.deliver(edge, item, stamp, token and edge == "c" and first)
        here = self.host.job.host("d") == "n1"
        assert bool(sent(effects, ParcelReceived)) == here, (
            "who holds it says so, who does not host the task tells who does"
        )
        if here and item not in self.over:
            self.arrived.setdefault((item, stamp), set()).add(edge)
        for run in of_type(effects, StartRun):
            key = (run.item, self.stamp(run))
            assert self.arrived[key] == {"b", "c"}, "a join waits for all its edges"
            self.ran[key] = self.ran.get(key, 0) + 1
            tries = 1 + self.failures.get(key, 0)  # one that failed may start again with whatever comes next
            assert self.ran[key] <= tries, "an agreeing set runs once"
        self.take(effects)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.booleans())
    def run_ends(self, data: st.DataObject, fails: bool) -> None:
        run = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        attempt = self.host.queue.end(run.run)
        if attempt is None:
            return
        if fails:
            effects = self.host.execution.on_run_failed(attempt, RunFailed(run.run, "error", "no"), self.now)
            key = (run.item, self.stamp(run))
            self.failures[key] = self.failures.get(key, 0) + 1
        else:
            done = RunDone(run.run, [([], small(b"out" + self.stamp(run)))], 0.1)
            effects = self.host.execution.on_run_done(attempt, done, self.now)
            out = [message for _, message in sent(effects, Parcel)]
            assert len(out) == (run.item not in self.over), "one manifest, or none for an item that is over"
        self.take(effects)

    @rule(seconds=st.floats(0.05, 5.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.host.execution.next_deadline() <= self.now:
            effects = self.host.execution.on_deadline(self.now)
            self.take(effects)
            for _, message in sent(effects, ItemFailed):
                most = max(self.failures.get((message.item, stamp), 0) for stamp in (b"1", b"2"))
                assert most >= 3, "nobody gives up before the retries are used up"
                assert message.attempts == 3, "two retries are the default"

    @rule(item=st.sampled_from(ITEMS))
    def item_is_over(self, item: str) -> None:
        self.over.add(item)
        self.host.execution.finished.add((VERSION, ITEMS.index(item) + 1))
        self.host.execution.on_finished(self.now)
        assert item not in self.host.execution.outbox.items(), "nothing is kept for it"

    @rule(to=st.sampled_from(NODES))
    def task_moves(self, to: str) -> None:
        self.epoch += 1
        self.host.job.merge([reg("d", to, epoch=self.epoch)])
        self.take(self.host.execution.on_registers(self.now))

    @rule(node=st.sampled_from(["n2", "n3"]))
    def another_starts_again(self, node: str) -> None:
        self.host.around.boots[node] = self.host.around.boot_of(node) + 1
        self.take(self.host.execution.on_registers(self.now))

    @invariant()
    def in_order(self) -> None:
        self.host.execution.check()
        self.host.transfers.check()


RegistersTest = Registers.TestCase
RegistersTest.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, phases=PHASES)
ExecutorTest = Executor.TestCase
ExecutorTest.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, phases=PHASES)
