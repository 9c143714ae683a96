from __future__ import annotations

import numpy as np
import pytest

from schedulers import Problem, schedule
from schedulers.generate import layered
from schedulers.replay import replay
from schedulers.stream import Change, stream
from schedulers.throughput import period


def links(nodes: int, seconds: float = 0.0) -> list[list[float]]:
    return [[0.0 if a == b else seconds for b in range(nodes)] for a in range(nodes)]


def chain(first: float = 2.0, second: float = 3.0, inv_rate: float = 0.1) -> Problem:
    return Problem([[first] * 2, [second] * 2], [(0, 1, 10)], links(2, 0.5), links(2, inv_rate))


@pytest.mark.parametrize("seed", range(6))
def test_one_item_on_what_never_changes_is_a_replay(seed: int) -> None:
    p = layered(30, 6, seed)
    node = schedule("heft", p).node
    told = replay(p, node)
    seen = stream(p, node, contention=False)
    assert seen.makespan == told.makespan
    assert seen.throughput == 1 / told.makespan
    assert seen.computing.sum() == pytest.approx(p.times[np.arange(30), node].sum())


def test_a_pipeline_delivers_at_the_pace_of_its_slowest_stage() -> None:
    seen = stream(chain(), [0, 1], items=10)
    assert seen.finished.tolist() == [6.5 + 3 * k for k in range(10)]
    assert seen.throughput == 10 / 33.5
    slow = stream(chain(inv_rate=0.5), [0, 1], items=10)
    assert np.diff(slow.finished).tolist() == [5] * 9
    assert np.diff(stream(chain(), [0, 0], items=10).finished).tolist() == [5] * 9


def test_a_source_slower_than_the_pipeline_sets_the_pace() -> None:
    seen = stream(chain(), [0, 1], items=6, interval_s=7.0)
    assert seen.released.tolist() == [7.0 * k for k in range(6)]
    assert seen.latency.tolist() == [6.5] * 6
    assert np.diff(seen.finished).tolist() == [7] * 5


def test_busy_seconds_are_counted_per_node_and_card() -> None:
    seen = stream(chain(), [0, 1], items=4)
    assert seen.computing.tolist() == [8, 12]
    assert seen.sending.tolist() == [4, 0]
    assert seen.receiving.tolist() == [0, 4]
    assert seen.use()[0].tolist() == [8 / 15.5, 12 / 15.5]
    assert stream(chain(), [1, 1]).sending.tolist() == [0, 0]


def test_a_node_that_slows_down_finishes_what_is_left_at_its_new_speed() -> None:
    # Task 0 has done 1 of 2 seconds when everything becomes four times slower.
    slower = Change(1.0, chain(8.0, 12.0))
    seen = stream(chain(), [0, 1], changes=[slower])
    assert seen.makespan == 1 + 4 + 1.5 + 12
    assert seen.computing.tolist() == [5, 12]
    again = stream(chain(), [0, 1], changes=[slower, Change(3.0, chain())])
    assert again.makespan == 3 + 0.5 + 1.5 + 3


def test_a_link_that_slows_down_slows_the_transfers_that_follow() -> None:
    seen = stream(chain(), [0, 1], changes=[Change(1.0, chain(inv_rate=0.4))])
    assert seen.makespan == 2 + 4.5 + 3
    assert stream(chain(), [0, 1], changes=[Change(2.5, chain(inv_rate=0.4))]).makespan == 6.5


def test_a_task_of_no_length_survives_a_change() -> None:
    p = Problem([[0.0], [2.0]], [(0, 1, 0)], [[0]], [[0]])
    assert stream(p, [0, 0], changes=[Change(0.0, Problem([[5.0], [4.0]], p.edges, [[0]], [[0]]))]).makespan == 9


def test_cards_send_and_receive_one_transfer_at_a_time_and_wait_for_no_busy_receiver() -> None:
    # Task 0 feeds 1 and 2 on other nodes, task 3 keeps the card of node 1 busy: 0 -> 2 goes ahead of 0 -> 1.
    p = Problem([[1] * 4, [9] * 4, [1] * 4, [0.5] * 4], [(0, 1, 10), (0, 2, 10), (3, 1, 50)], links(4), links(4, 0.1))
    seen = stream(p, [0, 1, 2, 3])
    assert seen.sending.tolist() == [2, 0, 0, 5]
    assert seen.receiving.tolist() == [0, 6, 1, 0]
    assert seen.makespan == 0.5 + 5 + 1 + 9
    assert stream(p, [0, 1, 2, 3], contention=False).makespan == 5.5 + 9


def test_older_items_go_before_urgent_tasks_of_younger_ones() -> None:
    # Both tasks on one node: without the rule the first task of all items would go first.
    seen = stream(chain(), [0, 0], items=3)
    assert seen.finished.tolist() == [5, 10, 15]


@pytest.mark.parametrize("seed", range(4))
def test_no_stream_is_faster_than_the_period_allows(seed: int) -> None:
    p = layered(15, 5, seed)
    for name in ("heft", "tp-heft"):
        node = schedule(name, p, contention=True).node
        reached = stream(p, node, items=40).throughput * period(p, node, contention=True)
        assert 0.5 < reached <= 1 + 1e-9


def test_mapping_for_throughput_pays_in_the_stream() -> None:
    gains = []
    for seed in range(5):
        p = layered(20, 6, seed)
        heft, fast = (stream(p, schedule(name, p, contention=True).node, items=30) for name in ("heft", "tp-heft"))
        gains.append(fast.throughput / heft.throughput)
    assert np.median(gains) > 1.2


@pytest.mark.parametrize(
    ("node", "options"),
    [
        ([0], {}),
        ([0, 2], {}),
        ([0, 1], {"items": 0}),
        ([0, 1], {"interval_s": -1.0}),
        ([0, 1], {"interval_s": float("nan")}),
        ([0, 1], {"changes": [Change(-1.0, chain())]}),
        ([0, 1], {"changes": [Change(1.0, Problem([[1.0]], [], [[0]], [[0]]))]}),
    ],
)
def test_what_is_no_stream_is_refused(node: list[int], options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"node must be|no stream|does not fit"):
        stream(chain(), node, **options)  # type: ignore[arg-type]
