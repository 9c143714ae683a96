"""What goes wrong in user code, put into one line for the submitter; the whole trace goes to the task's log."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

MAX_MESSAGE = 500


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
    return f"{where}: {name}: {text}" if text else f"{where}: {name}"


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
