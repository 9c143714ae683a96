"""Resource profilers of third parties, and the conformance test every one passes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from jupiter_agent.adapters.resources import GROUP, Guarded, conforms, find, fits
from jupiter_agent.adapters.sensors import Sensors
from jupiter_agent.errors import UsageError


class Fixed:
    def __init__(self, values: Any) -> None:
        self.values = values

    def read(self, now: float) -> Mapping[str, Any]:
        if isinstance(self.values, Exception):
            raise self.values
        return self.values  # type: ignore[no-any-return]


def third_party(folder: str) -> Fixed:
    return Fixed({"gpus": 2, "gpu": "own", "temperature_c": 41.5})


def install(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    points = EntryPoints([EntryPoint(name, value, GROUP)])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))


def test_the_built_in_sensors_conform() -> None:
    conforms(lambda folder: Sensors(folder, 1.0), "/", time.monotonic)


def test_an_installed_profiler_is_found_by_name_and_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "mine", f"{__name__}:third_party")
    found = find("mine")
    assert found is not None
    conforms(found, "/", time.monotonic)
    assert find("builtin") is None


def test_a_name_nobody_has_and_one_that_does_not_load_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "mine", "no_such_module:f")
    with pytest.raises(UsageError, match="no resource profiler is called 'yours'"):
        find("yours")
    with pytest.raises(UsageError, match="does not load: ModuleNotFoundError"):
        find("mine")


@pytest.mark.parametrize(
    "values",
    [[1], {1: 2}, {"cpus": -1}, {"cpus": float("nan")}, {"speed": 1e300}, {"load": "high"}, {"x": "y" * 2000},
     {"labels": {"a": 1}}, {"x": object()}],
)  # fmt: skip
def test_what_cannot_be_published_does_not_fit_and_is_said_once(values: Any) -> None:
    said: list[str] = []
    guarded = Guarded(Fixed(values), said.append)
    assert fits(values)
    assert [guarded.read(1.0), guarded.read(2.0)] == [{}, {}]
    assert len(said) == 1
    with pytest.raises(AssertionError):
        conforms(lambda folder: Fixed(values), "/", time.monotonic)


def test_a_profiler_that_raises_costs_its_reading_only() -> None:
    said: list[str] = []
    assert Guarded(Fixed(OSError("gone")), said.append).read(1.0) == {}
    assert said == ["a reading of the resource profiler is left out: OSError: gone"]
