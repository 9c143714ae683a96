"""`token`: what lets a node join and a client call."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from jupiter_agent.cli.ctl.session import session_of
from jupiter_agent.errors import UsageError

ROLES = ("admin", "submit", "worker", "observer")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

NOT_KEPT = "the cluster keeps no list of the tokens it issued"


class TokenAction(StrEnum):
    CREATE = "create"
    LIST = "list"
    REVOKE = "revoke"


NOT_OFFERED = {
    TokenAction.LIST: (f"tokens cannot be listed: {NOT_KEPT}", "a token with --expires ends by itself"),
    TokenAction.REVOKE: (
        f"a token cannot be revoked: {NOT_KEPT}",
        "one with --expires ends by itself; for others found a cluster anew, with fresh state folders",
    ),
}
"""What agents of this version do not do, and what to do instead."""


def seconds_of(text: str) -> float:
    """'90', '90s', '15m', '1h', '7d' as seconds. UsageError."""
    match = re.fullmatch(r"(\d{1,7}(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--expires {text}: not a time", "for example 30m, 1h, 7d")
    return float(match[1]) * UNITS[match[2] or "s"]


def token(
    ctx: typer.Context,
    action: Annotated[TokenAction, typer.Argument(help="list and revoke need an agent that offers them.")] = (
        TokenAction.CREATE
    ),
    which: Annotated[str | None, typer.Argument(metavar="[TOKEN]", help="The one to revoke.")] = None,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="R", help="admin, submit, worker or observer: a new token.", autocompletion=lambda: list(ROLES)
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="T", help="How long a new token holds: 30m, 1h, 7d.")] = None,
) -> None:
    """Print a token: keep it secret.

    It lets nodes join and clients call, with its role. Without --role and --expires it is the cluster's own token.
    """
    session = session_of(ctx)
    if action in NOT_OFFERED:
        raise UsageError(*NOT_OFFERED[action])
    if role is not None and role not in ROLES:
        raise UsageError(f"there is no role {role!r}", f"one of: {', '.join(ROLES)}")
    args = {"role": role} if role else {}
    body = session.ask("token", {**args, **({"expires_s": seconds_of(expires)} if expires else {})})
    if session.output.is_data:
        session.output.fields("token", body)
    else:
        print(body["token"])


VERBS: dict[str, Callable[..., Any]] = {"token": token}
