"""`token`: what lets a node join and a client call."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from jupiter_agent.cli.ctl.session import session_of
from jupiter_agent.errors import UsageError

NO_ROLES_YET = "a cluster has one token, of role admin"


class TokenAction(StrEnum):
    CREATE = "create"
    LIST = "list"
    REVOKE = "revoke"


NOT_OFFERED = {
    TokenAction.LIST: (f"tokens cannot be listed: {NO_ROLES_YET}", "`jupiter ctl token create` prints it"),
    TokenAction.REVOKE: (
        f"a token cannot be revoked: {NO_ROLES_YET}",
        "whoever has it stays able to join; a cluster founded anew, with fresh state folders, has another",
    ),
}
"""What agents of this version do not do, and what to do instead."""


def token(
    ctx: typer.Context,
    action: Annotated[TokenAction, typer.Argument(help="list and revoke need an agent that offers them.")] = (
        TokenAction.CREATE
    ),
    which: Annotated[str | None, typer.Argument(metavar="[TOKEN]", help="The one to revoke.")] = None,
    role: Annotated[
        str, typer.Option(metavar="R", help="admin is the only one there is yet.", autocompletion=lambda: ["admin"])
    ] = "admin",
) -> None:
    """Print the cluster's token: keep it secret.

    It lets a node join and a client call.
    """
    session = session_of(ctx)
    if action in NOT_OFFERED:
        raise UsageError(*NOT_OFFERED[action])
    if role != "admin":
        raise UsageError(f"no token of role {role!r}: {NO_ROLES_YET}", "leave --role out")
    body = session.ask("token", {})
    if session.output.is_data:
        session.output.fields("token", body)
    else:
        print(body["token"])


VERBS: dict[str, Callable[..., Any]] = {"token": token}
