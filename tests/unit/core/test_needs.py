from typing import Any

import pytest
from job_rig import CHAIN, Around, make_job, reg, task_specs

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.core.needs import NEEDS, Needs, candidates, lacking, needs_of, reasons, waits_for
from jupiter_agent.core.placement import Placement
from jupiter_agent.core.submit_args import SubmitArgs
from jupiter_agent.core.submit_places import check_places
from jupiter_agent.core.surroundings import Profile
from jupiter_agent.core.wave import Wave
from jupiter_agent.errors import EXIT_UNPLACEABLE, JupiterError

GIB = 1 << 30
NODES = ["home1", "n1", "n2", "n3"]


def task(**needs: Any) -> TaskSpec:
    return TaskSpec("t", extra={NEEDS: needs})


def around(**profiles: dict[str, Any]) -> Around:
    found = Around("home1")
    found.profiles = profiles
    return found


@pytest.mark.parametrize(
    ("needs", "profile", "words"),
    [
        ({"cpus": 4}, {"cpus": 2.0}, "2 cores, 4 needed"),
        ({"memory": 8 * GIB}, {"memory_bytes": 4 * GIB}, "4 GiB of memory, 8 GiB needed"),
        ({"memory": GIB}, {}, "does not say its memory, 1 GiB needed"),
        ({"gpus": 1}, {}, "0 GPUs, 1 needed"),
        ({"labels": {"zone": "a"}}, {"labels": {"zone": "b"}}, "label zone is b, not a"),
        ({"labels": {"zone": "a"}}, {}, "label zone is not set, not a"),
    ],
)
def test_what_a_node_lacks_is_said_in_words(needs, profile, words):
    assert lacking(Needs(**needs), Profile(**profile)) == [words]


def test_a_node_that_has_all_lacks_nothing():
    has = Profile(cpus=4.0, memory_bytes=8 * GIB, gpus=1, labels={"zone": "a", "rack": "7"})
    assert lacking(Needs(4, 8 * GIB, 1, {"zone": "a"}), has) == []


@pytest.mark.parametrize("written", ["x", {"cpus": "many"}, {"cpus": -1}, {"labels": [1]}, 7])
def test_needs_that_are_none_in_a_spec_from_elsewhere_need_nothing(written):
    assert needs_of(TaskSpec("t", extra={NEEDS: written})) == Needs()


def test_a_pin_and_needs_must_both_hold():
    world = around(n1={"gpus": 1}, n2={"gpus": 1})
    assert candidates(task(gpus=1), world, NODES) == ["n1", "n2"]
    pinned = TaskSpec("t", node="name-n2", extra={NEEDS: {"gpus": 1}})
    assert candidates(pinned, world, NODES) == ["n2"]
    assert candidates(TaskSpec("t", node="n3", extra={NEEDS: {"gpus": 1}}), world, NODES) == []
    assert candidates(TaskSpec("t", node="gone", extra={"soft": True, NEEDS: {"gpus": 1}}), world, NODES) == [
        "n1",
        "n2",
    ]


def test_there_is_a_reason_for_each_node():
    world = around(n1={"draining": True, "gpus": 1}, n2={"full": True})
    task = TaskSpec("t", node="n3", extra={NEEDS: {"gpus": 1}})
    assert reasons(task, world, world.alive()) == [
        ("name-home1", "is not 'n3', 0 GPUs, 1 needed"),
        ("name-n1", "takes no tasks, is not 'n3'"),
        ("name-n2", "its disk is full, is not 'n3', 0 GPUs, 1 needed"),
        ("name-n3", "0 GPUs, 1 needed"),
    ]
    assert waits_for(task, world) == "waits for node 'n3', to which it is pinned: name-n3: 0 GPUs, 1 needed"


@pytest.mark.parametrize("extra", [{}, {"soft": True}])
def test_what_a_task_waits_for_is_said_in_a_line_however_many_nodes_lack_it(extra):
    world = Around("n0", tuple(f"n{i}" for i in range(106)))
    world.profiles = {f"n{i}": {"gpus": i % 3} for i in range(106)}
    pin = "n1" if extra else ""
    task = TaskSpec("t", node=pin, extra={**extra, NEEDS: {"gpus": 4}})
    assert waits_for(task, world) == (
        "waits for a node: name-n0, name-n102, name-n105 and 33 more: 0 GPUs, 4 needed; "
        "name-n1, name-n10, name-n100 and 32 more: 1 GPUs, 4 needed; "
        "name-n101, name-n104, name-n11 and 32 more: 2 GPUs, 4 needed"
    )


@pytest.mark.parametrize("mapper", ["wave-greedy", "wave-random"])
def test_the_nodes_that_map_obey_needs(mapper):
    world = around(n3={"gpus": 2})
    world.me = "n1"
    tasks = task_specs(CHAIN, extra={NEEDS: {"gpus": 1}})
    job = make_job(CHAIN, mapper, tasks=tasks)
    job.merge([reg("a", "n1")])
    Wave(job, world, 0.0).step(0.0)
    assert job.registers["b"].node == "n3"


@pytest.mark.parametrize("mapper", ["heft", "wave-auction"])
def test_a_centralised_mapper_is_told_of_needs(mapper):
    world = around(home1={"gpus": 1}, n2={"gpus": 2})
    tasks = task_specs(CHAIN, extra={NEEDS: {"gpus": 1}})
    machine = Placement(make_job(CHAIN, mapper, tasks=tasks), world, {}, 1)
    machine.begin(0.0)
    allowed: Any = machine.problem()["allowed"]
    entry, child = allowed[:2]
    assert entry == [mapper == "heft", False, True, False]
    assert child == [True, False, True, False]


def test_home_hosts_what_only_it_can():
    world = around(home1={"gpus": 1})
    tasks = task_specs({"a": []}, extra={NEEDS: {"gpus": 1}})
    job = make_job({"a": []}, tasks=tasks)
    Wave(job, world, 0.0).step(0.0)
    assert job.registers["a"].node == "home1"


def test_a_task_that_no_node_can_run_is_refused_with_a_reason_for_each():
    app = AppSpec(name="app", tasks=task_specs(CHAIN, extra={NEEDS: {"cpus": 64}}))
    with pytest.raises(JupiterError) as refused:
        check_places(Around("home1"), SubmitArgs("00", 1, "app"), app)
    assert refused.value.exit_code == EXIT_UNPLACEABLE
    assert "task 'a'" in refused.value.message
    assert refused.value.hint.count("1 cores, 64 needed") == 4


def test_a_static_mapping_to_a_node_that_lacks_something_is_refused():
    world = around(n1={"gpus": 1})
    app = AppSpec(name="app", tasks=task_specs({"a": []}, extra={NEEDS: {"gpus": 1}}))
    check_places(world, SubmitArgs("00", 1, "app", mapping={"a": "name-n1"}), app)
    with pytest.raises(JupiterError, match="no node can run task 'a'"):
        check_places(world, SubmitArgs("00", 1, "app", mapping={"a": "name-n2"}), app)
