"""The first frame to a task process: who it is, what it may use, where its things are (task/main.py reads it)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupiter_agent.adapters.limits import Allowed
from jupiter_agent.core.effects import StartTask
from jupiter_agent.core.messages.jobs import INLINE_BYTES

ENVIRONMENT = "_env_"
"""job parameters of this prefix are environment variables of the task, not parameters"""
THREADS = 4
"""for each process that a task may have: the kernel counts them alike"""
COUNTS_INSIDE = (5, 14)
_VARIABLE = re.compile(r"(?!JUPITER)[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class Place:
    """Where a process runs and what it may use there."""

    app_folder: Path
    work: Path
    allowed: Allowed
    namespaces: bool
    is_closed: bool
    """in a sandbox"""


def serve_setup(effect: StartTask, held_s: float, place: Place) -> dict[str, Any]:
    """Of the warm process of one task."""
    spec = effect.task
    given = {**spec.params, **effect.params}
    return {
        "mode": "serve",
        "contract": spec.contract,
        "job": effect.job,
        "task": spec.name,
        "script": spec.script,
        "command": spec.command,
        "children": spec.children,
        "extra": spec.extra,
        "params": {key: value for key, value in given.items() if not key.startswith(ENVIRONMENT)},
        "environ": environ(given),
        "parallel": 1 if spec.contract == "v5" else max(1, spec.parallel),
        "held_s": held_s,
        "inline_bytes": INLINE_BYTES,
        **process_setup(place),
    }


def process_setup(place: Place) -> dict[str, Any]:
    """The part of the setup frame that every mode needs."""
    return {
        "agent_pid": 1 if place.is_closed else os.getpid(),
        "limits": {
            **place.allowed.for_process(),
            "nproc": THREADS * place.allowed.processes if place.is_closed and _counts_inside() else None,
            "number": int(place.work.name.partition("-")[0]),
        },
        "namespaces": place.namespaces,
        "sandbox": place.is_closed,
        "app_folder": str(place.app_folder.resolve()),
        "work": str(place.work),
        "top": str(place.work),
        "out": str(place.work / "out"),
    }


def _counts_inside() -> bool:
    """Whether RLIMIT_NPROC counts what is in this user namespace only, and counts for us."""
    version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return os.getuid() != 0 and version >= COUNTS_INSIDE


def environ(params: dict[str, str]) -> dict[str, str]:
    """The variables among job parameters; what is no variable's name, or ours, is left out."""
    cut = len(ENVIRONMENT)
    found = {key[cut:]: value for key, value in params.items() if key.startswith(ENVIRONMENT)}
    return {name: value for name, value in found.items() if _VARIABLE.match(name)}
