"""Copies as they come in: home's to a deputy, a former holder's to home (DESIGN.md 7, rules 4, 6 and 8; here 78, 80).

A deputy merges each record, journals it, and says so; a record counts when the objects that it names are here as well.
Home takes in what is handed over once its objects are here, and confirms it when it is on its own deputies: then, and
not before, the former holder may let go.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from jupiter_agent.core import records
from jupiter_agent.core.effects import Append, Effect, Send
from jupiter_agent.core.job import LEAP, SIGNED
from jupiter_agent.core.messages.jobs import Copied, Copy, Deputies, HomeNews, HomeVersion, StreamId
from jupiter_agent.core.records import copy_record
from jupiter_agent.core.shelf import Shelf, restored
from jupiter_agent.core.surroundings import Surroundings
from jupiter_agent.errors import PeerError

if TYPE_CHECKING:
    from jupiter_agent.core.jobs import Jobs
    from jupiter_agent.core.succession import Succession

REMEMBERED = 10_000
"""jobs of which nothing is kept here, but who was heard to be home"""


class Incoming:
    """One stream of copies as its receiver sees it."""

    def __init__(self, src: str, stream: StreamId) -> None:
        self.src, self.stream = src, stream
        self.upto = 0
        self.lacking: dict[int, set[bytes]] = {}
        """place in the stream -> objects that were not here when the record came"""
        self.waiting: dict[int, tuple[str, Any]] = {}
        """place in the stream -> (item, its record), which counts when its objects are here"""


class Receiving:
    """All streams of copies that end at this node. `owner` keeps the shelves and the register."""

    def __init__(self, owner: Succession, jobs: Jobs, around: Surroundings) -> None:
        self._owner, self._jobs, self._around = owner, jobs, around
        self._transfers = jobs.transfers
        self._heard: OrderedDict[str, tuple[HomeVersion, Deputies]] = OrderedDict()
        self._incoming: dict[str, Incoming] = {}
        self._offers: dict[tuple[str, str], Copy] = {}
        """(job, former holder) -> what it offers, while objects of it are fetched"""
        self._taking: dict[str, dict[str, tuple[StreamId, int]]] = {}
        """job -> former holder -> the batch of its offer that is taken in but not copied yet"""

    def newest(self, job: str) -> tuple[HomeVersion, Deputies] | None:
        """The register as this node knows it, or as it heard of it without keeping anything of the job."""
        return self._owner.known(job) or self._heard.get(job)

    def hear(self, news: HomeNews) -> None:
        """Remember it, so that no earlier home is believed when it wants copies kept here."""
        known, _ = self._heard.get(news.job, (HomeVersion(0, "", 0), None))
        if known < news.home and news.home.epoch <= known.epoch + LEAP:
            self._heard[news.job] = (news.home, news.deputies)
            if len(self._heard) > REMEMBERED:
                self._heard.popitem(last=False)

    def forget(self, job: str, now: float) -> None:
        """The shelf of this job is gone; what waited for its objects was never promised."""
        incoming = self._incoming.pop(job, None)
        for _, value in incoming.waiting.values() if incoming else ():
            self._transfers.release(records.kept(records.to_item(value)), now)

    def home_left(self, job: str) -> None:
        """This node is home of the job no longer: what it took in is offered to the next one."""
        self._taking.pop(job, None)

    def on_copy(self, src: str, message: Copy, now: float) -> list[Effect]:
        """From the acting home to this deputy; or from a former holder to this home. PeerError: nothing has changed."""
        message = records.decoded(message)
        known = self.newest(message.job)
        if known is not None and known[0] > message.home:
            return [Send(src, HomeNews(message.job, *known))]
        local = self._jobs.local.get(message.job)
        if local is not None and local.home is not None and message.home == local.home.version:
            return self._on_offer(src, message, now) if src != self._around.me else []
        if src != message.home.writer or src == self._around.me:
            return []
        effects = self._owner.learn(message.job, (message.home, message.deputies, False), now)
        shelf = self._owner.shelves.get(message.job)
        incoming = self._incoming.get(message.job)
        if incoming is None or (incoming.src, incoming.stream) != (src, message.stream):
            if message.first != 1:
                return [*effects, Send(src, self._copied(message, 0, []))]
            if shelf is None:
                shelf = self._open(src, message)
                effects.append(Append(copy_record(message.job, "job", (shelf.signed, shelf.home)), sync=True))
                effects.append(Append(copy_record(message.job, "register", (shelf.home, shelf.deputies)), sync=True))
            effects += self.want_bundle(shelf, src, now)  # who was asked for it before may be gone
            self.forget(message.job, now)
            incoming = self._incoming[message.job] = Incoming(src, message.stream)
        assert shelf is not None
        shelf.home_boot, shelf.heard_at = self._around.boot_of(src), now
        return [*effects, *self._take_in(shelf, incoming, message, now), *self._owner.settle(message.job, now)]

    def _open(self, src: str, message: Copy) -> Shelf:
        """A shelf for a job that is new here. PeerError: not signed by a member, or no spec."""
        if not message.records or message.records[0][0] != "job":
            raise PeerError(f"copies of job {message.job} without its spec")
        try:
            signed, _ = restored(message.records[0][1])
        except (ValueError, TypeError) as error:
            raise PeerError(f"copies of job {message.job}: {error}") from None
        if not self._around.verify(signed.signer, SIGNED + signed.spec, signed.signature):
            raise PeerError(f"copies of job {message.job}: the spec is not signed by a member known here")
        shelf = Shelf(signed, message.home, message.deputies)
        if shelf.spec.id != message.job:
            raise PeerError(f"copies of job {message.job} name job {shelf.spec.id}")
        self._owner.shelves[message.job] = shelf
        return shelf

    def want_bundle(self, shelf: Shelf, src: str, now: float) -> list[Effect]:
        self._transfers.pin(shelf.spec.bundle)
        self._jobs.retention.begin(now)
        return self._transfers.want(shelf.spec.bundle, shelf.spec.bundle_size, [src], now)

    def _take_in(self, shelf: Shelf, incoming: Incoming, message: Copy, now: float) -> list[Effect]:
        """Merge what is new of a batch, journal it, and say so; what lacks an object waits for it."""
        effects: list[Effect] = []
        for seq, (kind, value) in enumerate(message.records, message.first):
            if seq <= incoming.upto:
                continue
            if seq != incoming.upto + 1:
                break
            incoming.upto = seq
            if kind == "job":
                incoming.lacking[seq] = {shelf.spec.bundle} - self._transfers.stored
            elif kind == "item":
                effects += self._hold(shelf, incoming, (seq, value), now)
            else:
                effects += self.shelve(shelf, (kind, value), incoming.src, now)
        effects += self._take_whole(shelf, incoming, now)
        if message.whole and not shelf.told_all:
            shelf.told_all = True
            effects += self._owner.step(now)
        return [*effects, Send(incoming.src, self._copied(message, incoming.upto, sorted(incoming.lacking)))]

    def _hold(self, shelf: Shelf, incoming: Incoming, record: tuple[int, Any], now: float) -> list[Effect]:
        """An item's record, until its objects are here; what waited of the same item is void."""
        seq, value = record
        item = records.to_item(value)
        effects = self._transfers.keep(records.kept(item), incoming.src, now)
        for older in [older for older, (name, _) in incoming.waiting.items() if name == item.name]:
            self._transfers.release(records.kept(records.to_item(incoming.waiting.pop(older)[1])), now)
            del incoming.lacking[older]
        incoming.waiting[seq] = (item.name, value)
        incoming.lacking[seq] = {obj.sha256 for obj in records.kept(item) if not self._transfers.has(obj)}
        return effects

    def _take_whole(self, shelf: Shelf, incoming: Incoming, now: float) -> list[Effect]:
        """Shelve the records that lack nothing any longer."""
        effects: list[Effect] = []
        while whole := [seq for seq, lacking in incoming.lacking.items() if lacking <= self._transfers.stored]:
            for seq in whole:
                del incoming.lacking[seq]
                if (waited := incoming.waiting.pop(seq, None)) is not None:
                    value = waited[1]
                    effects += self.shelve(shelf, ("item", value), incoming.src, now)
                    self._transfers.release(records.kept(records.to_item(value)), now)
        return effects

    def shelve(self, shelf: Shelf, record: tuple[str, Any], src: str, now: float) -> list[Effect]:
        """Merge one record into a shelf, hold its objects, journal it."""
        before, item, stores = shelf.apply(*record, from_home=src == shelf.home.writer)
        kind, value = record
        self._transfers.stored.update(store.sha256 for store in stores)
        effects: list[Effect] = [*stores]
        if item is not None:
            value = item
            effects += self._transfers.keep(records.kept(item), src, now)
            if before is not None:
                self._transfers.release(records.kept(before), now)
        return [*effects, Append(copy_record(shelf.spec.id, kind, value), sync=True)]

    def _copied(self, message: Copy, upto: int, lacking: list[int]) -> Copied:
        home, deputies = self._owner.known(message.job) or (message.home, message.deputies)
        return Copied(message.job, home, deputies.n, message.stream, upto, lacking)

    def on_stored(self, sha256: bytes, now: float) -> list[Effect]:
        """An object is here: perhaps the last one that some record lacked."""
        effects: list[Effect] = []
        for job, incoming in list(self._incoming.items()):
            shelf, before = self._owner.shelves.get(job), len(incoming.lacking)
            if shelf is None or not any(sha256 in lacking for lacking in incoming.lacking.values()):
                continue
            effects += self._take_whole(shelf, incoming, now)
            if len(incoming.lacking) < before:
                held = sorted(incoming.lacking)
                message = Copied(job, shelf.home, shelf.deputies.n, incoming.stream, incoming.upto, held)
                effects += [Append(copy_record(job, "here", [sha256]), sync=True), Send(incoming.src, message)]
        for (_, src), offer in list(self._offers.items()):
            effects += self._take_over(src, offer, now)
        return effects

    # --- what former holders hand over ---------------------------------------------------------------------------

    def _on_offer(self, src: str, message: Copy, now: float) -> list[Effect]:
        """Fetch its objects, then take it in; confirmed when it is on the deputies."""
        home = self._jobs.local[message.job].home
        assert home is not None
        home.copies.holders.add(src)
        taking = self._taking.get(message.job, {}).get(src)
        if taking == (message.stream, message.first) or self._offers.get((message.job, src)) == message:
            return []
        effects: list[Effect] = []
        for kind, value in message.records:
            if kind == "item":
                effects += self._transfers.keep(records.kept(records.to_item(value)), src, now)
        if earlier := self._offers.pop((message.job, src), None):
            self._forget_offer(earlier, now)
        self._offers[message.job, src] = message
        return effects + self._take_over(src, message, now)

    def _take_over(self, src: str, message: Copy, now: float) -> list[Effect]:
        local = self._jobs.local.get(message.job)
        items = [records.to_item(value) for kind, value in message.records if kind == "item"]
        if local is None or local.home is None or local.home.version != message.home:
            del self._offers[message.job, src]
            self._forget_offer(message, now)
            return []
        if not all(self._transfers.has(obj) for item in items for obj in records.kept(item)):
            return []
        del self._offers[message.job, src]
        self._taking.setdefault(message.job, {})[src] = (message.stream, message.first)
        effects: list[Effect] = []
        if local.home.too_late_for(items):
            effects += self._owner.reopen(local, src, message, now)
            local = self._jobs.local[message.job]
        home = local.home
        assert home is not None
        for kind, value in message.records:
            effects += home.take_over(kind, value, now)
        self._forget_offer(message, now)
        upto = message.first + len(message.records) - 1

        def confirm(at: float) -> list[Effect]:
            self._taking.get(message.job, {}).pop(src, None)
            return [Send(src, self._copied(message, upto, [])), *home.copies.tell(at)]

        effects += home.copies.when(True, confirm, now)
        return self._jobs.settle(local, effects, now)

    def _forget_offer(self, message: Copy, now: float) -> None:
        for kind, value in message.records:
            if kind == "item":
                self._transfers.release(records.kept(records.to_item(value)), now)
