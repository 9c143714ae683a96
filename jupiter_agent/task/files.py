"""What the contracts that speak in files share: inputs laid out as files, folders emptied, outputs taken as objects."""

from __future__ import annotations

import os

from jupiter_agent.task.native import HOME, copy

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

INPUT = "input"
"""the parent of an injected item"""


def parent_of(key: str) -> str:
    """The parent in an entry's key, which is `parent` or `parent/name`."""
    return key.partition("/")[0]


def place(target: str, data: bytes | None, source: str) -> None:
    """A new private file with an input's bytes; one of that name is replaced, not changed."""
    try:
        os.unlink(target)
    except FileNotFoundError:
        pass
    if data is None:
        copy(source, target)
        return
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)


def children_of(setup: dict[str, Any]) -> list[str]:
    """Whom the task may name: a task without children has an implicit edge to home."""
    return setup["children"] or [HOME]


def fresh(*folders: str) -> None:
    """Make these folders, which are not there."""
    for folder in folders:
        os.makedirs(folder, 0o700)
