import random

from jupiter_agent.core.membership.rings import Rings


def rings_of(count: int, rings: int = 4) -> tuple[Rings, list[str]]:
    made, names = Rings(rings), [f"node{i}" for i in range(count)]
    for name in names:
        made.add(name)
    return made, names


def reached(links: dict[str, set[str]], among: set[str]) -> set[str]:
    start = min(among)
    seen, todo = {start}, [start]
    while todo:
        here = todo.pop()
        for other in among - seen:
            if other in links[here] or here in links[other]:
                seen.add(other)
                todo.append(other)
    return seen


def test_up_to_twice_as_many_members_as_rings_everybody_links_to_everybody():
    rings, names = rings_of(8)
    assert all(rings.targets(name, lambda _: False) == set(names) - {name} for name in names)


def test_above_that_a_member_links_to_one_successor_per_ring():
    rings, names = rings_of(100)
    assert all(1 <= len(rings.targets(name, lambda _: False)) <= 4 for name in names)


def test_the_survivors_of_a_third_dying_at_once_are_still_connected():
    rings, names = rings_of(60)
    links = {name: rings.targets(name, lambda _: False) for name in names}
    rng = random.Random(3)
    for _ in range(20):
        alive = set(names) - set(rng.sample(names, 18))
        assert reached(links, alive) == alive


def test_a_bad_edge_keeps_its_place_and_the_next_successor_steps_in():
    rings, names = rings_of(40)
    usual = rings.targets(names[0], lambda _: False)
    bad = min(usual)
    assert rings.targets(names[0], lambda peer: peer == bad) > usual


def test_one_death_moves_at_most_one_edge_per_ring():
    rings, names = rings_of(40)
    before = {name: rings.targets(name, lambda _: False) for name in names[1:]}
    rings.remove(names[0])
    after = {name: rings.targets(name, lambda _: False) for name in names[1:]}
    assert sum(len(after[name] - before[name]) for name in before) <= 4


def test_the_neighbours_of_a_member_are_those_that_link_with_it():
    rings, names = rings_of(30)
    callers = {name for name in names if names[0] in rings.targets(name, lambda _: False)}
    assert callers | rings.targets(names[0], lambda _: False) == set(rings.neighbours(names[0]))


def test_adding_and_removing_twice_is_harmless():
    rings, names = rings_of(5)
    rings.add(names[0])
    rings.remove("unknown")
    assert len(rings) == 5


def test_above_the_limit_there_is_one_ring_more():
    few, many = Rings(5, many=50), Rings(5, many=50)
    names = [f"node{i}" for i in range(51)]
    for name in names:
        many.add(name)
        if name != "node50":
            few.add(name)
    assert len(few.used()) == 4
    assert len(many.used()) == 5
    assert many.targets("node0", lambda _: False) - few.targets("node0", lambda _: False)


def test_members_that_cannot_be_opened_from_here_are_passed_over_until_one_can():
    rings, names = rings_of(40)
    shut = set(names[2:])
    assert rings.targets(names[0], lambda _: False, lambda peer: peer in shut) == {names[1]}
    assert rings.targets(names[0], lambda _: False, lambda peer: peer != names[0]) == set()
