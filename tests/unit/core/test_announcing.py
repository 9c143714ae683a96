"""What a node says of itself, and how often."""

from __future__ import annotations

from typing import Any

from jupiter_agent.core.announcing import CROWD, EVERY_S, NET_AFTER_S, Announcer
from jupiter_agent.core.estimate import Links


class Members:
    """A membership of so many; `said`: (key, at, least time to the next) of what was published."""

    def __init__(self, size: int) -> None:
        self.size, self.said = size, list[tuple[str, float, float]]()

    def members(self) -> dict[str, Any]:
        return {f"n{i}": None for i in range(self.size)}

    def publish(self, key: str, value: dict[str, Any], now: float, every_s: float) -> None:
        self.said.append((key, now, every_s))


def announcer(size: int) -> tuple[Announcer, Members, Links]:
    members, links = Members(size), Links("n0")
    made = Announcer(members, links, lambda: 0)  # type: ignore[arg-type]
    made.says_net = True
    links.on_rtt("n1", 0.01, 0.0)
    return made, members, links


def first(members: Members, key: str) -> float:
    return min(at for said, at, _ in members.said if said == key)


def test_a_place_is_said_after_some_seconds_and_in_a_crowd_it_comes_later_with_the_links():
    for size, links_at, net_at in ((8, 0.0, NET_AFTER_S), (2 * CROWD, 3 * NET_AFTER_S, 4 * NET_AFTER_S)):
        made, members, _ = announcer(size)
        for second in range(60):
            made.say(0, float(second))
        assert links_at <= first(members, "links") < links_at + 2
        assert net_at <= first(members, "net") < net_at + 17


def test_in_a_crowd_each_says_it_so_much_less_often_that_the_sum_becomes_less():
    made, members, _ = announcer(2 * CROWD)
    made.resources = {"load": 1.0}
    made.say(0, 0.0)
    assert ("resources", 0.0, 4 * EVERY_S["resources"]) in members.said
    made.draining = True
    made.say(0, 1.0)
    assert ("resources", 1.0, 0.0) in members.said, "this is urgent"


def test_who_is_starved_says_nothing_of_the_network():
    made, members, _ = announcer(8)
    made.is_starved = lambda now: now < 20
    for second in range(30):
        made.say(0, float(second))
    assert first(members, "links") == 20.0
    assert first(members, "resources") == 0.0
