from __future__ import annotations

from jupiter_agent.core.intake import Item
from jupiter_agent.core.items import Items
from jupiter_agent.core.messages.jobs import HomeVersion, Obj

VERSION = HomeVersion(1, "home", 1)


def over(name: str, state: str = "done") -> Item:
    result = ("sink", Obj("out", b"r" * 32, 5))
    parts = {"first": [Obj(name, b"i" * 32, 3, b"abc")]}
    return Item(name, (VERSION, 7), parts, 1.5, state, 2, 3.5, [result], inside=[("home", 4, "first")], decided=VERSION)


def test_an_item_that_is_over_comes_back_as_it_was_put() -> None:
    items = Items()
    items["i"] = over("i")
    assert items["i"] == over("i")
    assert items["i"] is not items["i"]  # it is held packed


def test_an_open_item_is_the_object_that_was_put() -> None:
    items = Items()
    item = items.setdefault("i", Item("i", (VERSION, 1), {}, 0.0))
    assert items["i"] is item
    assert list(items.open()) == [item]


def test_states_are_told_in_the_order_of_arrival_and_a_later_value_replaces_an_earlier_one() -> None:
    items = Items()
    items["a"] = Item("a", (VERSION, 1), {}, 0.0)
    items["b"] = over("b", "failed")
    items["c"] = over("c", "cancelled")
    items["a"] = over("a")
    assert list(items.states()) == [("a", "done"), ("b", "failed"), ("c", "cancelled")]
    assert (len(items), "a" in items, "d" in items, list(items.open())) == (3, True, False, [])


def test_the_last_end_is_the_latest_of_all() -> None:
    items = Items()
    assert items.last_end is None
    items["a"] = over("a")
    items["b"] = Item("b", (VERSION, 2), {}, 0.0, "done", finished_at=2.0)
    assert items.last_end == 3.5


def test_ten_thousand_items_that_are_over_take_less_than_a_kilobyte_each() -> None:
    import tracemalloc

    tracemalloc.start()
    items = Items()
    for n in range(10_000):
        items[f"{n:08}"] = over(f"{n:08}")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held / 10_000 < 500
