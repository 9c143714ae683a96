"""Digests, pulls and published keys: how everybody comes to hold the same.

A new session starts with a full digest from each end that wants the link; each pulls what it lacks. After that pings
and acks carry only what changed since the other end confirmed, a pull asks once, the answer comes in small pieces,
and a pull that stays unanswered is repeated at another neighbour that has it. Every 10 s one range of ids is audited
in full with a random neighbour: there, absence is information too. Deaths travel in digests; suspicions do not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from jupiter_agent.core.board import to_data
from jupiter_agent.core.membership.context import NEAR, Context
from jupiter_agent.core.membership.effects import ProfileChanged
from jupiter_agent.core.membership.link import Link
from jupiter_agent.core.membership.member import NEVER
from jupiter_agent.core.membership.roster import Roster
from jupiter_agent.core.membership.waiting import Waiting
from jupiter_agent.core.messages.membership import DEAD, LEFT, Data, Held, Hello, News, Range, Record, Value, Want
from jupiter_agent.errors import OffenceError

PULLS_PER_TICK = 20
PULL_TRIES = 6
PULLS_MAX = (4096, 16384)
"""asked of one member, and in all: nobody's invented ids keep what others have from being asked for"""
WANTS_MAX = 256
"""So many members' values are asked for in one message"""
VERSION_BYTES = 350
"""What a new version of a key costs each member beside the value: ids, signature, lines of digests"""
NOTHING = (-1, -1)


class Gossip:
    """The exchange of versions and contents over links."""

    def __init__(self, context: Context, roster: Roster, now: float) -> None:
        self._context, self._roster = context, roster
        self._pulls: dict[tuple[str, str], tuple[float, int, str]] = {}
        """(id, key) -> when it was asked for, how many times, and of whom the last time"""
        self._asked: Counter[str] = Counter()
        """of whom -> how many pulls"""
        self._waiting = Waiting(context)
        self._own: dict[str, bytes] = {}
        self._unsaid: set[str] = set()
        """own keys held back: nobody answers us, the boot changed, or it is too early"""
        self._paces: dict[str, tuple[float, float]] = {}
        """own key -> (least seconds between versions, when the last two of them are used up)"""
        self._boot = context.view.record.boot
        self._audit_at = now + context.settings.audit_s * context.rng.random()
        self._audited = 0

    # --- sessions ---

    def greet(self, link: Link) -> None:
        """Hello, with everything if this end wants the link."""
        context = self._context
        view, record, width = context.view, context.view.record, context.settings.range_ids
        lines = view.range(0, width)[2] if link.want else []
        upto = view.place if link.want else 0
        context.send(link.peer, Hello(record.protocol, record, link.want, upto, lines))
        if link.want:
            for start in range(width, len(view.ids), width):
                context.send(link.peer, Range(*view.range(start, width)))

    def on_hello(self, src: str, message: Hello, now: float) -> None:
        if message.record.id != src:
            raise OffenceError("hello: speaks for another")
        self._roster.apply(message.record, src, now)
        link = self._context.link(src, now)
        link.confirmed, link.seen = 0, message.upto
        link.has.clear()
        if message.want:
            link.peer_want_at = now
        self._pull(src, self._compare(src, message.held, now))

    # --- digests ---

    def confirm(self, link: Link, upto: int, seen: int) -> None:
        """What a ping or an ack says of the two logs."""
        link.seen = max(link.seen, upto)
        if seen <= self._context.view.place:
            link.confirmed = max(link.confirmed, seen)

    def on_digest(self, src: str, held: list[Held], now: float) -> list[Want]:
        """News in a ping or an ack -> what to ask for."""
        return self._compare(src, held, now) if held else []

    def on_range(self, src: str, message: Range, now: float) -> None:
        view = self._context.view
        wants = self._compare(src, message.held, now)
        theirs = {line.id: line for line in message.held}
        push: list[Want] = []
        over: list[Held] = []
        for peer in view.between(message.lo, message.hi):
            line, member = theirs.get(peer), view.members[peer]
            boot, versions = view.board.versions(peer)
            if line is None:
                if member.present or not self._roster.is_full_of_the_dead():
                    push.append(Want(peer, True, list(versions)))
                continue
            newer = member.version > (line.boot, line.incarnation) or (member.rank == LEFT and line.state != LEFT)
            keys = [key for key, v in versions.items() if (boot, v) > (line.boot_of_keys, line.keys.get(key, 0))]
            if newer or keys:
                push.append(Want(peer, newer, keys))
            elif member.rank == DEAD and line.state < DEAD and member.version == (line.boot, line.incarnation):
                over.append(view.held(peer))
        self.answer(src, push, wants, over)

    def _compare(self, src: str, held: Iterable[Held], now: float) -> list[Want]:
        """Digest lines of a peer -> what it has newer and is not asked for already."""
        view, link = self._context.view, self._context.links.get(src)
        board = view.board
        wants: list[Want] = []
        me, members = self._context.me, view.members
        for line in held:
            version = (line.boot, line.incarnation)
            if line.id == me:
                mine = view.record
                accused = line.state == DEAD or version > (mine.boot, mine.incarnation)
                if accused and self._roster.refute(*version, now):
                    self._want(wants, src, line.id, [""], now)
                continue
            if self._context.trust.ledger.is_revoked(line.id):
                continue
            if link is not None:
                link.note((line.id, ""), (*version, line.state))
                for key, number in line.keys.items():
                    link.note((line.id, key), (line.boot_of_keys, number))
            member = members.get(line.id)
            if member is None and line.state >= DEAD and self._roster.is_full_of_the_dead():
                continue
            mine_of_it = member.version if member is not None else NOTHING
            newer = version > mine_of_it
            if member is not None and version == mine_of_it and line.state > member.rank:
                if line.state == LEFT:
                    newer = True
                elif line.state == DEAD and line.id != src:
                    self._roster.contest(member, now)
            keys = board.lacking(line.id, line.boot_of_keys, line.keys) if line.keys else []
            if keys and link is not None and self._waiting.is_due_later(line.id, now):
                self._waiting.put_off(line.id, [key for key in keys if (line.id, key) not in self._pulls], now)
                keys = [key for key in keys if (line.id, key) in self._pulls]
            if newer or keys:
                self._want(wants, src, line.id, [""] * newer + keys, now)
        return wants

    def _want(self, wants: list[Want], src: str, peer: str, keys: list[str], now: float) -> None:
        """Ask `src` for keys of a peer ("": its record), unless the same was asked within the last second."""
        limit = now - self._context.pull_s()
        ask = [key for key in keys if self._pulls.get((peer, key), (limit,))[0] <= limit]
        if self._asked[src] >= PULLS_MAX[0] or len(self._pulls) >= PULLS_MAX[1]:
            ask = [key for key in ask if (peer, key) in self._pulls]
        if not ask:
            return
        for key in ask:
            tries = self._answered(peer, key)
            self._pulls[peer, key] = (now, tries + 1, src)
            self._asked[src] += 1
        wants.append(Want(peer, "" in ask, [key for key in ask if key]))

    def _answered(self, peer: str, key: str) -> int:
        """No pull any more. How often it was asked for."""
        _, tries, src = self._pulls.pop((peer, key), (0.0, 0, ""))
        if tries:
            self._asked[src] -= 1
            if not self._asked[src]:
                del self._asked[src]
        return tries

    def _ask(self, src: str, peer: str, keys: list[str], now: float) -> None:
        wants: list[Want] = []
        self._want(wants, src, peer, keys, now)
        self._pull(src, wants)

    def _catch_up(self, now: float) -> None:
        """Ask for what was put off, of as few neighbours as have it."""
        context, view = self._context, self._context.view
        links = context.live_links()
        context.rng.shuffle(links)
        asked: dict[str, dict[str, list[str]]] = {}
        for peer, key in self._waiting.taken():
            mine = view.version(peer, key)[:2] if peer in view.members else NOTHING
            holder = next((link.peer for link in links if link.has.get((peer, key), NOTHING)[:2] > mine), "")
            if holder:
                asked.setdefault(holder, {}).setdefault(peer, []).append(key)
        for holder, owners in asked.items():
            wants: list[Want] = []
            for peer, keys in owners.items():
                self._want(wants, holder, peer, keys, now)
            for start in range(0, len(wants), WANTS_MAX):
                self._pull(holder, wants[start : start + WANTS_MAX])

    def _pull(self, peer: str, wants: list[Want]) -> None:
        if wants:
            self._context.send(peer, Data([], [], wants))

    # --- contents ---

    def answer(self, peer: str, wants: list[Want], own: list[Want], over: list[Held] | None = None) -> None:
        """Send what is wanted, a few items per message; `own` are wishes of ours that travel along."""
        context, size = self._context, self._context.settings.answer_items
        view, link = context.view, context.links.get(peer)
        records: list[Record] = []
        values: list[Value] = []
        over = list(over or [])
        for want in {want.id: want for want in wants}.values():
            member = view.members.get(want.id)
            if member is not None and want.record:
                records.append(member.record)
                if member.rank == DEAD:
                    over.append(view.held(want.id))
            found = (view.board.signed(want.id, key) for key in want.keys)
            values.extend(value for value in found if value is not None)
        if link is not None:
            link.has.update({(r.id, ""): view.version(r.id, "") for r in records})
            link.has.update({(v.owner, v.key): (v.boot, v.version) for v in values})
        for start in range(0, max(len(records), len(values), 1 if own or over else 0), size):
            chunk = slice(start, start + size)
            graves = over if start == 0 else [line for line in over if line.id in {r.id for r in records[chunk]}]
            context.send(peer, Data(records[chunk], values[chunk], own if start == 0 else [], graves))

    def on_data(self, src: str, message: Data, now: float) -> None:
        graves = {line.id: (line.boot, line.incarnation) for line in message.held if line.state == DEAD}
        for record in message.records:
            self._answered(record.id, "")
            self._roster.apply(record, src, now, buried=graves.get(record.id) == (record.boot, record.incarnation))
        for value in message.values:
            self._take(src, value, now)
        wants = self._compare(src, message.held, now)
        if message.want or wants:
            self.answer(src, message.want, wants)

    def on_news(self, src: str, message: News, now: float) -> None:
        link = self._context.links.get(src)
        for record in message.records:
            self._roster.apply(record, src, now)
            if link is not None:
                link.note((record.id, ""), (record.boot, record.incarnation, LEFT if record.left else 0))

    def _take(self, src: str, value: Value, now: float) -> None:
        context = self._context
        member = context.view.members.get(value.owner)
        link = context.links.get(src)
        if link is not None:
            link.note((value.owner, value.key), (value.boot, value.version))
        if value.owner == context.me:
            return
        if member is not None and value.boot > member.record.boot:  # on its way: then both are asked for again
            self._ask(src, value.owner, ["", value.key], now)
            return
        self._answered(value.owner, value.key)
        if member is None or not self._is_news(value):
            return
        context.trust.verify_value(value, member.record)
        context.view.put(value)
        member.fresh_at = now
        if value.key == NEAR:
            plain = context.view.board.get(value.owner, NEAR) or {}
            (context.far.add if plain.get("far") is True else context.far.discard)(value.owner)
        context.emit(ProfileChanged(value.owner, value.key))

    def _is_news(self, value: Value) -> bool:
        return self._context.view.board.lacks(value.owner, value.key, value.boot, value.version)

    # --- own keys ---

    def publish(self, key: str, value: dict[str, object], now: float, every_s: float = 0.0) -> None:
        """CapacityError if the value is too large. The same value again is no news. `every_s`: see `_pace`."""
        data = to_data(value)
        if self._own.get(key) != data:
            self._own[key] = data
            self._unsaid.add(key)
            self._paces[key] = (self._pace(every_s, len(data)), self._paces.get(key, (0.0, NEVER))[1])
            self._say(now)

    def _pace(self, every_s: float, size: int) -> float:
        """Seconds between two versions of a key in the long run, 0 for at once: what the caller asks for, and as many
        that all members together stay within the budget of bytes that each of them receives for one key."""
        settings, members = self._context.settings, self._context.view.size()
        return max(every_s, members * (size + VERSION_BYTES) / settings.key_bps) if every_s else 0.0

    def _is_early(self, key: str, now: float) -> bool:
        """A key may change twice in a row, and then once per pace (a token bucket of two)."""
        pace, used_up = self._paces[key]
        used_up = max(used_up, now - pace)
        if pace and used_up > now:
            return True
        self._paces[key] = (pace, used_up + pace)
        return False

    def _say(self, now: float) -> None:
        """Nothing new is said while nobody answers: it would be evidence of life of a node that is deaf."""
        context, view = self._context, self._context.view
        if view.size() > 1 and context.links and not context.heard_lately(now):
            return
        for key in sorted(self._unsaid):
            if self._is_early(key, now):
                continue
            self._unsaid.discard(key)
            boot = view.record.boot
            known, versions = view.board.versions(context.me)
            number = versions.get(key, 0) + 1 if known == boot else 1
            view.put(context.trust.signed_value(Value(context.me, key, boot, number, self._own[key])))
            context.emit(ProfileChanged(context.me, key))
            if not self._paces[key][0]:
                for link in context.links.values():
                    link.next_ping = min(link.next_ping, now)  # what is said at once is not kept until the next ping

    # --- time ---

    def due(self, last: float) -> float:
        """When an own key that was held back may be said, or a pull is looked after, after a tick at `last`."""
        soon = last + self._context.settings.tick_s
        if self._pulls or self._waiting:
            return soon
        return min((max(soon, self._paces[key][1]) for key in self._unsaid if self._paces[key][0]), default=math.inf)

    def on_tick(self, now: float) -> None:
        boot = self._context.view.record.boot
        if boot != self._boot:
            self._boot = boot
            self._unsaid.update(self._own)
            self._paces = {key: (pace, NEVER) for key, (pace, _) in self._paces.items()}
        if self._unsaid:
            self._say(now)
        if self._waiting and not self._waiting.goes_on(now):
            self._catch_up(now)
        if self._pulls:
            self._repeat_pulls(now)
        if now >= self._audit_at:
            self._audit_at = now + self._context.settings.audit_s * self._context.rng.uniform(0.8, 1.2)
            self._audit()

    def _repeat_pulls(self, now: float) -> None:
        """A pull or its answer was lost: ask another neighbour that has it."""
        context = self._context
        limit = now - context.pull_s()
        late: dict[str, list[tuple[str, str]]] = {}
        for entry, (asked, _, src) in self._pulls.items():
            if asked <= limit:
                late.setdefault(src, []).append(entry)
        share = max(1, PULLS_PER_TICK // max(1, len(late)))
        for peer, key in [entry for entries in late.values() for entry in entries[:share]]:
            mine = context.view.version(peer, key) if peer in context.view.members else (0, 0)
            holders = [link.peer for link in context.live_links() if link.has.get((peer, key), ())[:2] > mine[:2]]
            if not holders or self._pulls[peer, key][1] >= PULL_TRIES:
                self._answered(peer, key)
                continue
            self._ask(context.rng.choice(holders), peer, [key], now)

    def _audit(self) -> None:
        context, width = self._context, self._context.settings.range_ids
        links = context.live_links()
        if links:
            start = self._audited if self._audited < len(context.view.ids) else 0
            self._audited = start + width
            context.send(context.rng.choice(links).peer, Range(*context.view.range(start, width)))
