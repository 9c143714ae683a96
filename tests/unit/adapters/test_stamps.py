"""Times of probes without what they wait in the agents."""

import pytest

from jupiter_agent.adapters.stamps import HELD, MOST_S, Stamps, own_time_s
from jupiter_agent.core.messages.control import Call
from jupiter_agent.core.messages.links import LinkEcho, LinkProbe


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_at_the_other_end_is_taken_off():
    clock = Clock()
    here, there = Stamps(clock), Stamps(clock)
    probe = here.leaving("n2", LinkProbe(7, 0))
    clock.now += 0.010
    there.came("n1", probe)
    clock.now += 0.002
    echo = there.leaving("n1", LinkEcho(7, 5.0))
    assert echo.dwell_s == pytest.approx(0.002)
    clock.now += 0.010
    assert here.came("n2", echo).took_s == pytest.approx(0.020)


def test_nobody_looks_nearer_by_more_than_a_little_for_what_it_says():
    stamps = Stamps(clock := Clock())
    stamps.leaving("n2", LinkProbe(7, 0))
    clock.now += 0.1
    assert stamps.came("n2", LinkEcho(7, 5.0, dwell_s=10.0)).took_s == pytest.approx(0.1 - MOST_S)


def test_what_the_stacks_of_both_take_is_taken_off():
    clock = Clock()
    here, there = Stamps(clock), Stamps(clock)
    here.own_s, there.own_s = 0.0002, 0.0003
    probe = here.leaving("n2", LinkProbe(7, 0))
    clock.now += 0.010
    there.came("n1", probe)
    assert here.came("n2", there.leaving("n1", LinkEcho(7, 5.0))).took_s == pytest.approx(0.0095)


def test_the_own_stack_takes_some_microseconds():
    assert 1e-6 < own_time_s(rounds=4) < MOST_S


def test_a_time_that_comes_from_outside_is_not_taken():
    stamps = Stamps(Clock())
    assert stamps.came("n2", LinkEcho(9, 5.0, took_s=0.001)).took_s == 0.0
    assert stamps.leaving("n2", LinkEcho(9, 5.0, dwell_s=3.0)).dwell_s == 0.0


def test_what_was_never_answered_is_forgotten_in_time():
    stamps = Stamps(clock := Clock())
    for serial in range(HELD + 5):
        stamps.leaving("n2", LinkProbe(serial, 0))
    clock.now += 1.0
    assert stamps.came("n2", LinkEcho(0, 5.0)).took_s == 0.0
    assert stamps.came("n2", LinkEcho(HELD + 4, 5.0)).took_s == 1.0


def test_other_messages_pass_as_they_are():
    stamps, call = Stamps(Clock()), Call(1, "get", {})
    assert stamps.leaving("n2", call) is call
    assert stamps.came("n2", call) is call
