"""Agents on their way up do not outlive the command that starts them, not even when that is killed outright.

A child of the command waits at a pipe. When the pipe breaks off before the command has let go, the command is dead, and
the child kills whatever carries the command's mark in its environment: by a mark and not by number, since the command
may have died before it learned the number of what it had just started.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from jupiter_agent.cli import procfs

MARK = "STARTED_BY_JUPITER_LOCAL"
DONE = b"done"
LOOKS_S = (0.1, 0.3)
"""What was forked last shows its own environment only once its program is being loaded: look twice."""


@contextmanager
def start_guard() -> Iterator[dict[str, str]]:
    """Put what it gives into the environment of what is started. Afterwards those processes are on their own."""
    mark = os.urandom(16).hex()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(write)
            _stand_guard(read, mark)
        finally:
            os._exit(0)
    os.close(read)
    try:
        yield {MARK: mark}
    finally:
        try:
            os.write(write, DONE)
        except BrokenPipeError:
            pass  # somebody killed the guard: what it guarded is not worse off than without one
        os.close(write)
        os.waitpid(child, 0)


def _stand_guard(read: int, mark: str) -> None:
    """In the child: deaf to signals for our command, and holding none of its files."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    for pause in () if said == DONE else LOOKS_S:
        time.sleep(pause)
        procfs.kill_marked(MARK, {mark})
