"""What the processes of tasks on this node did, for the machines of their jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupiter_agent.core.effects import Effect
from jupiter_agent.core.events import Event, NodeChosen, Produced, RunDone, RunFailed, TaskDown, TaskEnded, TaskUp
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.runqueue import start_runs


def on_run_done(jobs: Jobs, event: RunDone, now: float) -> list[Effect]:
    attempt = jobs.queue.end(event.run)
    effects: list[Effect] = []
    if attempt and attempt.job in jobs.local:
        local = jobs.local[attempt.job]
        done = local.execution.on_run_done(attempt, event, now)
        jobs.on_runs(local.job, local.execution.counters.take_fresh(), now)
        effects = jobs.settle(local, done, now)
    else:
        jobs.transfers.discard([obj for _, obj in event.outputs], now)
    return effects + start_runs(jobs.queue, now)


def on_run_failed(jobs: Jobs, event: RunFailed, now: float) -> list[Effect]:
    attempt = jobs.queue.end(event.run)
    effects: list[Effect] = []
    if attempt and attempt.job in jobs.local:
        effects = jobs.local[attempt.job].execution.on_run_failed(attempt, event, now)
    return effects + start_runs(jobs.queue, now)


def on_task_up(jobs: Jobs, event: TaskUp, now: float) -> list[Effect]:
    local = jobs.local.get(event.job)
    if local is None:
        return []
    local.execution.on_task_up(event.task, now)
    return local.home.on_script(True) if local.home and event.task == HOME else []


def on_produced(jobs: Jobs, event: Produced, now: float) -> list[Effect]:
    """A home script or non-DAG task on this node made a file."""
    local = jobs.local.get(event.job)
    if local is None:
        return []
    if local.home:
        effects = local.home.on_produced(jobs.around.me, event.child, event.obj, now)
        return jobs.settle(local, effects + local.home.backlog.after_file(event.task), now)
    return local.execution.on_produced(event, now)


def on_task_ended(jobs: Jobs, event: TaskEnded, now: float) -> list[Effect]:
    """The home script has made its last item."""
    local = jobs.local.get(event.job)
    if local is None or local.home is None or event.task != HOME:
        return []
    return jobs.settle(local, local.home.close(now), now)


def on_task_down(jobs: Jobs, event: TaskDown, now: float) -> list[Effect]:
    local = jobs.local.get(event.job)
    if local is None:
        return []
    local.execution.on_task_down(event.task, now)
    return local.home.on_script(False) if local.home and event.task == HOME else []


def on_node_chosen(jobs: Jobs, event: NodeChosen, now: float) -> list[Effect]:
    """A rule has decided on a task."""
    local = jobs.local.get(event.job)
    return jobs.settle(local, local.wave.on_chosen(event, now), now) if local is not None else []


TASK_EVENTS: dict[type[Event], Callable[[Jobs, Any, float], list[Effect]]] = {
    RunDone: on_run_done,
    RunFailed: on_run_failed,
    TaskUp: on_task_up,
    TaskDown: on_task_down,
    Produced: on_produced,
    TaskEnded: on_task_ended,
    NodeChosen: on_node_chosen,
}
