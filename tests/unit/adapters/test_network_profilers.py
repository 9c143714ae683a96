"""Network profilers of third parties, and the conformance test every one passes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from jupiter_agent.adapters.network_profilers import GROUP, MOST, Guarded, conforms, find, measured
from jupiter_agent.core.events import LinkMeasured
from jupiter_agent.errors import UsageError

PEERS = {"node2": "10.0.0.2:7421", "node3": "10.0.0.3:7421"}


class Fixed:
    def __init__(self, rows: Any = None) -> None:
        self.rows = rows

    def read(self, now: float, peers: Mapping[str, str]) -> Iterable[tuple[Any, ...]]:
        if isinstance(self.rows, Exception):
            raise self.rows
        return [("rtt", peer, 0.01) for peer in peers] if self.rows is None else self.rows


def third_party(folder: str) -> Fixed:
    return Fixed()


def install(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    points = EntryPoints([EntryPoint("mine", value, GROUP)])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))


def test_an_installed_profiler_is_found_by_name_and_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, f"{__name__}:third_party")
    found = find("mine")
    assert found is not None
    conforms(found, "/", time.monotonic)
    assert find("builtin") is None


def test_a_name_nobody_has_and_one_that_does_not_load_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "no_such_module:f")
    with pytest.raises(UsageError, match="no network profiler is called 'yours'"):
        find("yours")
    with pytest.raises(UsageError, match="does not load: ModuleNotFoundError"):
        find("mine")


def test_measurements_become_events() -> None:
    rows = [("rtt", "node2", 0.01), ["bytes", "node3", 1000, 0.5], ("lost", "node2")]
    good, wrong = measured(rows, PEERS)
    assert good == [LinkMeasured("node2", 0, 0.01), LinkMeasured("node3", 1000, 0.5), LinkMeasured("node2", 0, 0.0)]
    assert wrong == []


@pytest.mark.parametrize(
    "row",
    [("rtt", "node2", -1.0), ("rtt", "node2", float("nan")), ("rtt", "node2", 1e300), ("bytes", "node2", -5, 1.0),
     ("bytes", "node2", 10, 0.0), ("rtt", "nobody", 0.1), ("speed", "node2", 1.0), ("rtt",), (), 7, None, "rtt"],
)  # fmt: skip
def test_what_is_no_measurement_is_left_out_and_the_rest_counts(row: Any) -> None:
    good, wrong = measured([row, ("rtt", "node2", 0.01)], PEERS)
    assert good == [LinkMeasured("node2", 0, 0.01)]
    assert len(wrong) == 1


def test_a_profiler_that_raises_or_floods_is_told_of_once_and_costs_nothing_else() -> None:
    for rows in (RuntimeError("broken"), 5, "text", [("rtt", "node2", 0.01)] * (MOST + 1)):
        said: list[str] = []
        guarded = Guarded(Fixed(rows), said.append)
        assert len(guarded.read(1.0, PEERS)) == len(guarded.read(2.0, PEERS)) <= MOST
        assert len(said) == 1


def test_the_conformance_test_finds_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="no measurement"):
        conforms(lambda folder: Fixed([("rtt", "node9", 0.1)]), "/", time.monotonic)
    late = iter(range(100))
    with pytest.raises(AssertionError, match="stands still"):
        conforms(third_party, "/", lambda: float(next(late)))
