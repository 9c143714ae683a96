"""The seed set alone, with literal time, and what the joiner makes of hints that others can forge."""

from __future__ import annotations

import itertools
import random

import pytest
from membership_rig import Peer, Rig

from jupiter_agent.core import events
from jupiter_agent.core.effects import Browse, Halt, LookUp, SendJoin
from jupiter_agent.core.events import Hint, SeedsFound
from jupiter_agent.core.membership.seeds import CONFIGURED, LASTS_S, MOST, MOST_NAMES, OVERHEARD, SOURCES, SeedSet
from jupiter_agent.core.messages.membership import Welcome
from jupiter_agent.sim.trust import FakeAuthority


def seed_set(now: float = 0.0) -> SeedSet:
    return SeedSet(10.0, (1.0, 9.0), random.Random(3), now)


def tries(seeds: SeedSet, alive: tuple[str, ...] = ()) -> list[str]:
    """All that are tried in the rest of this round."""
    tried = []
    while (seed := seeds.next(alive, ())) is not None:
        tried.append(seed.address)
    return tried


# --- every source ---


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_source_names_is_tried_once_a_round_and_known_by_its_name(source):
    seeds = seed_set()
    assert seeds.add(Hint("a:1", source), 0.0)
    assert tries(seeds) == ["a:1"]
    assert tries(seeds) == []
    seeds.begin_round(1.0)
    assert tries(seeds) == ["a:1"]
    assert seeds.found_by("a:1") == source
    assert seeds.found_by("b:1") == "gossip"


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_has_a_bounded_number_of_seeds_and_leaves_room_for_others(source):
    seeds = seed_set()
    for i in range(5 * MOST):
        seeds.add(Hint(f"h{i}:1", source), 0.0)
    assert len(seeds) == MOST
    assert seeds.dropped == 4 * MOST
    other = next(each for each in SOURCES if each != source)
    assert seeds.add(Hint("other:1", other), 0.0)
    assert len(seeds) == MOST + 1


@pytest.mark.parametrize("source", SOURCES)
def test_only_hints_end_and_not_while_they_are_said_again(source):
    seeds, lasts = seed_set(), LASTS_S.get(source)
    seeds.add(Hint("a:1", source), 0.0)
    seeds.add(Hint("a:1", source), 50.0)
    seeds.begin_round(50.0 + (lasts or 1e6) - 1)
    assert "a:1" in seeds
    seeds.begin_round(50.0 + (lasts or 1e6))
    assert ("a:1" in seeds) is (lasts is None)


@pytest.mark.parametrize("source", SOURCES)
def test_who_lives_is_left_alone_by_address_and_by_the_id_expected_there(source):
    seeds = seed_set()
    seeds.add(Hint("a:1", source), 0.0)
    seeds.add(Hint("b:1", source, "node-b"), 0.0)
    assert seeds.next({"a:1"}, {"node-b"}) is None


def test_what_the_user_said_is_never_pushed_out_and_a_flood_of_hints_only_pushes_out_hints():
    seeds = seed_set()
    seeds.add(Hint("mine:1", "join"), 0.0)
    seeds.add(Hint("true:1", "beacon"), 0.0)
    for i in range(10_000):
        seeds.add(Hint(f"h{i}:1", "mdns"), 0.0)
    assert "mine:1" in seeds
    assert "true:1" in seeds
    assert len(seeds) == MOST + 2


def test_each_kind_of_source_has_an_equal_share_of_the_tries():
    firsts = []
    for number in range(300):
        seeds = SeedSet(10.0, (1.0, 9.0), random.Random(number), 0.0)
        seeds.add(Hint("true:1", "dns"), 0.0)
        for i in range(MOST):
            seeds.add(Hint(f"h{i}:1", "mdns"), 0.0)
        seed = seeds.next((), ())
        firsts.append(seed is not None and seed.address)
    assert 100 < firsts.count("true:1") < 200


def test_a_stronger_source_takes_a_seed_over_and_a_weaker_changes_nothing():
    seeds = seed_set()
    seeds.add(Hint("a:1", "mdns", "forged"), 0.0)
    assert seeds.add(Hint("a:1", "dns"), 1.0)
    assert seeds.found_by("a:1") == "dns"
    assert not seeds.add(Hint("a:1", "mdns", "forged"), 2.0)
    assert seeds.next((), {"forged"}) is not None


@pytest.mark.parametrize("named", [("remembered", "dns"), ("dns", "remembered")])
def test_a_seed_that_was_configured_once_stays_so_whoever_names_it_besides(named):
    seeds = seed_set()
    for source in named:
        seeds.add(Hint("h:1", source), 0.0)
    [seed] = seeds._seeds.values()
    assert (seed.found_by, seed.configured) == ("remembered", True)
    seeds.add(Hint("h:2", "remembered"), 0.0)
    assert not seeds._seeds["h:2"].configured


def test_rounds_begin_every_second_for_ten_seconds_and_every_nine_later():
    seeds, now, begun = seed_set(), 0.0, []
    while now < 100.0:
        seeds.begin_round(now)
        begun.append(now)
        now = seeds.due
    assert 8 <= len([when for when in begun if when < 10.0]) <= 15
    assert all(6.3 <= later - when <= 11.7 for when, later in itertools.pairwise(begun) if when >= 10.0)


def test_names_are_looked_up_in_every_round_and_are_few():
    seeds = seed_set()
    for i in range(MOST_NAMES + 5):
        seeds.add_name(f"service{i}:7421")
    assert len(seeds.begin_round(0.0)) == MOST_NAMES
    assert LookUp("service3:7421") in seeds.begin_round(9.0)
    assert seeds.dropped == 5


def test_one_listens_around_until_there_is_company_and_again_when_alone():
    seeds = seed_set()
    assert seeds.browse(0) == [], "nobody told it that there is something to listen to"
    seeds.listen()
    assert seeds.browse(0) == [Browse(True)]
    assert seeds.browse(2) == []
    assert seeds.browse(3) == [Browse(False)]
    assert seeds.browse(1) == [], "not alone yet"
    assert seeds.browse(0) == [Browse(True)]


def test_without_any_seed_name_or_source_there_is_no_hope():
    assert seed_set().is_hopeless
    for give in (lambda s: s.add(Hint("a:1", "join"), 0.0), lambda s: s.add_name("s:1"), SeedSet.listen):
        seeds = seed_set()
        give(seeds)
        assert not seeds.is_hopeless


# --- in membership ---


def found(rig: Rig, *hints: Hint) -> None:
    rig.event(SeedsFound(hints))


@pytest.mark.parametrize("source", SOURCES)
def test_a_member_found_by_any_source_says_so(source):
    rig, one = Rig(), Peer("one")
    found(rig, Hint("10.0.0.1:7000", source))
    assert [effect.address for effect in rig.of(SendJoin)] == ["10.0.0.1:7000"], "at once"
    authority = FakeAuthority()
    welcome = Welcome(authority.issue(rig.me), b"", 0, [one.record], authority.public())
    rig.event(events.JoinAnswered("10.0.0.1:7000", welcome))
    assert rig.machine.members()[one.id].found_by == source


def test_this_node_itself_is_no_seed_whatever_its_address_is_called():
    rig = Rig()
    found(rig, Hint(rig.me.address, "beacon"), Hint("alias:7000", "mdns", rig.me.id))
    rig.run_to(30.0)
    assert not rig.of(SendJoin)


def test_hints_beyond_what_a_source_may_name_are_counted():
    rig = Rig()
    found(rig, *(Hint(f"10.0.0.{i}:7000", "mdns") for i in range(MOST + 7)))
    rig.run_to(10.0)
    assert rig.machine.counters["seeds_dropped"] == 7


def test_a_name_is_looked_up_again_with_every_retry():
    rig = Rig()
    rig.machine.seeds.add_name("agents.default.svc:7421")
    rig.run_to(100.0)
    asked = rig.of(LookUp)
    assert 16 <= len(asked) <= 28
    assert {effect.address for effect in asked} == {"agents.default.svc:7421"}


def test_a_worker_without_seeds_waits_when_something_around_may_speak_up():
    rig = Rig(admin=False, waiting=True)
    assert not rig.of(Halt)
    assert rig.of(Browse) == [Browse(True)]
    found(rig, Hint("10.0.0.1:7000", "mdns"))
    assert rig.of(SendJoin)


@pytest.mark.parametrize("source", SOURCES)
def test_who_closes_the_door_on_us_stops_us_only_if_the_user_named_it(source):
    rig = Rig(admin=False, waiting=True)
    found(rig, Hint("10.0.0.1:7000", source))
    rig.event(events.JoinAnswered("10.0.0.1:7000", None, "unauthorised"))
    assert bool(rig.of(Halt)) is (source in CONFIGURED)
    assert rig.machine.counters["hints_false"] == (source in OVERHEARD)


def test_an_answer_for_a_hint_that_has_ended_meanwhile_holds_nothing_up():
    rig = Rig(admin=False, waiting=True)
    found(rig, Hint("10.0.0.1:7000", "beacon"))
    rig.now = 61.0
    rig.machine.seeds.begin_round(61.0)
    found(rig, Hint("10.0.0.2:7000", "beacon"))
    rig.event(events.JoinAnswered("10.0.0.1:7000", None, "timeout"))
    assert rig.of(SendJoin)[-1].address == "10.0.0.2:7000"
