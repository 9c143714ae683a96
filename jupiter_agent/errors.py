"""Errors by fault: whose mistake it was decides what happens next (STYLE.md, habit 5)."""

from __future__ import annotations

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNPLACEABLE, EXIT_UNREACHABLE, EXIT_UNAUTHORISED, EXIT_TIMEOUT = range(7)
EXIT_INTERRUPTED = 130


class JupiterError(Exception):
    """Base of all our errors. `hint` says how to mend it; `exit_code` is what a command ends with."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(JupiterError):
    """The caller's fault: a wrong argument, app, mapper or input, refused before anything was accepted."""

    exit_code = EXIT_USAGE


class PeerError(JupiterError):
    """A peer's fault: garbage, a broken rule, a false signature. Counted and dropped, never fatal."""


class OffenceError(PeerError):
    """What no honest peer sends: its sender is kept out after some. `by`: who, if not whoever brought it."""

    by = ""


class TaskError(JupiterError):
    """The user code's fault: it raised, exited, hung or broke its contract."""


class CapacityError(JupiterError):
    """We are full (disk, queue, limits): the same call may succeed later."""


class UnreachableError(JupiterError):
    """No peer answered at the addresses tried."""

    exit_code = EXIT_UNREACHABLE


class UnauthorisedError(JupiterError):
    """A peer answered, and refused our key."""

    exit_code = EXIT_UNAUTHORISED
