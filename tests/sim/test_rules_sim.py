"""A WAVE rule of a third party in simulated clusters: installed everywhere, nowhere, or broken."""

import importlib.metadata

import pytest
from job_apps import DIAMOND, make
from job_grid import finish, formed, refused, verify

from schedulers import rules

pytestmark = pytest.mark.smoke

ITEMS = {f"i{n}": b"x%d" % n for n in range(6)}


class Point:
    """An entry point."""

    def __init__(self, name: str, value: object) -> None:
        self.name, self.value = name, value

    def load(self) -> object:
        return self.value


def install(monkeypatch: pytest.MonkeyPatch, **found: object) -> None:
    points = [Point(name, value) for name, value in found.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == rules.GROUP else [])


def last(view: rules.View) -> str:
    return max(node.name for node in view.nodes)


def broken(view: rules.View) -> str:
    raise RuntimeError("no idea")


def test_a_rule_maps_every_task_on_the_node_of_its_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, last=last)
    grid = formed(5)
    app, recipe = make(DIAMOND)
    job = grid.submit("node1", app, ITEMS, mapper="last")["id"]
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, ITEMS)
    row = grid.ask("node2", "describe", kind="job", id=job)
    assert row["mapper"] == "wave-rule:last"
    assert set(row["mapping"].values()) == {"node5"}
    assert {register["decided_by"] for register in row["registers"]} == {"node1", "node5"}


def test_a_rule_that_raises_leaves_the_job_to_the_greedy_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, broken=broken)
    grid = formed(4)
    app, recipe = make(DIAMOND)
    job = grid.submit("node1", app, ITEMS, mapper="broken")["id"]
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, ITEMS)
    told = grid.ask("node1", "explain", job=job)["tasks"]
    assert all(row["why"].startswith("rule broken failed: RuntimeError: no idea; lowest cost") for row in told)


def test_nodes_may_die_while_a_rule_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, last=last)
    grid = formed(5)
    app, recipe = make(DIAMOND, seconds=0.3)
    job = grid.submit("node1", app, ITEMS, mapper="last")["id"]
    grid.crash("node5")
    assert finish(grid, "node1", job) == "completed"
    verify(grid, "node1", job, recipe, ITEMS)


def test_an_unknown_rule_is_refused_at_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, last=last)
    grid = formed(3)
    app, _ = make(DIAMOND)
    grid.install(app, "node1")
    code, error, hint = refused(grid, "node1", "submit", bundle=app.bundle.hex(), size=len(app.spec.name), app="x",
                                mapper="lost")  # fmt: skip
    assert (code, error) == (2, "unknown mapper 'lost'")
    assert "did you mean 'last'?" in hint
