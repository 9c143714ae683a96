"""Published values that wait: what newcomers publish is asked for when a crowd of them has come (DESIGN.md 132).

The signature of each value, and of its next version a moment later, would cost a large cluster more than to hear who is
there. Only values of members that are new here (or back) wait, so nobody who was there all the time is kept from being
heard; none waits longer than `LATER_S`.
"""

from __future__ import annotations

from jupiter_agent.core.membership.context import Context

LARGE = 40
"""members; in a smaller cluster nothing waits"""
NEW_S = 60.0
"""so long a member is new, or back"""
LATER_S = 10.0
"""so long the first value waits at most"""
MOST = 4096
"""values that wait"""


class Waiting:
    """(id, key) of values that were seen in digests. True while there are any."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._since: dict[tuple[str, str], float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def goes_on(self, now: float) -> bool:
        """Whether a crowd is still coming, and nothing has waited for too long."""
        context = self._context
        first = next(iter(self._since.values()), now)
        return now - context.crowded_at < context.settings.crowded_s and now - first < LATER_S

    def is_due_later(self, peer: str, now: float) -> bool:
        """Whether what this member publishes is to wait."""
        view = self._context.view
        if view.size() <= LARGE or len(self._since) >= MOST or not self.goes_on(now):
            return False
        member = view.members.get(peer)
        return member is None or not member.present or now - member.since < NEW_S

    def put_off(self, peer: str, keys: list[str], now: float) -> None:
        for key in keys:
            self._since.setdefault((peer, key), now)

    def taken(self) -> list[tuple[str, str]]:
        """All of them; from here on none waits."""
        taken = list(self._since)
        self._since.clear()
        return taken
