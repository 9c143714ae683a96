"""How every command ends: an exit code, and `error:` and `hint:` lines on stderr, never a traceback (DESIGN 10).

JUPITER_DEBUG=1 shows the traceback as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from jupiter_agent.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TIMEOUT,
    EXIT_UNAUTHORISED,
    EXIT_UNPLACEABLE,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    JupiterError,
)

HINTS = {
    EXIT_FAILED: "`jupiter ctl events` and the agents' logs may say more",
    EXIT_USAGE: "--help shows what is meant",
    EXIT_UNPLACEABLE: "`jupiter ctl get nodes` shows who is there",
    EXIT_UNREACHABLE: "is it running? name another one: --peer HOST:PORT",
    EXIT_UNAUTHORISED: "say where the key is: --token-file FILE or --dir DIR",
    EXIT_TIMEOUT: "it may still be done: look again later",
}
"""For errors that bring no hint of their own: there is one with every error."""


def say_error(message: str, hint: str = "") -> None:
    """`error:` and, where there is one, `hint:` on stderr; further lines are indented."""
    for label, text in (("error", message), ("hint", hint)):
        if text:
            print(f"{label}: " + text.strip().replace("\n", "\n  "), file=sys.stderr)


def say(text: str) -> None:
    """Progress and remarks: stderr, so that stdout stays data."""
    print(text, file=sys.stderr, flush=True)


def guarded(run: Callable[[], object]) -> int:
    """Run a command and turn whatever it does into an exit code."""
    try:
        code = run()
        sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing to say, and nobody to say it to at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence
        _show_traceback()
        return _report(error)


def _show_traceback() -> None:
    if os.environ.get("JUPITER_DEBUG"):
        import traceback

        traceback.print_exc()


def _report(error: Exception) -> int:
    if isinstance(error, JupiterError):
        say_error(error.message, error.hint or HINTS.get(error.exit_code, HINTS[EXIT_FAILED]))
        return error.exit_code
    if format_message := getattr(error, "format_message", None):  # the argument parser under typer
        return _report_usage(error, str(format_message()))
    if type(error).__name__ == "Abort":  # its way to say Ctrl-C
        return EXIT_INTERRUPTED
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:  # how Python reads what is not UTF-8
        say_error(f"not UTF-8: {error.object[:100]!a}", "names and parameters are UTF-8")
        return EXIT_USAGE
    say_error(f"internal: {type(error).__name__}: {error}", "set JUPITER_DEBUG=1 to see where, and report it")
    return EXIT_FAILED


def _report_usage(error: Exception, message: str) -> int:
    from jupiter_agent.cli.groups import option_hint

    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "jupiter"
    guess = option_hint(error, context)
    if not guess and context is not None and message == "Missing command.":
        guess = f"one of: {', '.join(context.command.list_commands(context))}; `{path} --help` tells more"
    say_error(str(getattr(error, "message", message)) if guess else message, guess or f"see `{path} --help`")
    return EXIT_USAGE
