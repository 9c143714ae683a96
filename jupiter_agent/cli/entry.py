"""The console commands. Ctrl-C while their programs are still being imported ends them as quietly as any later one.

An agent that is told to stop before it listens for that ends at once. The kernel delivers no signal of default action
to process 1, which an agent is in a container: it would run on until it is killed, minutes later.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_INTERRUPTED = 130
"""As in `errors`, which is not imported yet."""
EXIT_TERMINATED = 143
"""What a shell makes of a death by SIGTERM"""


def _end(number: int, frame: FrameType | None) -> None:
    """Nothing was begun, so nothing is left to do; an exception in the middle of an import could be swallowed there."""
    os._exit(EXIT_INTERRUPTED)


def _terminate(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_TERMINATED)


@contextmanager
def _quiet_ctrl_c() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, as in a shell's background jobs
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run(main: Callable[[], int]) -> int:
    try:
        return main()
    except KeyboardInterrupt:  # in the few instructions before `main` is on guard, or after
        return EXIT_INTERRUPTED


def jupiter() -> int:
    """`jupiter`"""
    with _quiet_ctrl_c():
        from jupiter_agent.cli.main import main
    return _run(main)


def jupiter_agent() -> int:
    """`jupiter-agent`"""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)  # until the agent's own takes its place
    with _quiet_ctrl_c():
        from jupiter_agent.cli.agent_main import main
    return _run(main)
