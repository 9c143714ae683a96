"""Planted bugs: proof that the storms would find such a bug, were it there.

Each mutant replaces one rule of the membership machine, from outside and only while its context is entered; the product
has no switch for it. A storm that stays whole under every mutant proves nothing: `jupiter bench sim --mutations` fails
then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import msgspec

from jupiter_agent.core.membership.member import NEVER, Member
from jupiter_agent.core.membership.roster import Roster
from jupiter_agent.core.membership.settings import MembershipSettings
from jupiter_agent.core.membership.suspicion import Suspicions
from jupiter_agent.core.membership.view import View
from jupiter_agent.core.messages.membership import ALIVE, DEAD, Claim, Held


def _no_evidence_rule() -> Any:
    """A suspicion that expires kills, even if newer data of the accused arrived meanwhile."""
    conclude = Suspicions._conclude

    def blind(self: Suspicions, peer: str, member: Member, now: float) -> None:
        member.fresh_at = NEVER
        conclude(self, peer, member, now)

    return mock.patch.object(Suspicions, "_conclude", blind)


def _deaths_not_in_digests() -> Any:
    """Anti-entropy says of the dead what it says of the living; only floods tell of deaths."""
    line = View._line

    def rosy(self: View, peer: str, keys: dict[str, int]) -> Held:
        held = line(self, peer, keys)
        return msgspec.structs.replace(held, state=ALIVE) if held.state == DEAD else held

    return mock.patch.object(View, "_line", rosy)


def _incarnation_not_bumped() -> Any:
    """Who is accused says again that it lives, in a record that is no newer."""
    restate = Roster.restate

    def stuck(self: Roster, now: float, **changes: int) -> None:
        changes.pop("incarnation", None)
        restate(self, now, **changes)

    return mock.patch.object(Roster, "restate", stuck)


def _confirmations_count_twice() -> Any:
    """Every accuser shortens the suspicion as if it were two."""
    proper = MembershipSettings.suspicion_s

    def hasty(self: MembershipSettings, members: int, accusers: int) -> float:
        return proper(self, members, 2 * accusers)

    return mock.patch.object(MembershipSettings, "suspicion_s", hasty)


def _one_witness_counts_as_two() -> Any:
    """Whoever says that a host refuses is believed as if another had said so as well."""
    on_refused = Suspicions._on_refused

    def doubled(self: Suspicions, member: Member, claim: Claim, now: float) -> bool:
        news = on_refused(self, member, claim, now)
        if news:
            member.refusals[claim.by + " again"] = now
        return news

    return mock.patch.object(Suspicions, "_on_refused", doubled)


MUTANTS: dict[str, Callable[[], Any]] = {
    "no evidence rule": _no_evidence_rule,
    "deaths not in anti-entropy": _deaths_not_in_digests,
    "incarnation not bumped on refutation": _incarnation_not_bumped,
    "confirmations counted twice": _confirmations_count_twice,
    "one witness counted as two": _one_witness_counts_as_two,
}
"""What is wrong -> the patch that plants it, a context manager."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The named bug is there while the context is entered."""
    with MUTANTS[name]():
        yield
