"""What the process of a task is started with: its app, its parameters, and for v4 and v5 where the others are."""

from __future__ import annotations

from collections.abc import Iterable

from jupiter_agent.core.effects import StartTask
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.core.surroundings import Surroundings

STREAMED = ("v4", "v5")
"""Contracts whose tasks see files in order of arrival"""


def start_task(job: Job, around: Surroundings, task: TaskSpec) -> StartTask:
    """Start this task here."""
    spec = job.spec
    params = {**spec.params, **task.params}
    if task.contract in STREAMED:
        params |= _addresses(job, around)
    return StartTask(spec.id, task, spec.bundle, spec.app, params, spec.ports)


def _addresses(job: Job, around: Surroundings) -> dict[str, str]:
    """Environment of v4 and v5 tasks: where home and the other tasks are, as far as known (COMPAT)."""

    def listed(names: Iterable[str]) -> str:
        known = [(name, job.registers[name].node) for name in names if name in job.registers]
        return " ".join(f"{name}:{_host(around.address(node))}" for name, node in known)

    return {
        "_env_CIRCE_HOME_IP": _host(around.address(job.home.writer)),
        "_env_CIRCE_TASK_TO_IP": listed(job.tasks),
        "_env_CIRCE_NONDAG_TASK_TO_IP": listed(job.side),
    }


def _host(address: str) -> str:
    """host:port -> host"""
    return address.rpartition(":")[0].strip("[]")
