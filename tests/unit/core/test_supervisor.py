"""Active remapping with literal times: when a task moves, and all the reasons why it stays."""

from typing import Any

import pytest
from job_rig import CHAIN, DIAMOND, Host, make_job, place, reg, sent, task_specs

from jupiter_agent.core.counters import Run
from jupiter_agent.core.local import Local, slowest
from jupiter_agent.core.messages.jobs import SINK
from jupiter_agent.core.messages.supervision import Pace, TaskPace
from jupiter_agent.core.supervisor import COOL_S, ROUND_S, STALE_S, Supervisor
from jupiter_agent.core.wave import Wave

NODES = ["home1", "n1", "n2", "n3"]


class Rig:
    """n1 hosts `a` and so supervises `b`, which runs on n2; n3 is idle."""

    def __init__(
        self, remap: str = "active", edges: dict[str, list[str]] = CHAIN, places: Any = None, **more: Any
    ) -> None:
        fields = {"seconds": {"a": 1.0, "b": 1.0}, "remap": remap, **more}
        self.at = Host(place(make_job(edges, **fields), **(places or {"a": "n1", "b": "n2"})))
        self.job, self.around = self.at.job, self.at.around
        self.around.profiles = {node: {"cpus": 8.0} for node in NODES}
        self.machine = Supervisor(self.job, self.around, self.at.execution, 0.0)
        self.machine.candidates = lambda task: [n for n in NODES if n not in self.around.gone and n != "home1"]
        self.written: list[Any] = []
        self.machine.announce = lambda written, now: self.written.extend(written) or []
        self.sequence = 0

    def say(self, now: float, slow: float, node: str = "n2", task: str = "b", **more: int) -> None:
        """A host's word; home's comes with it, 100 items in all."""
        self.sequence += 1
        row = TaskPace(task, more.get("queued", 5), 1, more.get("done", 20), 1.0)
        self.machine.on_pace(node, Pace("job1", self.sequence, slow, [row]), now)
        self.machine.on_pace("home1", Pace("job1", self.sequence, 1.0, [], more.get("accepted", 100), False), now)

    def rounds(self, *slow: float, start: float = 20.0, **more: int) -> list[tuple[str, str]]:
        """One round a second, each after a word of the host; what was moved where."""
        for n, each in enumerate(slow):
            self.say(start + n, each, **more)
            self.machine._next = start + n
            self.machine.on_round(None, start + n)
        return [(register.task, register.node) for register in self.written]


def cooled(rig: Rig) -> Rig:
    """The tasks have been where they are for a while."""
    rig.rounds(1.0, start=20.0 - COOL_S)
    assert rig.written == []
    return rig


def test_a_task_leaves_a_slow_node_when_that_is_found_twice():
    rig = cooled(Rig())
    assert rig.rounds(3.0) == []
    assert rig.rounds(3.0, start=21.0) == [("b", "n3")]
    [register] = rig.written
    assert "active remapping: 79 items left take 237 s on name-n2, 3 times as slow as usual" in register.why
    assert (register.writer, register.epoch) == ("n1", 2)


def test_the_second_look_needs_a_newer_report():
    rig = cooled(Rig())
    rig.say(20.0, 3.0)
    for now in (20.0, 21.0, 22.0):
        rig.machine._next = now
        rig.machine.on_round(None, now)
    assert rig.written == []


def test_a_node_as_fast_as_usual_keeps_its_tasks():
    assert cooled(Rig()).rounds(*[1.0] * 20) == []


def test_a_gain_that_is_too_small_does_not_pay():
    assert cooled(Rig()).rounds(*[1.4] * 20) == []
    assert cooled(Rig()).rounds(1.6, 1.6) == [("b", "n3")]


def test_what_is_nearly_done_stays_because_the_move_costs_more():
    assert cooled(Rig()).rounds(3.0, 3.0, done=100, queued=0) == []
    assert cooled(Rig()).rounds(3.0, 3.0, done=99, queued=0) == []
    assert cooled(Rig()).rounds(3.0, 3.0, done=97, queued=0) == [("b", "n3")]


def test_lazy_moves_only_on_a_dramatic_change_and_off_has_no_supervisor():
    assert cooled(Rig("lazy")).rounds(*[3.0] * 5) == []
    assert cooled(Rig("lazy")).rounds(5.0, 5.0) == [("b", "n3")]


def test_only_the_host_of_the_controller_decides():
    rig = cooled(Rig())
    rig.job.merge([reg("a", "n3", epoch=2)])
    assert rig.rounds(*[3.0] * 5) == []


def test_home_supervises_the_entry_tasks():
    rig = Rig(places={"a": "n2", "b": "n3"})
    rig.job.home = rig.job.home.__class__(1, "n1", 1)
    rig.rounds(1.0, start=10.0, task="a")
    assert rig.rounds(3.0, 3.0, task="a") == [("a", "n1")]


def test_a_task_that_has_just_moved_stays_for_a_while_and_does_not_come_back():
    rig = cooled(Rig())
    assert rig.rounds(3.0, 3.0) == [("b", "n3")]
    for n in range(8):
        rig.say(22.0 + n, 4.0, "n3")
        rig.machine._next = 22.0 + n
        rig.machine.on_round(None, 22.0 + n)
    assert len(rig.written) == 1, "it cools down"
    for n in range(4):
        rig.say(33.0 + n, 4.0, "n3")
        rig.machine._next = 33.0 + n
        rig.machine.on_round(None, 33.0 + n)
    assert [r.node for r in rig.written] == ["n3", "n1"], "not to n2, which it left"


def test_the_word_of_a_node_that_fell_silent_counts_for_nothing():
    rig = cooled(Rig())
    rig.say(20.0, 3.0)
    for now in (20.0, 21.0 + STALE_S, 22.0 + STALE_S):
        rig.machine._next = now
        rig.machine.on_round(None, now)
    assert rig.written == []


def test_a_slow_or_crowded_or_unreachable_place_is_no_better():
    rig = cooled(Rig())
    rig.around.profiles["n3"]["slow"] = rig.around.profiles["n1"]["slow"] = 3.0
    assert rig.rounds(3.0, 3.0) == []
    rig = cooled(Rig())
    rig.around.profiles["n3"] = {"cpus": 1.0, "load": 4.0}
    rig.around.profiles["n1"] = {"cpus": 1.0, "load": 4.0}
    assert rig.rounds(3.0, 3.0) == []
    rig = cooled(Rig(edge_bytes={"a>b": 1000}))
    rig.machine.candidates = lambda task: ["n2", "n3"]
    rig.around.latencies = {"n2": 0.001, "n3": 3.0}
    assert rig.rounds(3.0, 3.0) == [], "3 s away"


def test_a_faster_node_is_a_better_place_only_when_it_is_much_faster():
    rig = cooled(Rig())
    rig.around.profiles["n3"]["speed"] = 1.4
    assert rig.rounds(*[1.0] * 5) == []
    rig.around.profiles["n3"]["speed"] = 3.0
    assert rig.rounds(1.0, 1.0, start=30.0) == [("b", "n3")]


def test_at_most_a_quarter_of_the_tasks_moves_in_a_round_those_that_gain_most_first():
    leaves = [f"l{n}" for n in range(8)]
    edges = {"a": leaves, **{leaf: [] for leaf in leaves}}
    rig = Rig(edges=edges, places={"a": "n1", **dict.fromkeys(leaves, "n2")}, seconds={})

    def say(now: float, slow: float) -> None:
        rig.sequence += 1
        rows = [TaskPace(leaf, 0, 1, 10 * n, 1.0) for n, leaf in enumerate(leaves)]
        rig.machine.on_pace("n2", Pace("job1", rig.sequence, slow, rows), now)
        rig.machine.on_pace("home1", Pace("job1", rig.sequence, 1.0, [], 100, False), now)
        rig.machine._next = now
        rig.machine.on_round(None, now)

    say(10.0, 1.0)
    say(21.0, 4.0)
    say(22.0, 4.0)
    assert [r.task for r in rig.written] == ["l0", "l1"]
    say(23.0, 4.0)
    assert [r.task for r in rig.written] == ["l0", "l1", "l2", "l3"]


@pytest.mark.parametrize("why", ["a sink", "replays its last items"])
def test_what_cannot_move_without_loss_stays(why: str):
    change = {"contract": SINK} if why == "a sink" else {"contract": "v5", "extra": {"replay": 3}}
    rig = cooled(Rig(tasks=[task_specs(CHAIN)[0], task_specs(CHAIN, **change)[1]]))
    assert rig.rounds(*[5.0] * 4) == []


def test_hosts_tell_their_supervisors_what_changed_and_nobody_else():
    job = place(make_job(DIAMOND, remap="active", seconds={}), a="n1", b="n2", c="n3", d="n2")
    at = Host(job, me="n2")
    machine = Supervisor(job, at.around, at.execution, 0.0)
    at.execution.counters.runs.extend([Run("i", "b", 0.0, 0.0, 2.0, 1, 1)])
    first = sent(machine.on_round(None, 10.0), Pace)
    assert [(to, [row.task for row in word.tasks]) for to, word in first] == [("n1", ["b"]), ("n2", ["d"])]
    assert sent(machine.on_round(None, 10.0 + ROUND_S), Pace) == [], "nothing changed"
    assert len(sent(machine.on_round(None, 16.0), Pace)) == 2, "said again, for who came late"


def test_a_node_says_to_all_how_slow_it_is_now():
    job = place(make_job(CHAIN, remap="active", seconds={"a": 1.0, "b": 1.0}), a="n2", b="n3")
    at = Host(job, me="n2")
    machine = Supervisor(job, at.around, at.execution, 0.0)
    runs = [Run(f"i{n}", "a", 4.0 * n, 4.0 * n, 4.0 * n + (1.0 if n < 20 else 4.0), 1, 1) for n in range(24)]
    at.execution.counters.runs.extend(runs[:20])
    machine.on_round(None, 80.0)
    assert machine.slow == 1.0
    at.execution.counters.runs.extend(runs[20:])
    [(_, word)] = sent(machine.on_round(None, 97.0), Pace)
    assert machine.slow == word.slow > 2.0
    local = Local(job, at.execution, Wave(job, at.around, 0.0), supervisor=machine)
    assert slowest([local]) == machine.slow
    job.over = "completed"
    assert slowest([local]) == 1.0


def test_home_tells_every_supervisor_how_many_items_there_are():
    job = place(make_job(DIAMOND, remap="active", seconds={}), a="n1", b="n2", c="n3", d="n2")
    at = Host(job, me="home1")
    machine = Supervisor(job, at.around, at.execution, 0.0)
    told = sent(machine.on_round((7, True), 10.0), Pace)
    assert {to: (word.accepted, word.more) for to, word in told} == dict.fromkeys(("home1", "n1", "n2"), (7, True))


def test_words_that_come_late_or_about_other_tasks_change_nothing():
    rig = cooled(Rig())
    rig.say(20.0, 3.0)
    late = Pace("job1", 1, 1.0, [TaskPace("b", 0, 0, 0, 1.0), TaskPace("zz", 0, 0, 0, 1.0)])
    rig.machine.on_pace("n2", late, 20.1)
    assert rig.machine._heard["b", "n2"].slow == 3.0
    assert ("zz", "n2") not in rig.machine._heard
