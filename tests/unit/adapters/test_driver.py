"""The driver, on a loop whose clock and turns the test controls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

import pytest

from jupiter_agent.adapters.driver import BATCH, POLL_S, Driver
from jupiter_agent.core.effects import Effect, Notice
from jupiter_agent.core.events import Event, SessionUp


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """What the driver uses of an event loop."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ready: list[Callable[[], None]] = []
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def turn(self) -> None:
        """One turn: what was ready before it began."""
        ready, self.ready = self.ready, []
        for callback in ready:
            callback()

    def advance(self, to: float) -> None:
        self.now = to
        for timer in [t for t in self.timers if not t.cancelled and t.when <= to]:
            timer.cancelled = True
            timer.callback()
        self.turn()

    def armed(self) -> list[float]:
        return [timer.when for timer in self.timers if not timer.cancelled]


class Machine:
    """Writes down what it is told; one effect per event."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.due = math.inf
        self.period = math.inf
        self.asked = 0

    def on_event(self, event: Event, now: float) -> list[Effect]:
        assert isinstance(event, SessionUp)
        self.log.append(event.peer)
        if event.peer == "bad":
            raise ValueError("broken invariant")
        return [Notice("info", event.peer)] if event.peer != "quiet" else []

    def on_deadline(self, now: float) -> list[Effect]:
        self.log.append(f"deadline {self.due:g}")
        self.due += self.period
        return []

    def next_deadline(self) -> float:
        self.asked += 1
        return self.due


class Rig:
    def __init__(self) -> None:
        self.loop, self.machine = Loop(), Machine()
        self.performed: list[str] = []
        self.crashes: list[BaseException] = []
        self.on_effect: Callable[[str], None] = lambda name: None
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.driver = Driver(loop, self.machine, self._perform, self.crashes.append)

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Notice)
            self.performed.append(effect.event)
            self.on_effect(effect.event)

    def post(self, *peers: str) -> None:
        for peer in peers:
            self.driver.post(SessionUp(peer))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_events_are_served_in_order_and_never_inside_post(rig: Rig) -> None:
    rig.post("a", "quiet", "b")
    assert rig.machine.log == []
    rig.loop.turn()
    assert rig.machine.log == ["a", "quiet", "b"]
    assert rig.performed == ["a", "b"]


def test_a_due_deadline_comes_before_the_inbox(rig: Rig) -> None:
    rig.machine.due = 100.0
    rig.post("a")
    rig.loop.turn()
    assert rig.machine.log == ["deadline 100", "a"]


def test_no_flood_starves_a_deadline(rig: Rig) -> None:
    rig.machine.due, rig.machine.period = 100.0, 1.0
    for turn in range(20):
        rig.post(*["x"] * BATCH * 3)
        rig.loop.now = 100.0 + turn
        rig.loop.turn()
    assert sum(line.startswith("deadline") for line in rig.machine.log) == 20


def test_a_turn_serves_a_bounded_batch_and_then_lets_the_loop_go_on(rig: Rig) -> None:
    rig.post(*["x"] * (BATCH + 5))
    rig.loop.turn()
    assert (len(rig.machine.log), rig.driver.backlog()) == (BATCH, 5)
    rig.loop.turn()
    assert rig.driver.backlog() == 0


def test_one_timer_is_armed_for_the_next_deadline(rig: Rig) -> None:
    rig.machine.due, rig.machine.period = 105.0, 3.0
    rig.driver.start()
    rig.loop.turn()
    assert rig.loop.armed() == [105.0]
    rig.post("a")
    rig.loop.turn()
    rig.loop.advance(100.0 + POLL_S)
    assert rig.loop.armed() == [105.0]
    rig.loop.advance(105.0)
    assert rig.machine.log == ["a", "deadline 105"]
    assert rig.loop.armed() == [108.0]


def test_without_deadlines_no_timer_is_armed(rig: Rig) -> None:
    rig.driver.start()
    rig.loop.turn()
    assert rig.loop.armed() == []
    assert rig.loop.ready == []


def test_what_performing_posts_is_served_later(rig: Rig) -> None:
    rig.on_effect = lambda name: rig.post("answer") if name == "ask" else None
    rig.post("ask")
    rig.loop.turn()
    assert rig.machine.log == ["ask"]
    rig.loop.turn()
    assert rig.machine.log == ["ask", "answer"]


def test_a_broken_machine_is_called_no_more_and_the_crash_is_told_once(rig: Rig) -> None:
    rig.machine.due = 105.0
    rig.driver.start()
    rig.loop.turn()
    rig.post("bad", "never")
    rig.loop.turn()
    rig.loop.advance(110.0)
    rig.post("never")
    rig.loop.turn()
    assert rig.machine.log == ["bad"]
    assert [str(error) for error in rig.crashes] == ["broken invariant"]
    assert rig.loop.armed() == []


def test_a_failing_effect_counts_as_a_crash(rig: Rig) -> None:
    def fail(name: str) -> Any:
        raise OSError("no space left")

    rig.on_effect = fail
    rig.post("a", "b")
    rig.loop.turn()
    assert rig.machine.log == ["a"]
    assert len(rig.crashes) == 1


def test_after_stop_nothing_is_served(rig: Rig) -> None:
    rig.on_effect = lambda name: rig.driver.stop()
    rig.post("last", "never")
    rig.loop.turn()
    rig.post("never")
    rig.loop.turn()
    assert rig.machine.log == ["last"]
    assert rig.crashes == []


def test_it_says_when_the_machine_was_last_served(rig: Rig) -> None:
    rig.machine.due, rig.machine.period = 101.0, 1.0
    rig.driver.start()
    rig.loop.turn()
    rig.loop.advance(104.0)
    assert rig.driver.last_turn == 104.0


def test_a_paused_machine_is_left_alone_and_then_served_in_order(rig: Rig) -> None:
    rig.on_effect = lambda name: rig.driver.pause(True) if name == "b" else None
    rig.post("a", "b", "c")
    for _ in range(4):
        rig.loop.turn()
    rig.post("d")
    for _ in range(4):
        rig.loop.turn()
    assert (rig.machine.log, rig.driver.backlog()) == (["a", "b"], 2)
    rig.driver.pause(False)
    for _ in range(4):
        rig.loop.turn()
    assert rig.machine.log == ["a", "b", "c", "d"]


def test_while_events_come_deadlines_are_asked_for_now_and_then_and_none_is_missed(rig: Rig) -> None:
    rig.driver.start()
    rig.loop.turn()
    before = rig.machine.asked
    for _ in range(20):
        rig.post("a")
        rig.loop.turn()
    assert rig.machine.asked == before
    rig.machine.due = 100.0
    rig.loop.advance(100.0 + POLL_S)
    assert rig.machine.log[-1] == "deadline 100"
    rig.machine.due = math.inf
    rig.loop.advance(100.0 + 2 * POLL_S)
    rig.loop.advance(100.0 + 3 * POLL_S)
    quiet = rig.machine.asked
    rig.loop.advance(200.0)
    assert (rig.machine.asked, rig.loop.armed()) == (quiet, []), "nothing happened: nothing is asked"


def test_what_is_posted_inside_of_serving_is_served_in_the_same_turn(rig: Rig) -> None:
    rig.driver.serving(lambda: rig.post("a", "b"))
    assert (rig.machine.log, rig.loop.ready) == (["a", "b"], [])
    rig.post("c")
    rig.driver.serving(lambda: rig.post("d"))
    assert rig.machine.log == ["a", "b"], "a turn is on its way: it serves them in order"
    rig.loop.turn()
    assert rig.machine.log == ["a", "b", "c", "d"]


def test_serving_keeps_to_the_batch_the_pause_and_the_end(rig: Rig) -> None:
    rig.driver.serving(lambda: rig.post(*["x"] * (BATCH + 5)))
    assert (len(rig.machine.log), rig.driver.backlog()) == (BATCH, 5)
    rig.loop.turn()
    rig.driver.pause(True)
    rig.driver.serving(lambda: rig.post("late"))
    assert rig.driver.backlog() == 1
    rig.driver.pause(False)
    rig.loop.turn()
    assert rig.machine.log[-1] == "late"
    rig.driver.stop()
    rig.driver.serving(lambda: rig.post("never"))
    assert (rig.machine.log[-1], rig.crashes) == ("late", [])


def test_a_driver_that_goes_on_inside_of_serving_is_served(rig: Rig) -> None:
    rig.driver.pause(True)
    rig.machine.due = 100.0
    rig.driver.serving(lambda: rig.driver.pause(False))
    assert rig.machine.log == ["deadline 100"]
