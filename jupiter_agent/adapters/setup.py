"""The first frame to a task process: who it is, what it may use, where its things are (task/main.py reads it)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from jupiter_agent.adapters.limits import Limits
from jupiter_agent.core.effects import StartTask
from jupiter_agent.core.messages.jobs import INLINE_BYTES

ENVIRONMENT = "_env_"
"""job parameters of this prefix are environment variables of the task, not parameters"""
_VARIABLE = re.compile(r"(?!JUPITER)[A-Za-z_][A-Za-z0-9_]*\Z")


def serve_setup(effect: StartTask, limits: Limits, folder: Path, work: Path) -> dict[str, Any]:
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
        "held_s": limits.held_s,
        "inline_bytes": INLINE_BYTES,
        **process_setup(limits, folder, work),
    }


def process_setup(limits: Limits, app_folder: Path, work: Path) -> dict[str, Any]:
    """The part of the setup frame that every mode needs."""
    return {
        "agent_pid": os.getpid(),
        "limits": limits.for_process(),
        "namespaces": limits.namespaces,
        "app_folder": str(app_folder.resolve()),
        "work": str(work),
        "out": str(work / "out"),
    }


def environ(params: dict[str, str]) -> dict[str, str]:
    """The variables among job parameters; what is no variable's name, or ours, is left out."""
    cut = len(ENVIRONMENT)
    found = {key[cut:]: value for key, value in params.items() if key.startswith(ENVIRONMENT)}
    return {name: value for name, value in found.items() if _VARIABLE.match(name)}
