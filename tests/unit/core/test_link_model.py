"""The transfer time of a link: never negative, never falling, right after few samples, quick when the link changes."""

from collections import deque
from itertools import product
from random import Random
from statistics import median, quantiles

import pytest

from jupiter_agent.core.messages import FETCHED_BYTES
from jupiter_agent.core.messages.links import Shape
from jupiter_agent.core.profiling.link_model import LinkModel, Sample, least

SEGMENT = 1448
SIZES = [1_000, 10_000, 65_000, 200_000, 1_000_000, 10_000_000, 50_000_000]


def taken_s(size: float, rtt_s: float, q: float, p: float = 0.004) -> float:
    """What a transfer takes by TCP from ten segments on, segment by segment, asking for it included."""
    left, window, out, free_at, now = size / SEGMENT, 10, 0, 0.0, 0.0
    acks: deque[float] = deque()
    while left > 0 and q * SEGMENT * window < rtt_s:
        if out < window:
            free_at = max(now, free_at) + q * SEGMENT * min(1.0, left)
            acks.append(free_at + rtt_s)
            left, out = left - 1, out + 1
        else:
            now, out, window = acks.popleft(), out - 1, window + 1
    return rtt_s + p + max(now, free_at) + q * SEGMENT * max(0.0, left)


def learned(rtt_s: float, q: float, sizes: list[int], seed: int = 1, noise: float = 0.05) -> LinkModel:
    rng, model = Random(seed), LinkModel()
    for at, size in enumerate(sizes):
        seconds = taken_s(size, rtt_s, q) * rng.gauss(1.0, noise)
        model.on_sample(Sample(size, seconds), rtt_s, float(at))
    return model


def test_a_link_of_which_nothing_is_known_is_as_usual_and_says_so():
    shape = LinkModel().shape(0.02)
    assert shape.samples == 0
    assert shape.error == 1.0
    assert shape.seconds(0) == 0.01
    assert shape.seconds(12_500_000) == pytest.approx(1.0, rel=0.25)


@pytest.mark.parametrize(("rtt_ms", "mbps"), list(product([1, 16, 150], [10, 100, 300])))
def test_ten_transfers_of_any_size_predict_those_of_any_other(rtt_ms, mbps):
    rtt_s, q, errors = rtt_ms / 1000, 8 / (mbps * 1e6), []
    for seed in range(8):
        rng = Random(seed)
        sizes = [int(10 ** rng.uniform(4.9, 7.5)) for _ in range(10)]
        shape = learned(rtt_s, q, sizes, seed).shape(rtt_s)
        for size in (100_000, 1_000_000, 10_000_000, 50_000_000):
            true = rtt_s / 2 + taken_s(size, rtt_s, q)
            errors.append(abs(shape.seconds(size) - true) / true)
    assert quantiles(errors, n=10)[8] < 0.22
    assert median(errors) < 0.06


def test_whatever_was_measured_the_prediction_is_positive_and_never_falls_with_the_size():
    for seed in range(200):
        rng, model = Random(seed), LinkModel()
        for at in range(rng.randrange(1, 12)):
            sample = Sample(int(10 ** rng.uniform(1, 8)), 10 ** rng.uniform(-4, 2), rng.random() < 0.5)
            model.on_sample(sample, 10 ** rng.uniform(-4, 0), float(at))
        shape = model.shape(10 ** rng.uniform(-4, 0))
        assert min(shape.p, shape.q, shape.r, shape.s) >= 0
        predicted = [shape.seconds(size) for size in sorted([*SIZES, 0, 2, 10**9])]
        assert predicted == sorted(predicted)
        assert predicted[0] > 0


def test_what_makes_no_sense_changes_nothing():
    model = learned(0.02, 1e-7, [100_000, 1_000_000])
    before = model.to_memory()
    for size, seconds, rtt_s in [
        (0, 1.0, 0.1),
        (10, -1.0, 0.1),
        (10, float("nan"), 0.1),
        (10, 1e300, 0.1),
        (9, 1.0, -1.0),
    ]:
        assert model.on_sample(Sample(size, seconds), rtt_s, 5.0) is False
    assert model.to_memory() == before


def test_one_slow_transfer_among_many_counts_little():
    model = learned(0.02, 1e-7, [1_000_000] * 10, noise=0.01)
    usual = model.shape(0.02).seconds(1_000_000)
    assert model.on_sample(Sample(1_000_000, 10 * usual), 0.02, 10.0) is True
    assert model.shape(0.02).seconds(1_000_000) < 1.3 * usual
    model.on_sample(Sample(1_000_000, taken_s(1_000_000, 0.02, 1e-7)), 0.02, 11.0)
    assert model.shape(0.02).seconds(1_000_000) < 1.25 * usual


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_link_with_half_or_twice_the_rate_is_known_after_three_transfers(factor):
    model = learned(0.02, 1e-7, [1_000_000, 3_000_000] * 10)
    for at in range(3):
        model.on_sample(Sample(2_000_000, taken_s(2_000_000, 0.02, 1e-7 / factor)), 0.02, 20.0 + at)
    true = 0.01 + taken_s(5_000_000, 0.02, 1e-7 / factor)
    assert model.shape(0.02).seconds(5_000_000) == pytest.approx(true, rel=0.2)


def test_a_longer_round_trip_needs_no_new_transfer():
    model = learned(0.02, 1e-7, [100_000, 1_000_000, 5_000_000] * 3)
    true = 0.03 + taken_s(1_000_000, 0.06, 1e-7)
    assert model.shape(0.06).seconds(1_000_000) == pytest.approx(true, rel=0.15)


def test_a_quadratic_term_that_is_there_is_found():
    model = LinkModel()
    for at in range(20):
        f = (100_000, 5_000_000, 20_000_000, 50_000_000)[at % 4]
        model.on_sample(Sample(f, taken_s(f, 0.02, 1e-7) + 4e-15 * f * f), 0.02, float(at))
    assert model.shape(0.02).r == pytest.approx(4e-15, rel=0.25)


def test_probes_alone_tell_the_rate_when_the_clock_is_good_enough():
    model = LinkModel()
    for at in range(4):
        model.on_sample(Sample(12_000, 0.15 + 12_000 * 8e-8, fetched=False, noise_s=0.0001), 0.15, float(at))
    assert model.shape(0.15).q == pytest.approx(8e-8, rel=0.1)


def test_samples_fade_so_that_old_ones_do_not_hold_up_new_ones():
    old = learned(0.02, 1e-7, [1_000_000] * 3, noise=0.0)
    young = LinkModel.from_memory(old.to_memory(), 2.0)
    sample = Sample(1_000_000, 1.25 * taken_s(1_000_000, 0.02, 1e-7))
    old.on_sample(sample, 0.02, 2000.0)
    young.on_sample(sample, 0.02, 3.0)
    assert old.shape(0.02).seconds(1_000_000) > young.shape(0.02).seconds(1_000_000)


def test_few_samples_are_less_sure_than_many():
    assert learned(0.02, 1e-7, [10**6] * 2).uncertainty > learned(0.02, 1e-7, [10**6] * 20).uncertainty


def test_a_model_outlives_a_restart():
    model = learned(0.02, 1e-7, [100_000, 10_000_000] * 5)
    again = LinkModel.from_memory(model.to_memory(), 0.0)
    assert again.shape(0.02) == model.shape(0.02)


def test_mappers_get_the_line_that_fits_the_sizes_of_their_edges():
    shape = Shape(0.1, p=0.004, q=1e-7, s=0.85, samples=9)
    for sizes in ([1000.0], [500_000.0, 2_000_000.0], [1000.0, 100_000.0, 50_000_000.0]):
        first, slope, r = shape.straight(sizes)
        assert min(first, slope, r) >= 0
        off = [abs(first + slope * f + r * f * f - shape.seconds(f)) / shape.seconds(f) for f in sizes]
        assert median(off) < (0.01 if len(sizes) < 3 else 0.6)


def test_only_what_is_fetched_pays_for_asking():
    shape = Shape(0.1, p=0.004, q=1e-9, s=0.0)
    assert shape.seconds(FETCHED_BYTES + 1) - shape.seconds(FETCHED_BYTES) == pytest.approx(0.104, rel=1e-3)


def test_the_least_squares_keep_to_the_cone_and_find_what_trying_all_does():
    rng = Random(3)
    for _ in range(100):
        rows = [[rng.gauss(0, 1) for _ in range(4)] for _ in range(6)]
        y = [rng.gauss(0, 1) for _ in range(6)]
        a = [[sum(row[i] * row[j] for row in rows) + (i == j) * 0.01 for j in range(4)] for i in range(4)]
        b = [sum(row[i] * t for row, t in zip(rows, y, strict=True)) for i in range(4)]
        x = least(a, b)
        slope = [sum(a[i][j] * x[j] for j in range(4)) - b[i] for i in range(4)]
        assert min(x) >= 0
        assert all(g > -1e-6 for g in slope), "no direction into the cone leads further down"
        assert all(abs(g * each) < 1e-6 for g, each in zip(slope, x, strict=True))
