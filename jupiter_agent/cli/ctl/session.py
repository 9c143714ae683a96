"""One `jupiter ctl` command's view of the cluster: where it is, how to print, and a client opened when first needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import typer

from jupiter_agent.cli import reach
from jupiter_agent.cli.output import Output
from jupiter_agent.cli.reach import Caller, Where
from jupiter_agent.errors import JupiterError, UnauthorisedError, UnreachableError, UsageError

CALL_TIMEOUT_S = 30.0
GRACE_S = 15.0
"""How long a command that waits goes without an answer: longer than a cluster needs to notice a dead home."""

PAGED = {"get": "items", "results": "items", "stats": "runs"}
"""Verbs whose answers come in pages, and where in them the rows are; `next` is the offset of the next page."""


class Clock:
    """Time as the waiting verbs see it; tests pass another."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Session:
    where: Where
    output: Output
    clock: Clock
    open: Callable[[Where], Caller] = field(default_factory=lambda: reach.open_client)
    _client: Caller | None = None

    @property
    def client(self) -> Caller:
        if self._client is None:
            self._client = self.open(self.where)
        return self._client

    def call(self, verb: str, args: dict[str, Any], timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """The verb's answer; not repeated when the agent falls silent, for it may have been done."""
        return self.client.call(verb, args, timeout_s)

    def ask(self, verb: str, args: dict[str, Any], timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """As `call`, for verbs that change nothing: when the asked agent is gone, another one is asked.

        Long lists come in pages; they are put together here.
        """
        try:
            return self._whole(verb, args, timeout_s)
        except UnreachableError:
            self.close()
            return self._whole(verb, args, timeout_s)

    def _whole(self, verb: str, args: dict[str, Any], timeout_s: float) -> Any:
        body = self.call(verb, args, timeout_s)
        rows = PAGED.get(verb)
        if rows is None or body.get("next") is None:
            return body
        whole, page = {**body, rows: list(body[rows])}, body
        while page.get("next") is not None:
            page = self.call(verb, {**args, "offset": page["next"]}, timeout_s)
            whole[rows] += page[rows]
        del whole["next"]
        return whole

    def ask_patiently(self, verb: str, args: dict[str, Any], until: float | None = None) -> Any:
        """As `ask`, through the moments in which a lost home starts again: until this time of the clock.

        A usage error counts after GRACE_S: while its home is away, a job is not known.
        """
        grace = self.clock.now() + GRACE_S
        deadline = grace if until is None else until
        while True:
            try:
                return self.ask(verb, args, timeout_s=5.0)
            except UnauthorisedError:
                raise
            except JupiterError as error:
                limit = min(deadline, grace) if isinstance(error, UsageError) else deadline
                left = limit - self.clock.now()
                if left <= 0:
                    raise
                self.clock.sleep(min(0.5, left))

    def at(self, name: str) -> Session:
        """A session with one node's own agent. UsageError for a node that is unknown or not there to be asked."""
        rows = self.ask("get", {"kind": "nodes", "id": name})["items"]
        if len(rows) != 1:
            known = ", ".join(str(row.get("name")) for row in rows) or "none"
            raise UsageError(f"--at {name}: which node? it fits {known}", "list them with: jupiter ctl get nodes")
        address, state = rows[0].get("address"), rows[0].get("state")
        if not address or state in ("dead", "left"):
            raise UnreachableError(f"node {rows[0].get('name')} is {state}", "choose another --at NODE")
        return replace(self, where=replace(self.where, peers=(str(address),)), _client=None)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def make_session(where: Where, output: Output) -> Session:
    """The session of this process's user."""
    return Session(replace(where, env=os.environ), output, Clock())


def session_of(ctx: typer.Context) -> Session:
    """What `jupiter ctl`'s own options made."""
    return cast(Session, ctx.obj)
