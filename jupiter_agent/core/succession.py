"""Who is home of a job, and what becomes of the copies when that changes (DESIGN.md 7, rules 6, 8 and 9; here 78-81).

Deputies, former deputies and former homes keep a `Shelf` per job. When the home that a shelf knows is gone, the
deputies promote in their order, one second apart; with none alive, any holder of copies does, in the order of ids. A
promoted node writes the next home epoch, becomes home with the records of its shelf, and everybody's unfinished
parcels come to it by themselves, for home is a receiver like others. Of two homes the one of the higher version acts;
the other steps down: it becomes a shelf, and hands over what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec import convert

from jupiter_agent.core import records
from jupiter_agent.core.copies import Stream
from jupiter_agent.core.effects import Append, Effect, Notice, Send
from jupiter_agent.core.job import SETTLE_S, decode_spec
from jupiter_agent.core.messages.jobs import Copied, Copy, Deputies, HomeKnown, HomeNews, HomeVersion, JobUnknown
from jupiter_agent.core.receiving import Receiving
from jupiter_agent.core.records import copy_record, home_record
from jupiter_agent.core.shelf import Shelf, restored
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.errors import PeerError

if TYPE_CHECKING:
    from jupiter_agent.core.jobs import Jobs
    from jupiter_agent.core.local import Local

STRANGER_S = 15.0
"""After a start: how long a home that no member record is known of may still turn up"""
RANK_S = 1.0
"""Between one deputy's turn to promote and the next one's"""
GRACE_S = 2.0
"""After the word that a node is home, though it is thought to be gone: time to hear that it lives"""
AUDIT_S = 20.0
PROBE_S = 2.0
"""Between questions to a home that has started again: are you still?"""
HEIRS_AFTER = 2
"""turns that other holders of copies leave to the deputies"""


class Succession:
    """All shelves of this node, and the way from shelf to home and back."""

    def __init__(self, jobs: Jobs, around: Surroundings) -> None:
        self.shelves: dict[str, Shelf] = {}
        self.promoted = 0
        """how often this node became home in another's place"""
        self.on_promoted: Callable[[float], None] = lambda now: None
        """set by the composition: jobs that were never mapped centrally may be this node's to map"""
        self._jobs, self._around = jobs, around
        self._transfers = jobs.transfers
        self.receiving: Receiving = Receiving(self, jobs, around)
        self._gone_since: dict[str, float] = {}
        self._streams = 0
        self._retry_at = inf

    # --- the register ------------------------------------------------------------------------------------------

    def learn(self, job: str, news: tuple[HomeVersion, Deputies, bool], now: float) -> list[Effect]:
        """The register as somebody says it: workers follow it, a home that lost steps down. PeerError: no such home."""
        home, deputies, complete = news
        self.check_home(job, home)
        local, shelf = self._jobs.local.get(job), self.shelves.get(job)
        effects: list[Effect] = []
        if local is not None and local.job.merge_home(home):
            local.execution.counters.touch(now)
            if local.home is not None:
                effects += self.step_down(local, now)
                shelf = self.shelves[job]
        before = shelf.home.writer if shelf is not None else home.writer
        if shelf is not None and shelf.learn(home, deputies, complete):
            self._gone_since.pop(job, None)
            shelf.heard_at = now
            effects.append(Append(copy_record(job, "register", (home, deputies)), sync=True))
            if before not in (home.writer, self._around.me) and not self._around.is_gone(before):
                effects.append(Send(before, HomeNews(job, home, deputies)))  # it may still take itself for home
            effects += self.step(now)
        return effects

    def check_home(self, job: str, home: HomeVersion) -> None:
        """PeerError: a member of this role is home of nothing."""
        if self._around.knows(home.writer) and not self._around.may_be_home(home.writer):
            raise PeerError(f"job {job}: {self._around.name(home.writer)} may not be home")

    def on_news(self, src: str, message: HomeNews, now: float) -> list[Effect]:
        """The register, from whom acts as home; one that is older here than there learns of the newer one."""
        known = self.receiving.newest(message.job)
        if known is not None and known[0] > message.home:
            return [Send(src, HomeNews(message.job, *known))]
        if message.leaving:
            return self._jobs.handing.inherit(src, message, now)
        acting = self._acting(message.job) is not None
        if message.home.writer == self._around.me and not acting and src != self._around.me:
            return [Send(src, JobUnknown(message.job))]
        local = self._jobs.local.get(message.job)
        if acting and local and local.home and message.home == local.home.version and src != self._around.me:
            known_here = HomeKnown(message.job, message.home, message.deputies.n, False)
            return [Send(src, known_here), Send(src, local.home.copies.news())]  # it asked: are you still home?
        effects = self.learn(message.job, (message.home, message.deputies, message.complete), now)
        self.receiving.hear(message)
        local = self._jobs.local.get(message.job)
        if acting and local is not None and local.home is not None and src != self._around.me:
            local.job.involve([src])  # it asks because it holds copies: it wants to know when it may let go
            effects += local.home.copies.tell(now)
        answer = HomeKnown(message.job, message.home, message.deputies.n, message.complete)
        return [*effects, Send(src, answer), *self.settle(message.job, now)]

    def _acting(self, job: str) -> tuple[HomeVersion, Deputies] | None:
        local = self._jobs.local.get(job)
        return local.home.copies.register if local is not None and local.home is not None else None

    def on_disowned(self, src: str, job: str, now: float) -> list[Effect]:
        """A node that should be home of the job knows nothing of it: it lost its disk."""
        shelf = self.shelves.get(job)
        if shelf is None or shelf.home.writer != src or src == self._around.me:
            return []
        shelf.disowned = True
        return self.step(now)

    def known(self, job: str) -> tuple[HomeVersion, Deputies] | None:
        """The register as this node knows it."""
        local, shelf = self._jobs.local.get(job), self.shelves.get(job)
        if local is not None and local.home is not None:
            return local.home.copies.register
        if shelf is not None:
            return shelf.home, shelf.deputies
        return (local.job.home, Deputies()) if local is not None else None

    def on_known(self, src: str, message: HomeKnown, now: float) -> list[Effect]:
        local = self._jobs.local.get(message.job)
        shelf = self.shelves.get(message.job)
        if shelf is not None and (src, message.home) == (shelf.home.writer, shelf.home):
            shelf.home_boot = self._around.boot_of(src)
        if local is None or local.home is None:
            return []
        return local.home.on_known(src, message, now) + self.settle(message.job, now)

    def settle(self, job: str, now: float) -> list[Effect]:
        local = self._jobs.local.get(job)
        return self._jobs.settle(local, [], now) if local is not None else []

    # --- confirmations -------------------------------------------------------------------------------------------

    def on_copied(self, src: str, message: Copied, now: float) -> list[Effect]:
        """A deputy has what this home sent; or the acting home has what was handed over."""
        local, shelf = self._jobs.local.get(message.job), self.shelves.get(message.job)
        if local is not None and local.home is not None:
            return self._jobs.settle(local, local.home.on_copied(src, message, now), now)
        if shelf is None or shelf.handing is None or (src, message.home) != (shelf.home.writer, shelf.home):
            return []
        if not shelf.handing.on_copied(message, now):
            return []
        if shelf.handing.forgotten:
            shelf.handing = None
        elif shelf.handing.idle:
            shelf.handed()
        return self.step(now)

    # --- from shelf to home, and back ------------------------------------------------------------------------------

    def step(self, now: float) -> list[Effect]:
        """What each shelf calls for: promote, hand over, let go."""
        effects: list[Effect] = []
        for job, shelf in list(self.shelves.items()):
            writer = shelf.home.writer
            if self.shelves.get(job) is not shelf:
                continue
            if self._is_lost(writer) or shelf.disowned:
                self._gone_since.setdefault(job, now)
                if self._due(job, shelf) <= now:
                    effects += self.promote(job, shelf, now)
                continue
            self._gone_since.pop(job, None)
            if self._probe_at(shelf) <= now:
                shelf.probe_at = now + PROBE_S
                effects.append(Send(writer, HomeNews(job, shelf.home, shelf.deputies)))
            mine = self._around.me in shelf.deputies.nodes
            if shelf.handing is None and (shelf.told_all or not mine) and shelf.owes(self._transfers):
                effects += self._hand_over(shelf, now)
            if not mine and shelf.complete and not shelf.owes(self._transfers):
                effects += self.let_go(job, shelf, now)
        return effects

    def _is_lost(self, writer: str) -> bool:
        """Gone; or it never was heard of since this agent started; or this very node, which forgot that it was home."""
        around = self._around
        return around.is_gone(writer) or not around.knows(writer) or writer == around.me

    def _due(self, job: str, shelf: Shelf) -> float:
        """When it is this node's turn to promote: not right after somebody said who is home, for members lag behind."""
        since = self._gone_since[job] + self._turn(shelf) * RANK_S
        if not self._around.knows(shelf.home.writer):
            since += STRANGER_S
        return max(since, shelf.heard_at + GRACE_S)

    def _turn(self, shelf: Shelf) -> int:
        """How many others may promote before this node."""
        living = [node for node in shelf.deputies.nodes if not self._around.is_gone(node)]
        if self._around.me in living:
            return living.index(self._around.me)
        return len(living) + HEIRS_AFTER + sorted(self._around.alive()).index(self._around.me)

    def promote(self, job: str, shelf: Shelf, now: float, given: bool = False) -> list[Effect]:
        """Be home from now on, under the next epoch. `given`: by the home before, which lives."""
        before, me = shelf.home, self._around.me
        version = HomeVersion(before.epoch + 1, me, self._around.boot)
        register = (version, shelf.deputies_under(me, self._around.is_gone))
        effects: list[Effect] = [Append(copy_record(job, "promoted", register), sync=True)]
        local = self._become_home(job, shelf, version, now)
        home = local.home
        assert home is not None
        home.restore("register", register)
        home.copies.holders.update(shelf.deputies.nodes)
        local.job.involve([before.writer, *shelf.deputies.nodes])
        fields = {"job": job, "name": shelf.spec.name, "in_place_of": self._around.name(before.writer)}
        effects.append(Notice("warning", "home taken over", {**fields, "epoch": version.epoch}))
        effects += home.resume(now, -inf, before.writer if before.writer != me else "", ended=not given)
        self._release(shelf, now)
        self.promoted += 1
        self.on_promoted(now)
        local.execution.counters.touch(now)
        effects += self._jobs.need_bundle(local, before.writer, now)
        return self._jobs.settle(local, effects + local.wave.step(now), now)

    def _become_home(self, job: str, shelf: Shelf, version: HomeVersion, now: float) -> Local:
        """The home machine with the records of the shelf; the shelf is gone."""
        del self.shelves[job]
        self.receiving.forget(job, now)
        self._gone_since.pop(job, None)
        local = self._jobs.become_home(shelf.signed, shelf.spec, version, now)
        assert local.home is not None
        for each in list(shelf.entries())[1:]:
            local.home.restore(each.kind, each.value)
        return local

    def step_down(self, local: Local, now: float) -> list[Effect]:
        """Another one is home: keep what is here as copies, until that one has it."""
        home, job = local.home, local.job
        assert home is not None
        register = (job.home, Deputies(0, [], home.copies.led()))
        effects: list[Effect] = [Append(home_record(job.id, "deposed", register), sync=True)]
        self._to_shelf(local, *register)
        fields = {"job": job.id, "name": job.spec.name, "to": self._around.name(job.home.writer)}
        return [*effects, Notice("warning", "home given up", fields), *home.retire(now), *self.step(now)]

    def reopen(self, local: Local, src: str, offer: Copy, now: float) -> list[Effect]:
        """The job has ended, but an item that `src` offers has not: go on with it, under the next home epoch.

        Hosts that were told of the end believe a later home. They have forgotten what they decided, and would decide
        anew under the same versions; so this home writes all places again.
        """
        job, home = local.job, local.home
        assert home is not None
        deputies = home.copies.deputies
        effects: list[Effect] = [Append(home_record(job.id, "deposed", (job.home, deputies)), sync=True)]
        self._to_shelf(local, job.home, deputies)
        shelf = self.shelves[job.id]
        shelf.deputies, shelf.over = deputies, ""
        effects.append(Append(copy_record(job.id, "reopened", None), sync=True))
        for record in offer.records:
            effects += self.receiving.shelve(shelf, record, src, now) if record[0] == "item" else []
        effects.append(Notice("warning", "job goes on", {"job": job.id, "why": "items that another home accepted"}))
        effects += self.promote(job.id, shelf, now)
        again = self._jobs.local[job.id]
        places = {task: register.node for task, register in again.job.registers.items()}
        effects += home.hand_back(now) + again.wave.assign(places, "the job goes on", now)
        return self._jobs.settle(again, effects, now)

    def _to_shelf(self, local: Local, home: HomeVersion, deputies: Deputies) -> None:
        before = local.home
        assert before is not None
        self.receiving.home_left(local.job.id)
        shelf = self.shelves[local.job.id] = Shelf(local.job.signed, before.version, before.copies.deputies)
        for each in before.entries():
            if each.kind != "job":
                shelf.apply(each.kind, each.value, from_home=False)
        shelf.learn(home, Deputies(), False)
        shelf.led = deputies.former
        self._jobs.no_longer_home(local)

    def _hand_over(self, shelf: Shelf, now: float) -> list[Effect]:
        self._streams += 1
        ident = (self._around.boot, self._streams)
        shelf.offered = {}
        shelf.handing = Stream(shelf.spec.id, shelf.home.writer, ident, shelf.offer(self._transfers), 0)
        return shelf.handing.pump((shelf.home, shelf.deputies), now)

    def let_go(self, job: str, shelf: Shelf, now: float) -> list[Effect]:
        """The acting home and its deputies have everything, or the job ended long ago."""
        del self.shelves[job]
        self.receiving.forget(job, now)
        self._release(shelf, now)
        return [Append(copy_record(job, "freed", None), sync=True)]

    def _release(self, shelf: Shelf, now: float) -> None:
        for item in shelf.items.values():
            self._transfers.release(records.kept(item), now)

    # --- time, journal -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        turns = (self._due(job, self.shelves[job]) for job in self._gone_since)
        handing = (s.handing.next_deadline() for s in self.shelves.values() if s.handing)
        probes = (self._probe_at(s) for job, s in self.shelves.items() if job not in self._gone_since)
        return min([*turns, *handing, *probes], default=inf)

    def _probe_at(self, shelf: Shelf) -> float:
        """When home is asked whether it still is: soon in doubt, else now and then, for news may have been lost."""
        return shelf.probe_at + (0.0 if self._doubts(shelf) else AUDIT_S)

    def _doubts(self, shelf: Shelf) -> bool:
        """Home has started again since it was heard of; or it may not know that this node holds copies."""
        again = self._around.boot_of(shelf.home.writer) > shelf.home_boot
        return again or not (shelf.complete or self._around.me in shelf.deputies.nodes)

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for shelf in self.shelves.values():
            if shelf.handing is not None:
                register = (shelf.home, shelf.deputies)
                effects += shelf.handing.on_deadline(register, now) + shelf.handing.pump(register, now)
        return effects + self.step(now)

    def records(self) -> list[records.Record]:
        """What the journal must hold to bring the shelves back."""
        found = []
        for job, shelf in self.shelves.items():
            found.append(copy_record(job, "job", (shelf.signed, shelf.home)))
            found.append(copy_record(job, "register", (shelf.home, shelf.deputies)))
            found += [copy_record(job, each.kind, each.value) for each in shelf.facts()]
            found += [copy_record(job, "item", item) for item in shelf.items.frozen()]
        return found

    def replay(self, journal: Iterable[Any], now: float) -> list[Effect]:
        """Replay the journal of an earlier run of this agent: its jobs go on where they were, its copies are held."""
        jobs = self._jobs
        for machine, job, kind, value in journal:
            home = jobs.local[job].home if job in jobs.local else None
            if machine == "copy":
                self._restore(job, kind, value, now)
            elif kind == "job":
                signed, version = restored(value)
                jobs.create_home(signed, decode_spec(signed), version, now)
            elif home is not None and kind == "deposed":
                self._to_shelf(jobs.local[job], *_register(value))
            elif home is not None and kind == "freed":
                jobs.remove(job)
            elif home is not None:
                home.restore(kind, value)
        effects = self._resume(now)
        for local in jobs.local.values():
            if local.home is not None:
                effects += local.home.resume(now, now + SETTLE_S)
            if not local.job.over:
                local.wave.hold(now + SETTLE_S)
                effects = jobs.settle(local, effects + jobs.need_bundle(local, self._around.me, now), now)
        return effects

    def _restore(self, job: str, kind: str, value: Any, now: float) -> None:
        """Apply one journal record of a copy."""
        shelf = self.shelves.get(job)
        if kind == "job":
            self.shelves[job] = Shelf(*restored(value), Deputies())
        elif shelf is None:
            return
        elif kind == "register":
            shelf.learn(*_register(value), False)
        elif kind == "promoted":
            local = self._become_home(job, shelf, _register(value)[0], now)
            assert local.home is not None
            local.home.restore("register", value)
        elif kind == "reopened":
            shelf.over = ""
        elif kind == "freed":
            del self.shelves[job]
        else:
            shelf.apply(kind, value, from_home=False)

    def _resume(self, now: float) -> list[Effect]:
        """After the journal: hold what the shelves name."""
        effects: list[Effect] = []
        for shelf in self.shelves.values():
            for item in shelf.items.values():
                for obj in records.kept(item):
                    source = self._around.me if self._transfers.has(obj) else shelf.home.writer
                    effects += self._transfers.keep([obj], source, now)
            effects += self.receiving.want_bundle(shelf, shelf.home.writer, now)
        return effects


def _register(value: Any) -> tuple[HomeVersion, Deputies]:
    return convert(value, tuple[HomeVersion, Deputies])
