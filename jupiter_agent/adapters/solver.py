"""Runs a registered centralised mapper off the loop: the one place where the agent loads numpy."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from jupiter_agent.adapters.foreign import SOLVE_S, Foreign
from jupiter_agent.core.effects import Solve
from jupiter_agent.core.events import Solved


def solve(effect: Solve) -> Solved:
    """Never raises: a problem that has no answer is one (`error`, with reasons per node where there are any)."""
    import numpy as np

    from schedulers import Problem, Unplaceable, schedule

    began = time.perf_counter()
    try:
        arrays: dict[str, Any] = dict(effect.problem)
        for key in ("times", "latency", "inv_rate"):
            arrays[key] = np.asarray(arrays[key], float)
        arrays["allowed"] = np.asarray(arrays["allowed"], bool)
        plan = schedule(effect.mapper, Problem(**arrays), seed=effect.seed, contention=True, **effect.options)
    except Unplaceable as error:
        return Solved(effect.job, [], [], [], 0.0, str(error), list(error.reasons), _index(error.task))
    except Exception as error:  # noqa: BLE001 - a third party's mapper may raise anything
        return Solved(effect.job, [], [], [], 0.0, f"mapper {effect.mapper}: {type(error).__name__}: {error}")
    seconds = time.perf_counter() - began
    return Solved(effect.job, plan.node.tolist(), plan.start.tolist(), plan.finish.tolist(), seconds)


def _index(task: object) -> int | None:
    return task if isinstance(task, int) else None  # what a third party's mapper says may be anything


async def solve_off_loop(effect: Solve) -> Solved:
    """Ours in a thread; a third party's in a process that is killed when it takes too long."""
    from schedulers.registry import BUILT_IN

    if effect.mapper in BUILT_IN:
        return await asyncio.to_thread(solve, effect)
    foreign = Foreign()
    try:
        found = await foreign.ask({"solve": msgspec.to_builtins(effect)}, SOLVE_S)
    finally:
        await foreign.close()
    if "error" in found:
        return Solved(effect.job, [], [], [], 0.0, f"mapper {effect.mapper}: {found['error']}")
    return msgspec.convert(found["value"], Solved)
