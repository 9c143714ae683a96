"""What goes in time: bundles nobody runs any more, jobs that ended long ago, and the copies of those (DESIGN.md 123).

A bundle stays for a while after its last job, for the next one is often of the same app. A job that is over stays, with
its results, until `JOBS_KEPT_S` have passed since its end; copies go first, so that no deputy takes the home's silence
for a lost disk. Logs, in the runner's folders, are the adapter's to remove (adapters/retention.py).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from jupiter_agent.core import records
from jupiter_agent.core.effects import Append, Effect, Notice
from jupiter_agent.core.home import Home
from jupiter_agent.core.items import Items
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages.jobs import JobSpec
from jupiter_agent.core.surroundings import Surroundings

if TYPE_CHECKING:
    from jupiter_agent.core.jobs import Jobs

LOOK_S = 600.0
BUNDLES_KEPT_S = 7 * 24 * 3600.0
BUNDLES_KEPT_FULL_S = 3600.0
"""With a disk that is nearly full"""
JOBS_KEPT_S = 30 * 24 * 3600.0
HOME_AFTER_COPIES_S = 6 * LOOK_S


class Retention:
    """Of one node's jobs and copies."""

    def __init__(self, jobs: Jobs, around: Surroundings) -> None:
        self._jobs, self._around = jobs, around
        self._unused: dict[bytes, float] = {}
        """bundle -> since when no job here needs it"""
        self._at = inf

    def begin(self, now: float) -> None:
        """There is something to look after, from now on."""
        self._at = min(self._at, now + LOOK_S)

    def next_deadline(self) -> float:
        return self._at

    def on_deadline(self, now: float) -> list[Effect]:
        """Look what may go."""
        if self._at > now:
            return []
        jobs = self._jobs
        effects: list[Effect] = []
        for job, shelf in list(jobs.succession.shelves.items()):
            if shelf.over and self._age_s(shelf.spec, shelf.items, now) > JOBS_KEPT_S:
                effects += jobs.succession.let_go(job, shelf, now)
        for local in list(jobs.local.values()):
            home, kept_s = local.home, JOBS_KEPT_S + HOME_AFTER_COPIES_S
            if home is None or not (local.job.over and home.telling.over):
                continue
            if self._age_s(local.job.spec, home.items, now) > kept_s:
                effects += self._forget(local, home, now)
        self._let_bundles_go(now)
        self._at = now + LOOK_S if jobs.local or jobs.succession.shelves or jobs.transfers.pinned else inf
        return effects

    def _age_s(self, spec: JobSpec, items: Items, now: float) -> float:
        """Since the end of a job that is over."""
        return self._around.wall(now) - max(spec.submitted_at, items.last_end or 0.0)

    def _forget(self, local: Local, home: Home, now: float) -> list[Effect]:
        """The job, its items and its results are gone."""
        job = local.job
        for item in home.items.values():
            self._jobs.transfers.release(records.kept(item), now)
        self._jobs.remove(job.id)
        gone = Notice("info", "job forgotten", {"job": job.id, "name": job.spec.name})
        return [Append(records.home_record(job.id, "freed", None), sync=True), gone]

    def _let_bundles_go(self, now: float) -> None:
        jobs, transfers = self._jobs, self._jobs.transfers
        used = {local.job.spec.bundle for local in jobs.local.values()}
        used |= {shelf.spec.bundle for shelf in jobs.succession.shelves.values()}
        idle = transfers.pinned - used
        self._unused = {bundle: self._unused.get(bundle, now) for bundle in idle}
        kept_s = BUNDLES_KEPT_FULL_S if self._around.profile(self._around.me).full else BUNDLES_KEPT_S
        for bundle in [bundle for bundle, since in self._unused.items() if now - since >= kept_s]:
            del self._unused[bundle]
            jobs.forget_bundle(bundle)
            transfers.unpin(bundle, now)
