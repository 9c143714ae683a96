"""Bidders and auctions, letter by letter; times are literal."""

from __future__ import annotations

from math import nan
from random import Random

import pytest

from jupiter_agent.core.auction import (
    LAST_WAIT,
    LEASE_S,
    OFFERS_S,
    Auction,
    Bidder,
    Call,
    Given,
    Grant,
    Letter,
    Offer,
    Release,
    Reply,
)
from schedulers import bidding
from schedulers.auction import simulate
from schedulers.bidding import Bid, Input, Link
from schedulers.generate import layered, pinned
from schedulers.ranks import by_rank, upward_rank

KEY = ("job", "task", 1)


def bid(node: str, cost: float, start: float = 0.0) -> Bid[str]:
    return Bid(cost, node, start, cost)


def bidder(node: str = "me", **links: Link) -> Bidder:
    return Bidder(node, links.get)


def calling(now: float = 100.0, given: Given | None = None) -> Auction:
    auction = Auction(KEY, [Input("a", 1.0, 10)], ["a", "b", "c"], OFFERS_S, given)
    auction.start(now)
    return auction


def offers(auction: Auction, now: float = 100.0, **costs: float) -> list[Letter]:
    sent: list[Letter] = []
    for node, cost in costs.items():
        sent += auction.on_offer(node, Offer(KEY, bid(node, cost, 1.0)), now)
    return sent


def test_an_offer_is_in_plan_time_whatever_the_clock_says():
    for now in (0.0, 7777.0):
        mine = bidder(a=Link(0.5, 0.1))
        offer = mine.on_call(Call(KEY, (Input("a", 1.0, 10),)), 2.0, now)
        assert offer.bid == Bid(4.5, "me", 2.5, 4.5, receives_s=2.0, sends=(("a", 2.0),), arrives_s=2.5)
    assert mine.on_call(Call(KEY, ()), None, 0.0) == Offer(KEY, None)


def test_the_least_offer_is_granted_with_the_next_as_its_limit_once_all_answered():
    auction = calling()
    assert offers(auction, a=3.0, b=2.0) == []
    assert offers(auction, c=5.0) == [("b", Grant(KEY, (Input("a", 1.0, 10),), 3.0))]
    assert auction.on_reply("b", Reply(KEY, True, bid("b", 2.5, 1.0)), 101.0) == []
    assert auction.won == Bid(2.5, "b", 1.0, 2.5)
    assert auction.over


def test_who_does_not_offer_in_time_is_not_waited_for():
    auction = calling()
    assert offers(auction, a=3.0) == []
    assert auction.on_time(100.0 + OFFERS_S - 0.1) == []
    (letter,) = auction.on_time(100.0 + OFFERS_S)
    assert letter[0] == "a"
    assert isinstance(letter[1], Grant)
    assert letter[1].limit_s is None
    assert offers(auction, b=1.0) == []


def test_the_last_of_many_asked_are_not_waited_for_as_long_as_the_first():
    asked = [f"n{n}" for n in range(10)]
    auction = Auction(KEY, [], asked)
    auction.start(100.0)
    for node in asked[:6]:
        auction.on_offer(node, Offer(KEY, bid(node, 3.0)), 100.01)
    assert auction.due == 100.0 + OFFERS_S
    auction.on_offer("n6", Offer(KEY, bid("n6", 2.0)), 100.02)
    assert auction.due == pytest.approx(100.02 + OFFERS_S * LAST_WAIT)
    ((to, _),) = auction.on_time(auction.due)
    assert to == "n6"


def test_who_refuses_offers_again_and_the_third_must_take_it():
    auction = calling()
    offers(auction, a=1.0, b=2.0, c=3.0)
    (second,) = auction.on_reply("a", Reply(KEY, False, bid("a", 9.0, 1.0)), 100.0)
    assert second[0] == "b"
    (third,) = auction.on_reply("b", Reply(KEY, False, bid("b", 8.0, 1.0)), 100.0)
    assert third == ("c", Grant(KEY, (Input("a", 1.0, 10),), None))


def test_who_does_not_reply_is_told_to_release_and_the_next_gets_it():
    auction = calling()
    offers(auction, a=1.0, b=2.0, c=3.0)
    sent = auction.on_time(100.0 + OFFERS_S)
    assert sent[0] == ("a", Release(KEY))
    assert sent[1][0] == "b"
    assert auction.on_reply("a", Reply(KEY, True, bid("a", 1.0, 1.0)), 101.0) == [("a", Release(KEY))]
    assert auction.won is None
    auction.on_reply("b", Reply(KEY, True, bid("b", 2.0, 1.0)), 101.0)
    assert auction.won is not None
    assert auction.on_reply("b", Reply(KEY, True, bid("b", 2.0, 1.0)), 101.0) == []


def test_a_node_that_is_lost_loses_what_was_granted_to_it():
    auction = calling()
    offers(auction, a=1.0, b=2.0)
    (first,) = auction.lost("c", 100.0)
    assert first[0] == "a"
    (second,) = auction.lost("a", 100.0)
    assert second[0] == "b"
    assert auction.lost("b", 100.0) == []
    assert auction.failed


def test_without_bids_the_auction_fails():
    auction = calling()
    for node in "abc":
        assert auction.on_offer(node, Offer(KEY, None), 100.0) == []
    assert auction.failed
    nobody = Auction(KEY, [], [])
    assert nobody.start(0.0) == []
    assert nobody.failed


LIES = [bid("b", nan), bid("b", -5.0), Bid(1.0, "b", 3.0, 2.0), bid("b", 1.5, 0.5)]


@pytest.mark.parametrize("lie", LIES)
def test_an_offer_of_no_numbers_or_from_before_its_inputs_wins_nothing_and_is_counted(lie):
    auction = calling()
    offers(auction, a=9.0, c=8.0)
    (letter,) = auction.on_offer("b", Offer(KEY, lie), 100.0)
    assert letter[0] == "c"
    assert auction.dropped == 1


def test_what_a_bid_says_about_the_cards_of_others_is_kept_for_hosts_of_the_parents_only():
    auction = Auction(KEY, [Input("a", 1.0, 10)], ["b"])
    auction.start(100.0)
    auction.on_offer("b", Offer(KEY, bid("b", 2.0, 1.0)), 100.0)
    said = (("a", 3.0), ("stranger", 1.0), ("a", nan))
    auction.on_reply("b", Reply(KEY, True, Bid(2.0, "b", 1.0, 2.0, sends=said)), 100.0)
    assert auction.won is not None
    assert auction.won.sends == (("a", 3.0),)


def test_nobody_bids_in_the_name_of_another():
    auction = calling()
    offers(auction, a=9.0, c=8.0)
    (letter,) = auction.on_offer("b", Offer(KEY, bid("a", 1.0, 1.0)), 100.0)
    assert letter[0] == "b"
    assert auction.on_offer("stranger", Offer(KEY, bid("stranger", 0.5)), 100.0) == []


def test_what_this_node_gave_away_or_promised_counts_against_older_offers():
    given = Given()
    auction, other = calling(given=given), Auction(("job", "other", 1), [Input("a", 1.0, 10)], ["a"], OFFERS_S, given)
    offers(auction, a=3.0, b=4.0)
    other.start(100.0)
    assert other.on_offer("a", Offer(other.key, bid("a", 3.0, 1.0)), 100.0)
    (letter,) = offers(auction, c=5.0)
    assert letter == ("b", Grant(KEY, (Input("a", 1.0, 10),), 5.0))


def test_a_promise_that_was_refused_counts_no_longer():
    given = Given()
    auction, other = calling(given=given), Auction(("job", "other", 1), [Input("a", 1.0, 10)], ["a"], OFFERS_S, given)
    offers(auction, a=3.0, b=4.0)
    other.start(100.0)
    other.on_offer("a", Offer(other.key, bid("a", 3.0, 1.0)), 100.0)
    other.on_reply("a", Reply(other.key, False, None), 100.0)
    assert other.failed
    (letter,) = offers(auction, c=5.0)
    assert letter[0] == "a"


def test_who_was_promised_a_task_that_others_decided_is_told():
    auction = calling()
    offers(auction, a=1.0, b=2.0, c=3.0)
    assert auction.withdraw() == [("a", Release(KEY))]
    assert auction.over
    assert calling().withdraw() == []


def test_a_grant_reserves_and_the_same_grant_again_changes_nothing():
    mine = bidder()
    grant = Grant(KEY, (), 2.0)
    assert mine.on_grant(grant, 2.0, 10.0) == Reply(KEY, True, Bid(2.0, "me", 0.0, 2.0))
    assert mine.on_grant(grant, 2.0, 11.0) == Reply(KEY, True, Bid(2.0, "me", 0.0, 2.0))
    same_job = mine.on_call(Call(("job", "other", 1), ()), 2.0, 11.0)
    assert same_job.bid == Bid(4.0, "me", 2.0, 4.0), "mapping takes no time in the plan"


def test_plans_of_two_jobs_share_one_timeline_each_from_its_own_zero():
    mine = bidder()
    mine.on_grant(Grant(KEY, (), None), 5.0, 10.0)
    other = mine.on_call(Call(("later", "task", 1), ()), 2.0, 12.0)
    assert other.bid == Bid(pytest.approx(5.0), "me", pytest.approx(3.0), pytest.approx(5.0))
    mine.on_grant(Grant(("later", "task", 1), (), None), 2.0, 12.0)
    again = mine.on_call(Call(("job", "next", 1), ()), 1.0, 12.0).bid
    assert again is not None
    assert again.start_s == pytest.approx(7.0)


def test_a_bidder_refuses_what_it_can_no_longer_keep():
    mine = bidder()
    mine.on_grant(Grant(KEY, (), None), 2.0, 10.0)
    other = ("job", "other", 1)
    assert mine.on_grant(Grant(other, (), 2.5), 2.0, 10.0) == Reply(other, False, Bid(4.0, "me", 2.0, 4.0))
    assert mine.on_grant(Grant(other, (), None), 2.0, 10.0).taken


def test_two_idle_nodes_with_equal_offers_do_not_refuse_because_letters_take_time():
    auction, first = Auction(KEY, [], ["a", "b"]), Bidder("a", lambda host: None)
    auction.start(100.0)
    assert auction.on_offer("a", first.on_call(Call(KEY, ()), 2.0, 7.1), 100.2) == []
    ((to, grant),) = auction.on_offer("b", Offer(KEY, bid("b", 2.0)), 100.3)
    assert to == "a"
    assert isinstance(grant, Grant)
    assert first.on_grant(grant, 2.0, 7.4).taken


def test_a_reservation_ends_with_its_lease_or_when_it_is_released():
    mine = bidder()
    mine.on_grant(Grant(KEY, (), None), 60.0, 10.0)
    assert mine.renew(KEY, 12.0)
    mine.forget(12.0 + LEASE_S - 0.1)
    assert KEY in mine.held
    assert not mine.renew(KEY, 12.0 + LEASE_S)
    assert mine.on_call(Call(KEY, ()), 1.0, 20.0).bid == bid("me", 1.0)
    mine.on_grant(Grant(KEY, (), None), 60.0, 20.0)
    mine.release(KEY)
    assert not mine.held


@pytest.mark.parametrize("charged", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_live_nodes_decide_as_the_simulated_ones_given_the_same_knowledge(seed, charged, monkeypatch):
    """Everybody is asked, one task after another in the order of ranks."""
    monkeypatch.setattr(bidding, "WINDOW", 0.0)
    monkeypatch.setattr(bidding, "CROWDED_WINDOW", 0.0)
    p = pinned(layered(25, 6, seed), seed)
    plan = simulate(p, bidders=6, seed=seed, contention=charged).schedule
    names = [f"n{n}" for n in range(6)]

    def links(target):
        return lambda host: Link(float(p.latency[int(host[1:]), target]), float(p.inv_rate[int(host[1:]), target]))

    nodes = {name: Bidder(name, links(n), charged) for n, name in enumerate(names)}
    placed: dict[int, Bid[str]] = {}
    sends = dict.fromkeys(names, 0.0)
    for t in by_rank(p, upward_rank(p)):
        hosts = [(placed[u], data) for u, data in p.parents[t]]
        inputs = [Input(b.node, b.finish_s, data, sends[b.node]) for b, data in hosts]
        auction = Auction(("job", str(t), 1), inputs, [names[n] for n in p.nodes_for(t)])
        letters = auction.start(0.0)
        Random(seed).shuffle(letters)
        while letters:
            to, letter = letters.pop()
            exec_s = float(p.times[t, int(to[1:])])
            if isinstance(letter, Call):
                letters += auction.on_offer(to, nodes[to].on_call(letter, exec_s, 0.0), 0.0)
            elif isinstance(letter, Grant):
                letters += auction.on_reply(to, nodes[to].on_grant(letter, exec_s, 0.0), 0.0)
        assert auction.won is not None
        placed[t] = auction.won
        sends.update(auction.won.sends)
    assert [placed[t].node for t in range(25)] == [names[n] for n in plan.node]
    assert [placed[t].start_s for t in range(25)] == pytest.approx(plan.start.tolist())
