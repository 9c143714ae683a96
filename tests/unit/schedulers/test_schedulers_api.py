from __future__ import annotations

import importlib.metadata
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import schedulers
from schedulers.errors import Infeasible

README = Path(__file__).parents[3] / "README.md"

pytestmark = pytest.mark.filterwarnings("ignore:entry point 'heft'")

OURS = [
    "cpop",
    "heft",
    "heft-balanced",
    "peft",
    "portfolio",
    "tp-heft",
    "wave-auction",
    "wave-greedy",
    "wave-greedy-v4",
    "wave-random",
]


def two_nodes() -> schedulers.Problem:
    return schedulers.Problem([[2, 1], [1, 2]], [(0, 1, 0)], np.zeros((2, 2)), np.zeros((2, 2)))


def test_deciding_with_plain_python_loads_neither_numpy_nor_networkx() -> None:
    code = (
        "import sys, schedulers, schedulers.local, schedulers.bidding; schedulers.names();"
        "from schedulers import Unplaceable, names, schedule;"
        "print({'numpy', 'networkx'} & set(sys.modules), schedule)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("set() <function schedule")


def test_mapping_and_bringing_arrays_loads_no_networkx() -> None:
    code = (
        "import sys; from schedulers import Problem, Schedule, schedule;"
        "s = schedule('heft', Problem([[1.0]], [], [[0]], [[0]])); assert isinstance(s, Schedule);"
        "print('networkx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_package_offers_exactly_the_library_of_the_design() -> None:
    assert schedulers.__all__ == ["Problem", "Schedule", "Unplaceable", "names", "schedule"]
    with pytest.raises(AttributeError, match="no attribute 'Planner'"):
        schedulers.Planner  # noqa: B018


def test_the_docstring_of_the_package_names_every_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(schedulers.__path__)}
    assert schedulers.__doc__ is not None
    listed = [line[4:30] for line in schedulers.__doc__.splitlines() if re.match(r"    [a-z, ]+   ", line)]
    inside = re.findall(r"`(\w+)`", schedulers.__doc__)
    assert modules - {*re.findall(r"\w+", " ".join(listed)), *inside} == set()


def test_the_section_of_the_readme_runs_as_written_prints_what_it_says_and_names_every_mapper() -> None:
    section = README.read_text().partition("## Schedulers as a library")[2].partition("\n## ")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    printing = [line for line in code.splitlines() if line.startswith("print")]
    assert out == [line.partition("# ")[2].partition(":")[0] for line in printing]
    assert {*OURS} <= {*re.findall(r"`([\w-]+)`", section)}


def test_no_module_hides_the_schedule_function() -> None:
    schedulers.schedule("wave-greedy", two_nodes())
    assert callable(schedulers.schedule)


@pytest.mark.parametrize("name", OURS)
def test_every_mapper_takes_seed_and_contention(name: str) -> None:
    assert name in schedulers.names()
    p = two_nodes()
    schedulers.schedule(name, p, seed=3, contention=True).check(p)


def test_an_unknown_mapper_is_a_key_error_that_lists_the_known() -> None:
    with pytest.raises(KeyError, match=", ".join(OURS)):
        schedulers.schedule("simulated-annealing", two_nodes())


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        schedulers.schedule("heft", two_nodes(), speed="high")


@pytest.mark.parametrize("name", OURS)
def test_a_task_that_no_node_may_run_is_unplaceable_with_a_reason_per_node(name: str) -> None:
    p = schedulers.Problem(
        [[1, 1], [1, 1]], [], np.zeros((2, 2)), np.zeros((2, 2)), {1: 0}, allowed=[[True, True], [False, True]]
    )
    with pytest.raises(schedulers.Unplaceable) as refusal:
        schedulers.schedule(name, p)
    assert refusal.value.task == 1
    assert refusal.value.reasons == ["node 0: not allowed", "node 1: the task is pinned to node 0"]
    assert "task 1 cannot be placed: node 0: not allowed" in str(refusal.value)


class EntryPoint:
    def __init__(self, name: str, node: int) -> None:
        self.name, self.node = name, node

    def load(self) -> object:
        def mapper(p: schedulers.Problem, *, seed: int, contention: bool, late: float = 0.0) -> schedulers.Schedule:
            start = np.array([0.0, p.times[0, self.node] + late])
            return schedulers.Schedule(np.full(2, self.node), start, start + p.times[:, self.node])

        return mapper


@pytest.fixture
def third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("all-on-one", 1), EntryPoint("heft", 1)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found if group == "jupiter.mappers" else [])


@pytest.mark.usefixtures("third_parties")
def test_a_third_party_registers_a_mapper_through_an_entry_point() -> None:
    assert schedulers.names() == sorted([*OURS, "all-on-one"])
    assert schedulers.schedule("all-on-one", two_nodes(), late=1.0).makespan == 4.0


@pytest.mark.usefixtures("third_parties")
def test_a_third_party_cannot_take_a_built_in_name() -> None:
    assert schedulers.schedule("heft", two_nodes()).node.tolist() == [1, 0]


@pytest.mark.usefixtures("third_parties")
def test_an_infeasible_schedule_of_a_third_party_is_not_passed_on() -> None:
    with pytest.raises(Infeasible, match=r"task 1 starts at 0\.5"):
        schedulers.schedule("all-on-one", two_nodes(), late=-0.5)
