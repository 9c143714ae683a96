"""The round trip to a peer: its least, and a change of it, in few samples."""

import pytest

from jupiter_agent.core.profiling.delays import LONGER, WINDOW, Delay


def after(*rtts: float, step_s: float = 1.0) -> Delay:
    delay = Delay()
    for at, rtt in enumerate(rtts):
        delay.on_rtt(rtt, at * step_s)
    return delay


def test_nothing_is_known_before_the_first_answer():
    assert Delay().rtt_s is None


def test_the_least_of_the_last_samples_is_the_delay():
    assert after(0.012, 0.0101, 0.03, 0.0105).rtt_s == 0.0101


def test_a_shorter_path_is_known_at_once():
    assert after(0.03, 0.03, 0.01).rtt_s == 0.01


def test_a_path_three_times_as_long_is_known_after_three_samples():
    delay = after(*[0.02] * WINDOW)
    assert [delay.on_rtt(0.06, 20.0 + i) for i in range(LONGER)] == [True] * LONGER
    assert delay.rtt_s == 0.06


def test_single_late_answers_change_nothing_but_the_jitter():
    delay = after(*[0.02, 0.02, 0.2, 0.02, 0.2, 0.2] * 2, 0.02)
    assert delay.rtt_s == 0.02
    assert delay.jitter_s > 0.01


def test_a_noise_of_a_millisecond_is_no_change_of_a_short_path():
    delay = after(*[0.0003] * 5)
    assert [delay.on_rtt(0.0015, 10.0 + i) for i in range(3)] == [False] * 3


def test_old_samples_do_not_hold_up_new_ones():
    delay = after(0.010, 0.0115, 0.0115, step_s=100.0)
    assert delay.rtt_s == 0.0115


def test_loss_is_the_share_of_probes_without_an_answer():
    delay = Delay()
    for number in range(400):
        if number % 4:
            delay.on_rtt(0.01, float(number))
        else:
            delay.on_lost(float(number))
    assert delay.loss == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("rtt", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_what_is_no_time_is_no_sample(rtt):
    delay = after(0.01)
    assert delay.on_rtt(rtt, 1.0) is False
    assert (delay.rtt_s, delay.samples) == (0.01, 1)


def test_where_exact_samples_are_at_hand_others_only_tell_of_changes():
    delay = Delay()
    delay.on_rtt(0.0101, 0.0)
    delay.on_rtt(0.0110, 1.0, exact=True)
    assert delay.rtt_s == 0.0110, "what is not exact is no measure for what is"
    assert delay.on_rtt(0.0105, 2.0) is False
    assert [delay.on_rtt(0.0900, at) for at in (3.0, 3.1, 3.2)] == [False, False, True], "a busy processor, or the link"
    assert [delay.on_rtt(0.0900, at) for at in (4.0, 4.1, 4.2)] == [False, False, True], "it was not looked into yet"
    assert (delay.rtt_s, delay.samples) == (0.0110, 2)
    delay.on_rtt(0.0125, 200.0)
    assert delay.rtt_s == 0.0125, "the exact one is old"
