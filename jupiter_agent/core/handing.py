"""A node that drains gives its homes and its copies away before it leaves (DESIGN.md 95).

Home tells its first deputy that has everything to be home instead, again until it hears of the next home epoch; then it
is a former home like any other, hands over what the new one lacks, and is let go. A job without deputies gets one
first. Copies of other homes leave by themselves: no home keeps a deputy that drains. The node may leave when it keeps
nothing more, or when no other node could take it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.messages.jobs import HomeNews
from jupiter_agent.core.surroundings import Surroundings

if TYPE_CHECKING:
    from jupiter_agent.core.jobs import Jobs

AGAIN_S = 0.5


class Handing:
    """The homes of this node on their way to others."""

    def __init__(self, jobs: Jobs, around: Surroundings) -> None:
        self._jobs, self._around = jobs, around
        self._at = inf

    def begin(self, now: float) -> list[Effect]:
        """This node drains from now on."""
        self._at = now
        return self.on_deadline(now)

    def next_deadline(self) -> float:
        return self._at

    def on_deadline(self, now: float) -> list[Effect]:
        """Ask an heir for each job; those that have none yet get a deputy."""
        if self._at > now:
            return []
        self._at = now + AGAIN_S
        effects: list[Effect] = []
        for local in list(self._jobs.local.values()):
            home = local.home
            if home is None or not self._takers():
                continue
            effects += home.on_members(now) if home.copies.want_one() else []
            heir = home.copies.heir()
            if heir is not None:
                effects.append(Send(heir, HomeNews(local.job.id, local.job.home, home.copies.deputies, False, True)))
        return effects

    def inherit(self, src: str, message: HomeNews, now: float) -> list[Effect]:
        """A home that drains gives itself to this deputy."""
        succession = self._jobs.succession
        shelf = succession.shelves.get(message.job)
        if shelf is None or (src, message.home) != (shelf.home.writer, shelf.home):
            return []
        if self._around.me not in message.deputies.nodes:
            return []
        return succession.promote(message.job, shelf, now, given=True)

    def busy(self) -> bool:
        """Something here would be one copy less if the node left now, and others could take it."""
        keeps = any(local.home for local in self._jobs.local.values()) or bool(self._jobs.succession.shelves)
        return self._at < inf and keeps and bool(self._takers())

    def unready(self) -> str:
        """Why whoever replaces the agents one by one should wait for this one; '' when there is no need to.

        A home whose copies are not where they should be is the last to have something; so is a former one that has not
        handed over yet. With nobody who could take it there is nothing to wait for."""
        if self._at < inf:
            return "it drains"
        takers, transfers = self._takers(), self._jobs.transfers
        for home in self._jobs.homes():
            if home.copies.lacks(takers):
                return f"only this node has all of job {home.job.id}"
        for job, shelf in self._jobs.succession.shelves.items():
            if takers and self._around.me not in shelf.deputies.nodes and shelf.owes(transfers):
                return f"the home of job {job} does not have all that is here"
        return ""

    def _takers(self) -> list[str]:
        around = self._around
        others = [node for node in around.alive() if node != around.me and around.may_be_home(node)]
        return [node for node in others if around.profile(node).takes_tasks]
