"""Recall: back into the cluster past its door, by the keys of members met in an earlier life.

The door of a cluster changes with its join secret; members' own keys do not. Whoever was away while it changed speaks
to members directly: they know its key as it knows theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.messages.membership import Buried, Record
from jupiter_agent.errors import PeerError

RECALL_S = 2.0
PATIENCE_S = 20.0
"""So long no refusal at the door ends this node, if it is a member"""
AT_ONCE = 3


class Recall:
    """Speaks to a few of the members it remembers, as long as it is alone."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._records: list[Record] = []
        self._at = float("-inf")

    def remember(self, records: Iterable[Record]) -> None:
        """Members of an earlier life; who was revoked since is none."""
        for record in records:
            try:
                self._context.trust.verify(record)
            except PeerError:
                continue
            if record.id != self._context.me and not self._context.has_stolen_key(record):
                self._records.append(record)
                self._context.recall_until = self._context.view.clock.now + PATIENCE_S
                self._context.learn(record)

    def on_tick(self, now: float) -> None:
        context = self._context
        if not self._records or now < self._at:
            return
        self._at = now + RECALL_S * context.rng.uniform(0.7, 1.3)
        if context.view.size() > 1:
            self._records.clear()
            return
        self._records = [record for record in self._records if not context.trust.ledger.is_revoked(record.id)]
        for record in context.rng.sample(self._records, min(AT_ONCE, len(self._records))):
            context.send(record.id, Buried(0, 0, context.view.record))
