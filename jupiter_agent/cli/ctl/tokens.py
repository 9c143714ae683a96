"""`token`: what lets a node join and a client call; which there are; taking it back."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from jupiter_agent.cli.ctl.session import Session, session_of
from jupiter_agent.errors import UsageError

ROLES = ("admin", "submit", "worker", "observer")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class TokenAction(StrEnum):
    CREATE = "create"
    LIST = "list"
    REVOKE = "revoke"
    ROTATE = "rotate"


OPTIONS = {
    TokenAction.CREATE: {"role", "expires", "uses"},
    TokenAction.LIST: set(),
    TokenAction.REVOKE: {"which", "node"},
    TokenAction.ROTATE: set(),
}
"""action -> what it takes"""


def seconds_of(text: str) -> float:
    """'90', '90s', '15m', '1h', '7d' as seconds. UsageError."""
    match = re.fullmatch(r"(\d{1,7}(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--expires {text}: not a time", "for example 30m, 1h, 7d")
    return float(match[1]) * UNITS[match[2] or "s"]


def token(
    ctx: typer.Context,
    action: Annotated[TokenAction, typer.Argument(help="What to do; create without one.")] = TokenAction.CREATE,
    which: Annotated[str | None, typer.Argument(metavar="[ID]", help="The token to revoke: see list.")] = None,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="R", help="admin, submit, worker or observer: a new token.", autocompletion=lambda: list(ROLES)
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="T", help="How long a new token holds: 30m, 1h, 7d.")] = None,
    uses: Annotated[int | None, typer.Option(metavar="N", min=1, help="How many nodes may join with it.")] = None,
    node: Annotated[str | None, typer.Option(metavar="NODE", help="revoke: expel this node, and rotate.")] = None,
) -> None:
    """Print a token (keep it secret), list those with a role, revoke one or a node, change the join secret.

    A token lets nodes join and clients call, with its role. Without --role, --expires and --uses it is the cluster's
    own token. `rotate` makes every token of before worthless; members stay.
    """
    session = session_of(ctx)
    given = {"which": which, "role": role, "expires": expires, "uses": uses, "node": node}
    extra = [name for name, value in given.items() if value is not None and name not in OPTIONS[action]]
    if extra:
        name = "an ID" if extra[0] == "which" else f"--{extra[0]}"
        raise UsageError(f"token {action.value} takes no {name.removeprefix('an ')}", "see --help")
    if role is not None and role not in ROLES:
        raise UsageError(f"there is no role {role!r}", f"one of: {', '.join(ROLES)}")
    if action is TokenAction.REVOKE and (which is None) == (node is None):
        raise UsageError("revoke what?", "the ID of a token (`jupiter ctl token list`), or --node NODE")
    args = {"role": role, "expires_s": seconds_of(expires) if expires else None, "uses": uses, "node": node}
    args |= {"action": action.value if action is not TokenAction.CREATE else None, "id": which}
    body = session.ask("token", {name: value for name, value in args.items() if value is not None})
    if session.output.is_data:
        session.output.fields("token", body)
    else:
        _SHOW[action](session, body)


def _show_token(session: Session, body: dict[str, Any]) -> None:
    print(body["token"])


def _show_list(session: Session, body: dict[str, Any]) -> None:
    for row in body["items"]:
        used = f"{row['used']} of {row['uses']} uses" if row["uses"] else "any number of uses"
        print(f"{row['id']}  {row.get('role', '?'):8}  {row['state']:8}  {used}, made at {row['created_by']}")
    if not body["items"]:
        print("no tokens with a role, an expiry or a number of uses")
    for row in body["revoked_nodes"]:
        print(f"node {row['name']} was revoked")


def _show_revoked(session: Session, body: dict[str, Any]) -> None:
    print(f"revoked {body['revoked']}")
    if "token" in body:
        print("the join secret was changed; the cluster's own token is now:")
        print(body["token"])


_SHOW: dict[TokenAction, Callable[[Session, dict[str, Any]], None]] = {
    TokenAction.CREATE: _show_token,
    TokenAction.LIST: _show_list,
    TokenAction.REVOKE: _show_revoked,
    TokenAction.ROTATE: _show_token,
}

VERBS: dict[str, Callable[..., Any]] = {"token": token}
