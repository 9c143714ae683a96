"""When the next tick of membership comes.

What a node that idles costs is how often it wakes up. So a tick comes when a ping or a verdict on one is due; every
`tick_s` while somebody is accused or this node has not joined; soon after anything out of the ordinary; and else every
`rest_s`, for all that is slow.
"""

from __future__ import annotations

from jupiter_agent.core.membership.context import Context
from jupiter_agent.core.membership.gossip import Gossip
from jupiter_agent.core.membership.probe import Prober
from jupiter_agent.core.membership.seeds import SeedSet

LEAST = 0.25
"""of `tick_s`: two ticks are not closer to each other"""


class Clock:
    """`due`: when, in loop time."""

    def __init__(self, context: Context, prober: Prober, gossip: Gossip, seeds: SeedSet, now: float) -> None:
        self._context, self._prober, self._gossip, self._seeds = context, prober, gossip, seeds
        self.due = self._last = now
        self._stirred = False

    def stir(self, now: float) -> None:
        """Something happened that the parts may want to look at soon."""
        self._stirred = True
        self.due = min(self.due, now + self._context.settings.tick_s)

    def on_answer(self, now: float) -> None:
        """A ping was answered: the tick that would have judged it need not come."""
        if not self._stirred and self.due > now:
            self.due = max(now, self._next())

    def ticked(self, now: float) -> None:
        self._last, self._stirred = now, False
        self.due = self._next()

    def _next(self) -> float:
        context, settings = self._context, self._context.settings
        if not context.joined or context.view.accused:
            return self._last + settings.tick_s
        earliest, latest = self._last + LEAST * settings.tick_s, min(self._last + settings.rest_s, self._seeds.due)
        return max(earliest, min(latest, self._prober.due(self._last), self._gossip.due(self._last)))
