"""WAVE rules of third parties: what they see, what they may answer, and a whole problem mapped by one."""

from __future__ import annotations

import importlib.metadata

import msgspec
import numpy as np
import pytest

from schedulers import Problem, rules, schedule
from schedulers.rules import Input, Seen, View

NODES = (Seen("n1", 2.0, 1.0, 0.0, 2.0, 0.1, 0), Seen("n2", None, 2.0, 1.5, 2.0, 0.5, 3))
VIEW = View("t", "n1", NODES, (Input("p", "n1", 100.0),), {("n1", "n2"): (0.5, 200.0)}, 7)


def install(monkeypatch: pytest.MonkeyPatch, **found: object) -> None:
    """Entry points of both groups by name, as if a package had brought them."""

    class Point:
        def __init__(self, name: str, value: object) -> None:
            self.name, self.value = name, value

        def load(self) -> object:
            return self.value

    points = [Point(name, value) for name, value in found.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == rules.GROUP else [])


def test_a_view_predicts_transfers_from_what_is_known_of_links() -> None:
    assert VIEW.transfer_s("n1", "n2", 100.0) == 1.0
    assert VIEW.transfer_s("n1", "n1", 100.0) == 0.0
    assert VIEW.transfer_s("n2", "n1", 100.0) is None


def test_a_view_survives_the_way_into_another_process() -> None:
    packed = msgspec.msgpack.encode(rules.to_plain(VIEW))
    assert rules.from_plain(msgspec.msgpack.decode(packed)) == VIEW


def test_a_choice_must_be_the_name_of_a_node_that_was_shown() -> None:
    assert rules.ask(lambda view: "n2", VIEW) == "n2"
    for wrong in ("n3", "", None, 1, ["n1"], float("nan"), "x" * 10_000):
        with pytest.raises(ValueError, match="none of the 2 nodes"):
            rules.ask(lambda view, wrong=wrong: wrong, VIEW)


def test_a_rule_maps_a_whole_problem_under_the_name_of_a_mapper(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[View] = []

    def fewest(view: View) -> str:
        seen.append(view)
        return min(view.nodes, key=lambda node: (node.committed, node.name)).name

    install(monkeypatch, fewest=fewest)
    links = [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    p = Problem(np.ones((4, 3)), [(0, 1, 5), (0, 2, 5), (0, 3, 5)], links, links)
    assert rules.names() == ["fewest"]
    assert sorted(schedule("wave-rule:fewest", p).node.tolist()) == [0, 0, 1, 2]
    assert [view.task for view in seen] == ["1", "2", "3"]
    assert seen[0].inputs == (Input("0", "0", 5),)
    assert set(seen[0].links) == {("0", "1"), ("0", "2")}


def test_a_rule_that_is_not_installed_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, calm=lambda view: "")
    with pytest.raises(KeyError, match="no rule is called 'mine'; installed: calm"):
        rules.load("mine")
