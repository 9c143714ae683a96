"""What is wrong here, with the cluster and between the two, and how to mend it (`jupiter ctl doctor`).

First this machine without any agent, then what an agent that can be reached says of itself and of the members.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from jupiter_agent import __version__
from jupiter_agent.cli import checks, places, reach
from jupiter_agent.cli.checks import Check
from jupiter_agent.cli.ctl.session import Session
from jupiter_agent.cli.guard import HINTS, say
from jupiter_agent.cli.output import Format
from jupiter_agent.cli.units import seconds, text
from jupiter_agent.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, JupiterError, UnauthorisedError, UsageError

CLOCK_OFF_S = 1.0
STYLES = {"ok": "green", "note": "yellow", "wrong": "red"}

MEMBER_HINTS = {
    "suspect": "it does not answer the others: look at its load and its network",
    "dead": "start its agent again, or strike it from the list: `jupiter ctl forget {name}`",
    "unreachable": "this agent has no way to it: open its PORT and PORT+1, or give it --advertise HOST:PORT",
}


def examine(session: Session) -> int:
    """Check everything, print each finding as it is made; the exit code."""
    found: list[tuple[str, Check]] = []
    for place, check in _all(session):
        found.append((place, check))
        if not session.output.is_data:
            _show(session, place, check)
    wrong = sum(not check.ok for _, check in found)
    if session.output.is_data:
        rows = [{"where": place, **vars(check)} for place, check in found]
        session.output.fields("doctor", {"ok": not wrong, "version": __version__, "items": rows})
    say(f"{len(found)} checks: {f'{wrong} wrong' if wrong else 'nothing is wrong'}")
    return EXIT_FAILED if wrong else EXIT_OK


def _all(session: Session) -> Iterator[tuple[str, Check]]:
    for check in [*checks.machine(), *places.places(session.where)]:
        yield "here", check
    yield from cluster(session)


def cluster(session: Session) -> Iterator[tuple[str, Check]]:
    """What an agent says; one check when none can be asked."""
    try:
        before = time.time()
        rows = session.ask("get", {"kind": "nodes"})["items"]
        asked = time.time()
        body = _diagnosis(session)
    except JupiterError as error:
        yield "cluster", _no_answer(session, error)
        return
    took = time.time() - asked if body else asked - before
    name = text(body.get("name")) if body else "agent"
    yield "cluster", Check("key", True, "the agent takes it")
    if body:
        yield name, _clock(body, asked + took / 2, took)
        yield name, _version(body)
        for each in body.get("checks") or []:
            ok, hint = bool(each.get("ok")), str(each.get("hint") or "")
            yield name, Check(text(each.get("name")), ok, text(each.get("detail")), hint or ("" if ok else HINTS[1]))
    else:
        yield name, Check("diagnosis", True, "this agent gives none", f"it is older than this command ({__version__})")
    if not any(each.get("name") == "members" for each in body.get("checks") or []):
        yield from (("cluster", _member(row)) for row in rows if row.get("state") != "left")


def _diagnosis(session: Session) -> dict[str, Any]:
    """{} from an agent that is too old to know the verb."""
    try:
        return dict(session.ask("diagnose", {}))
    except JupiterError as error:
        if error.exit_code != EXIT_USAGE:
            raise
        return {}


def _no_answer(session: Session, error: JupiterError) -> Check:
    """Nobody to ask is wrong only where somebody was meant."""
    hint = error.hint or HINTS.get(error.exit_code, HINTS[EXIT_FAILED])
    if isinstance(error, UnauthorisedError | UsageError):
        return Check("key" if isinstance(error, UnauthorisedError) else "options", False, error.message, hint)
    where = session.where
    meant = where.peers or where.dir or where.env.get("JUPITER_PEER") or reach.state_folders(where)
    return Check("agent", not meant, error.message, hint)


def _clock(body: dict[str, Any], now: float, took: float) -> Check:
    """Its clock against ours, half a round trip ago; known to within that."""
    theirs = body.get("time")
    if not isinstance(theirs, int | float):
        return Check("clock difference", True, "it does not say its time")
    apart = max(0.0, abs(theirs - now) - took / 2)
    side = "ahead of" if theirs > now else "behind"
    hint = "" if apart <= CLOCK_OFF_S else "set both by NTP: `timedatectl set-ntp true`, or install chrony"
    detail = f"{seconds(apart)} {side} this machine's" if apart else "none that can be seen through the network"
    return Check("clock difference", not hint, detail, hint)


def _version(body: dict[str, Any]) -> Check:
    theirs = text(body.get("version"))
    hint = "" if theirs == __version__ else f"this command is {__version__}: install the same on both"
    return Check("version", True, theirs, hint)


def _member(row: dict[str, Any]) -> Check:
    name, state = text(row.get("name")), text(row.get("state"))
    trouble = state if state != "alive" else "unreachable" if row.get("reachable") is False else ""
    hint = MEMBER_HINTS.get(trouble, HINTS[EXIT_FAILED]).format(name=name) if trouble else ""
    return Check(f"member {name}", not trouble, trouble or f"alive at {text(row.get('address'))}", hint)


def _show(session: Session, place: str, check: Check) -> None:
    if session.output.form is Format.NAME:
        if not check.ok:
            print(check.name)
        return
    name = check.name if place == "here" else f"{place}: {check.name}"
    _print(check.status, f"{name}: {check.detail}")
    if check.hint:
        _print("", f"hint: {check.hint}")


def _print(status: str, line: str) -> None:
    if not sys.stdout.isatty():
        print(f"{status:<6}{line}", flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    Console().print(Text.assemble((f"{status:<6}", STYLES.get(status, "")), line), soft_wrap=True)
