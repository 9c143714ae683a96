"""Names that no third party can take, for a mapper or a rule, wherever names are listed and asked for."""

from __future__ import annotations

import importlib.metadata
import warnings
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

import schedulers
from jupiter_agent.cli.ctl import completing
from jupiter_agent.core.submit_args import known_mappers, mapper_name
from jupiter_agent.errors import UsageError
from schedulers import registry, rules

TAKEN = ["heft", "wave-greedy", "wave-greedy-v4", "wave-foo", "wave-rule:foo", "static"]


@pytest.fixture(params=[registry.GROUP, rules.GROUP])
def squatter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that registers all of these, and one name that is free. None can be loaded."""
    found = EntryPoints(EntryPoint(name, "nothing:there", request.param) for name in [*TAKEN, "mine"])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found.select(group=group))


@pytest.mark.usefixtures("squatter")
@pytest.mark.filterwarnings("ignore:entry point")
def test_names_that_are_taken_are_listed_nowhere_for_a_third_party() -> None:
    ours = sorted(registry.BUILT_IN)
    assert [*schedulers.names(), *rules.names()] in (sorted([*ours, "mine"]), [*ours, "mine"])
    assert sorted({*known_mappers()} - {*ours}) == ["mine"]
    assert len(known_mappers()) == len({*known_mappers()})


@pytest.mark.usefixtures("squatter")
@pytest.mark.filterwarnings("ignore:entry point")
@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_is_taken_means_what_it_meant_without_the_package(name: str) -> None:
    p = schedulers.Problem([[1.0]], [], np.zeros((1, 1)), np.zeros((1, 1)))
    if name in registry.BUILT_IN:
        schedulers.schedule(name, p).check(p)
    else:
        with pytest.raises(KeyError, match="is called"):
            schedulers.schedule(name, p)
    with pytest.raises(KeyError, match="no rule is called"):
        rules.load(name)
    with pytest.raises(UsageError, match="unknown mapper"):
        mapper_name(rules.PREFIX + name)
    if name in ("heft", "wave-greedy"):
        assert mapper_name(name) == name
    else:
        with pytest.raises(UsageError, match="unknown mapper"):
            mapper_name(name)


@pytest.mark.usefixtures("squatter")
def test_a_package_that_takes_such_a_name_is_told() -> None:
    with pytest.warns(UserWarning, match="is ignored") as told:
        known_mappers()
    assert {name for name in TAKEN for each in told if f"'{name}'" in str(each.message)} == {*TAKEN}


@pytest.mark.usefixtures("squatter")
def test_completing_a_name_prints_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "mine" in completing.mapper(None, "")  # it does not look at the context
