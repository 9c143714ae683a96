"""Calls that other agents answer: passed on to one, or gathered from several, and what comes back.

A call passed on to a home that is lost meanwhile, or that is home no longer, is given back to whoever passed it on
(`failed`), who asks the new home: clients need not know that a job has moved.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from jupiter_agent.core.call_shapes import check_body
from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.messages.control import Answer, Call
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.core.uploads import refusal
from jupiter_agent.errors import EXIT_OK, EXIT_UNREACHABLE, JupiterError

GATHER_S = 1.5
FORWARD_S = 15.0
MOST_PAGES = 1000
"""Of all nodes that one gathering asks."""

Then = Callable[[list[Any], float], list[Effect]]
Failed = Callable[[JupiterError, bool, float], list[Effect]]
"""(why, the call certainly was not served, now)"""


class _Gathering:
    """Answers of several nodes on their way into one."""

    def __init__(self, call: Call, waiting: set[str], due: float, then: Then) -> None:
        self.call, self.waiting, self.due, self.then = call, waiting, due, then
        self.bodies: list[Any] = []
        self.pages = MOST_PAGES


class _Forwarded:
    """A call passed on to another node."""

    def __init__(self, client: str, call: Call, node: str, due: float) -> None:
        self.client, self.seq, self.verb, self.node, self.due = client, call.seq, call.verb, node, due
        self.failed: Failed | None = None


class Relay:
    """All calls under way from this agent to others."""

    def __init__(self, around: Surroundings, transfers: Transfers) -> None:
        self.missing: list[str] = []
        """names of those that did not answer the gathering that ended last"""
        self._around, self._transfers = around, transfers
        self._seq = 0
        self._gatherings: dict[int, _Gathering] = {}
        self._forwarded: dict[int, _Forwarded] = {}

    def gather(self, nodes: set[str], call: Call, then: Then, now: float) -> list[Effect]:
        """Ask all these nodes; `then` gets the bodies of those that answered."""
        self.missing = []
        if not nodes:
            return then([], now)
        self._seq += 1
        self._gatherings[self._seq] = _Gathering(call, set(nodes), now + GATHER_S, then)
        return [Send(node, Call(self._seq, call.verb, call.args)) for node in sorted(nodes)]

    def forward(self, src: str, call: Call, node: str, now: float, failed: Failed | None = None) -> list[Effect]:
        """Ask `node`, and pass its answer on to `src`; `failed` takes the call back where `node` cannot answer."""
        seq = self.expect(src, call, node, now)
        self._forwarded[seq].failed = failed
        return [Send(node, Call(seq, call.verb, call.args))]

    def expect(self, src: str, call: Call, node: str, now: float) -> int:
        """The number under which an answer of `node` is passed on to `src`."""
        self._seq += 1
        self._forwarded[self._seq] = _Forwarded(src, call, node, now + FORWARD_S)
        return self._seq

    def answered(self, node: str, seq: int) -> tuple[str, int] | None:
        """What `node` was asked is answered: (client, its number)."""
        forwarded = self._forwarded.get(seq)
        if forwarded is None or forwarded.node != node:
            return None
        del self._forwarded[seq]
        return forwarded.client, forwarded.seq

    def on_answer(self, src: str, answer: Answer, now: float) -> list[Effect]:
        """PeerError for a body that is not what the verb gives: then it counts as not answered."""
        forwarded = self._forwarded.get(answer.seq)
        if forwarded is not None and forwarded.node == src:
            return self._on_forwarded(forwarded, answer, now)
        gathering = self._gatherings.get(answer.seq)
        if gathering is None or src not in gathering.waiting:
            return []
        if answer.exit_code == EXIT_OK:
            check_body(gathering.call.verb, answer.body)
            gathering.bodies.append(answer.body)
            if more := self._next_page(gathering, src, answer, now):
                return more
        gathering.waiting.discard(src)
        if gathering.waiting:
            return []
        del self._gatherings[answer.seq]
        self.missing = []
        return gathering.then(gathering.bodies, now)

    def _on_forwarded(self, forwarded: _Forwarded, answer: Answer, now: float) -> list[Effect]:
        if forwarded.verb == "results" and answer.exit_code == EXIT_OK:
            check_body(forwarded.verb, answer.body)
            for item in answer.body["items"]:
                for row in item["results"]:
                    self._transfers.hint(bytes.fromhex(row["sha256"]), row["size"], forwarded.node)
        del self._forwarded[answer.seq]
        if answer.exit_code == EXIT_UNREACHABLE and forwarded.failed is not None:
            return forwarded.failed(JupiterError(answer.error, answer.hint, EXIT_UNREACHABLE), True, now)
        fields = (answer.exit_code, answer.body, answer.error, answer.hint)
        return [Send(forwarded.client, Answer(forwarded.seq, *fields))]

    def _next_page(self, gathering: _Gathering, src: str, answer: Answer, now: float) -> list[Effect]:
        """Ask the same node for what did not fit into its answer."""
        offset = answer.body.get("next")
        gathering.pages -= 1
        if offset is None or gathering.pages <= 0:
            return []
        gathering.due, call = now + GATHER_S, gathering.call
        return [Send(src, Call(answer.seq, call.verb, {**call.args, "offset": offset}))]

    def on_members(self, now: float) -> list[Effect]:
        """Calls under way to a node that is gone now go back to where they came from."""
        effects: list[Effect] = []
        for seq, forwarded in list(self._forwarded.items()):
            if forwarded.failed is not None and self._around.is_gone(forwarded.node):
                del self._forwarded[seq]
                lost = JupiterError(f"node {self._around.name(forwarded.node)} is lost", "ask again", EXIT_UNREACHABLE)
                effects += forwarded.failed(lost, False, now)
        return effects

    def next_deadline(self) -> float:
        due = [each.due for each in self._gatherings.values()] + [each.due for each in self._forwarded.values()]
        return min(due, default=inf)

    def on_deadline(self, now: float) -> list[Effect]:
        """Go on without those that did not answer."""
        effects: list[Effect] = []
        for seq, gathering in list(self._gatherings.items()):
            if gathering.due <= now:
                del self._gatherings[seq]
                self.missing = sorted(self._around.name(node) for node in gathering.waiting)
                effects += gathering.then(gathering.bodies, now)
        for seq, forwarded in list(self._forwarded.items()):
            if forwarded.due <= now:
                del self._forwarded[seq]
                effects.append(refusal(forwarded.client, forwarded.seq, late()))
        return effects


def late() -> JupiterError:
    return JupiterError("the node that has the answer does not answer", "try again", EXIT_UNREACHABLE)
