"""What goes wrong in user code, put into one line for the submitter; the whole trace goes to the task's log."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

MAX_MESSAGE = 500
EMFILE, EFBIG = 24, 27
SIGXFSZ = 25
MIB, GIB = 1 << 20, 1 << 30
limits: dict[str, Any] = {}
"""of this process, as the agent set them (see main.py)"""


class ContractError(Exception):
    """User code and its contract do not agree. The message says what was wrong and what would be right."""


class RunError(Exception):
    """A run failed, and the message says all there is to say: no trace is printed."""


def a_type(value: object) -> str:
    """`an int`, `a list`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def last_line(error: BaseException, folder: str) -> str:
    """`file.py:LINE: ExceptionType: message`, the place being the innermost one inside the app's folder."""
    where = _place(error, folder)
    text = " ".join(str(error).split())
    if len(text) > MAX_MESSAGE:
        text = text[: MAX_MESSAGE - 3] + "..."
    name = type(error).__name__
    told = f"{where}: {name}: {text}" if text else f"{where}: {name}"
    limit = exceeded(error)
    return f"{told} ({limit})" if limit else told


def exceeded(error: BaseException) -> str:
    """The limit that the kernel refused to exceed; '' when it is none."""
    number = error.errno if isinstance(error, OSError) else 0
    if isinstance(error, MemoryError) and limits.get("address_space"):
        return f"limits: address space, {size(limits['address_space'])}"
    if isinstance(error, MemoryError) and limits.get("memory"):
        return f"limits: memory, {size(limits['memory'])}"
    if number == EMFILE and limits.get("nofile"):
        return f"limits: files, {limits['nofile']} open at once"
    if number == EFBIG and limits.get("file_size"):
        return f"limits: disk, {size(limits['file_size'])}"
    return ""


def killed_by(number: int) -> str:
    """How a command ended that a signal ended."""
    limit = f" (limits: disk, {size(limits['file_size'])})" if number == SIGXFSZ and limits.get("file_size") else ""
    return f"was killed by signal {number}{limit}"


def size(count: int) -> str:
    """`2 GiB`, `1.5 GiB`, `300 MiB`."""
    unit, name = (GIB, "GiB") if count >= GIB else (MIB, "MiB")
    return f"{count / unit:.3g} {name}"


def print_trace(error: BaseException, folder: str) -> None:
    """The full traceback to stderr in one piece, from where it enters the app; the app's files by their names in it."""
    path = list(sys.path)
    sys.path[:] = [entry for entry in path if entry != folder]  # an app's own `tokenize.py` must not be met here
    try:
        import traceback
    finally:
        sys.path[:] = path
    tb = error.__traceback__
    while tb is not None and not tb.tb_frame.f_code.co_filename.startswith(folder + "/"):
        tb = tb.tb_next
    tb = tb or error.__traceback__
    trace = "".join(traceback.format_exception(type(error), error, tb))
    sys.stderr.write(trace.replace(f'File "{folder}/', 'File "'))
    sys.stderr.flush()


def _place(error: BaseException, folder: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename, folder)}:{error.lineno}"
    found = last = ""
    tb: TracebackType | None = error.__traceback__
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        last = f"{_relative(name, folder)}:{tb.tb_lineno}"
        if name.startswith(folder + "/"):
            found = last
        tb = tb.tb_next
    return found or last


def _relative(name: str, folder: str) -> str:
    return name[len(folder) + 1 :] if name.startswith(folder + "/") else os.path.basename(name)
