"""Rows of `get nodes` and `get links`: what is known, and what is only guessed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from jupiter_agent.core.estimate import Links
from jupiter_agent.core.nodes import Nodes
from jupiter_agent.core.published import Published


def member(name: str) -> Any:
    record = SimpleNamespace(name=name, address=f"{name}:1", role="worker", boot=1, incarnation=0, version="0")
    return SimpleNamespace(record=record, state="alive", reachable=True, found_by="seed", rtt_s=None)


def nodes(links: Links, published: dict[tuple[str, str], dict[str, Any]]) -> Nodes:
    """As n1 sees itself, n2 and n3."""
    board = SimpleNamespace(get=lambda node, key: published.get((node, key)))
    ways: dict[str, bool | str] = {"n1": True, "n2": "n3", "n3": False}
    membership = SimpleNamespace(members=lambda: {f"n{k}": member(f"node{k}") for k in (1, 2, 3)}, reach=ways.get)
    return Nodes("n1", membership, links, Published(board))


def test_a_node_that_takes_no_more_tasks_is_shown_as_draining() -> None:
    rows = nodes(Links(), {("n1", "resources"): {"draining": True}, ("n2", "resources"): {"cpus": 2}}).rows(0.0)
    assert [row["draining"] for row in rows] == [True, False, False]


def test_how_a_node_is_reached_is_said_beside_its_state() -> None:
    rows = nodes(Links(), {}).rows(0.0)
    assert [(row["state"], row["reachable"]) for row in rows] == [
        ("alive", True),
        ("alive", "via node3"),
        ("alive", False),
    ]


def test_a_bandwidth_is_measured_only_when_something_was_transferred() -> None:
    links = Links()
    links.on_rtt("n2", 0.02, 1.0)
    links.on_rtt("n3", 0.02, 1.0)
    links.on_transfer("n3", 1000, 1.0, 1.0)
    rows = nodes(links, {("n2", "links"): {"n1": (0.01, 0.0), "n3": (0.01, 5e6)}}).link_rows(2.0)
    shown = {(row["src"], row["dst"]): (row["source"], row["bandwidth_source"]) for row in rows}
    assert shown == {
        ("node1", "node2"): ("measured", "estimated"),
        ("node1", "node3"): ("transfer", "estimated"),
        ("node2", "node1"): ("measured", "estimated"),
        ("node3", "node1"): ("measured", "transfer"),
        ("node2", "node3"): ("measured", "measured"),
    }


def test_a_link_is_shown_with_its_model_and_how_sure_it_is() -> None:
    links = Links()
    links.on_rtt("n2", 0.02, 1.0)
    links.on_transfer("n2", 1_000_000, 0.2, 1.0)
    links.on_told("n2", 1e-7)
    rows = {(row["src"], row["dst"]): row for row in nodes(links, {}).link_rows(3.0)}
    out, back, guess = (rows[pair] for pair in (("node1", "node2"), ("node2", "node1"), ("node1", "node3")))
    assert (out["q"], out["bandwidth_bps"], out["bandwidth_source"]) == (1e-7, 8e7, "measured")
    assert (back["samples"], back["age_s"], back["loss"], back["jitter_s"]) == (2, 2.0, 0.0, 0.0)
    assert 0 < back["variance"] < guess["variance"] == 1.0
    assert min(back["p"], back["q"], back["r"]) >= 0
    assert (guess["source"], guess["bandwidth_source"]) == ("estimated", "estimated")
