from __future__ import annotations

from math import inf, nan
from random import Random

import pytest

from schedulers import Unplaceable
from schedulers.bidding import (
    CROWD,
    Award,
    Bid,
    Desk,
    Grants,
    Input,
    Link,
    Outlook,
    Sale,
    accepts,
    bid,
    frontier,
    judged,
    reserve,
    shortlist,
)


def offer(node: str, cost: float, start: float = 0.0) -> Bid[str]:
    return Bid(cost, node, start, cost)


def desk(charged: bool = False, **links: Link) -> Desk[str]:
    return Desk("me", links.get, charged=charged)


def test_a_bid_waits_for_the_slowest_input_and_fills_the_first_gap() -> None:
    mine = desk(a=Link(1.0, 0.1), b=Link(0.0, 0.0, 0.01))
    inputs = [Input("a", 2.0, 10), Input("b", 1.0, 20), Input("me", 3.0, 1e9)]
    assert bid(mine, inputs, 4.0) == Bid(9.0, "me", 5.0, 9.0, arrives_s=5.0)
    mine.timeline.insert(7.0, 8.0)
    assert bid(mine, inputs, 4.0) == Bid(12.0, "me", 8.0, 12.0, arrives_s=5.0)
    assert bid(mine, inputs, 2.0) == Bid(7.0, "me", 5.0, 7.0, arrives_s=5.0)


def test_a_bid_reserves_nothing_until_it_is_taken() -> None:
    mine = desk(a=Link())
    first = bid(mine, [Input("a", 0.0, 1)], 2.0)
    assert first is not None
    assert bid(mine, [Input("a", 0.0, 1)], 2.0) == first
    reserve(mine, first)
    assert bid(mine, [Input("a", 0.0, 1)], 2.0) == Bid(4.0, "me", 2.0, 4.0)


def test_inputs_take_turns_at_the_cards_of_both_ends_where_cards_are_charged() -> None:
    inputs = [Input("a", 2.0, 10), Input("a", 1.0, 10), Input("b", 0.0, 10, sends_from=4.0)]
    links = {"a": Link(0.5, 0.1), "b": Link(0.5, 0.1)}
    free, charged = bid(desk(**links), inputs, 1.0), bid(desk(charged=True, **links), inputs, 1.0)
    assert free == Bid(4.5, "me", 3.5, 4.5, arrives_s=3.5)
    assert charged == Bid(8.5, "me", 7.5, 8.5, receives_s=7.0, sends=(("b", 5.0), ("a", 7.0)), arrives_s=7.5)
    mine = desk(charged=True, **links)
    reserve(mine, charged)
    assert mine.receives_from == 7.0


def test_a_message_without_bytes_waits_for_no_card() -> None:
    mine = desk(charged=True, a=Link(0.5, 0.1))
    mine.receives_from = 9.0
    assert bid(mine, [Input("a", 1.0, 0)], 1.0) == Bid(2.5, "me", 1.5, 2.5, receives_s=9.0, arrives_s=1.5)


@pytest.mark.parametrize("exec_s", [None, nan, inf, -1.0])
def test_who_does_not_know_its_time_does_not_bid(exec_s: float | None) -> None:
    assert bid(desk(), [], exec_s) is None


@pytest.mark.parametrize("link", [None, Link(nan), Link(0.0, inf)])
def test_who_cannot_tell_when_an_input_comes_does_not_bid(link: Link | None) -> None:
    mine: Desk[str] = Desk("me", lambda host: link)
    assert bid(mine, [Input("a", 0.0, 1)], 1.0) is None


def test_committed_load_makes_a_bid_dearer_but_not_later() -> None:
    mine = desk()
    mine.committed_s = 5.0
    assert bid(mine, [], 1.0) == Bid(6.0, "me", 0.0, 1.0)


def test_bids_that_are_no_numbers_are_none() -> None:
    good = offer("a", 3.0)
    lies = [offer("b", nan), offer("c", inf), offer("d", 1.0, start=2.0), offer("e", 1.0, start=-1.0)]
    assert judged([good, None, *lies]) == [good]
    assert judged([Bid(nan, "f", 0.0, 1.0), Bid(0.5, "g", 0.0, 1.0)]) == []


def test_the_least_bid_wins_with_the_next_as_its_limit_and_equal_bids_go_by_node() -> None:
    assert Sale([offer("c", 3.0), offer("b", 2.0), offer("a", 2.0)]).award(Grants()) == Award("a", 2.0)
    assert Sale([offer("c", 3.0)]).award(Grants()) == Award("c", None)
    assert Sale[str]([]).award(Grants()) is None


def test_a_winner_keeps_its_word_up_to_the_runner_up_and_any_word_without_one() -> None:
    assert accepts(offer("a", 2.0), 2.0)
    assert not accepts(offer("a", 2.1), 2.0)
    assert accepts(offer("a", 9.0), None)
    assert not accepts(None, None)


def test_who_refuses_bids_again_and_after_two_refusals_the_least_bid_must_take_it() -> None:
    sale = Sale([offer("a", 1.0), offer("b", 2.0), offer("c", 3.0)])
    sale.refused("a", offer("a", 4.0))
    assert sale.award(Grants()) == Award("b", 3.0)
    sale.refused("b", None)
    assert sale.award(Grants()) == Award("c", None)
    sale.refused("c", None)
    assert sale.award(Grants()) == Award("a", None)


def test_what_was_given_away_since_counts_against_a_bid() -> None:
    grants: Grants[str] = Grants()
    grants.add(offer("a", 3.0))
    assert grants.behind(offer("a", 2.0)) == Bid(5.0, "a", 3.0, 5.0)
    assert grants.behind(offer("a", 6.0, start=4.0)) == offer("a", 6.0, start=4.0)
    assert Sale([offer("a", 2.0), offer("b", 4.0)]).award(grants) == Award("b", 5.0)


def test_asked_are_the_hosts_of_the_parents_the_best_from_here_and_some_drawn_ones() -> None:
    times = {f"n{i:02}": float(i) for i in range(40)}
    view = Outlook(times, lambda node: Link(), {})
    asked = shortlist(view, [Input("n39", 0.0, 1), Input("gone", 0.0, 1)], Random(3))
    assert asked[0] == "n39"
    assert asked[1:9] == [f"n{i:02}" for i in range(8)]
    assert 9 <= len(asked) <= 11
    assert "gone" not in asked


def test_the_next_task_of_the_same_node_is_shown_to_others() -> None:
    view = Outlook({"a": 1.0, "b": 1.5, "c": 9.0}, lambda node: Link(), {})
    inputs = [Input("c", 0.0, 1)]
    assert [shortlist(view, inputs, Random(1), most=1)[1] for _ in range(3)] == ["a", "b", "a"]


def test_far_busy_and_unknown_nodes_look_bad() -> None:
    links = {"near": Link(1.0), "far": Link(9.0), "busy": Link(1.0), "odd": Link(nan)}
    view = Outlook(dict.fromkeys([*links, "unknown"], 1.0), links.get, {"busy": 5.0})
    asked = shortlist(view, [Input("gone", 0.0, 1)], Random(1), most=5)
    assert asked == ["near", "busy", "far", "odd", "unknown"]


def test_a_task_that_nobody_may_run_is_unplaceable() -> None:
    with pytest.raises(Unplaceable):
        shortlist(Outlook({}, lambda node: None, {}), [], Random(1))


def test_tasks_close_to_the_most_urgent_go_with_it_fewer_where_many_wait() -> None:
    rank = {"a": 100.0, "b": 98.0, "c": 96.0, "d": 97.5}
    ready = {"b", "c", "d"}
    assert frontier(rank, rank, ready.__contains__, nodes=100) == ["b", "d", "c"]
    assert frontier(rank, rank, ready.__contains__, nodes=int(2 / CROWD)) == ["b", "d"]
    assert frontier(rank, rank, lambda t: False, nodes=9) == []
