"""What this node holds of the cluster: members, rings, tombstones, and the log of what changed in which order.

The log gives every change of a member (key '') or of a published key a new place; a link remembers the place its peer
has confirmed, and so the digest of a ping is what lies above it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict

from jupiter_agent.core.board import Board
from jupiter_agent.core.membership.link import Link
from jupiter_agent.core.membership.member import Clock, Member
from jupiter_agent.core.membership.rings import Rings
from jupiter_agent.core.messages.membership import ALIVE, DEAD, Held, Record, Value


class View:
    """Keeps members, rings, ids, tombstones and the log in step; decides nothing."""

    def __init__(self, record: Record, rings: Rings, now: float) -> None:
        self.me = record.id
        self.clock = Clock(now)
        self.members: dict[str, Member] = {}
        self.rings = rings
        self.ids: list[str] = []
        self.tombs: OrderedDict[str, None] = OrderedDict()
        self.accused: set[str] = set()
        """members with a suspicion, refusals, a check or a contested death: what deadlines look at"""
        self.board = Board()
        self._names: dict[str, str] = {}
        self._named: dict[str, set[str]] = {}
        self.log: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.place = 0
        self.dirty = True
        """the rings changed since the overlay was computed"""
        self.add(Member(record, ALIVE, now, self.clock))

    @property
    def record(self) -> Record:
        return self.members[self.me].record

    def size(self) -> int:
        """Present members, this node included."""
        return len(self.rings)

    def touch(self, peer: str, key: str = "") -> None:
        self.place += 1
        self.log[peer, key] = self.place
        self.log.move_to_end((peer, key))

    def add(self, member: Member) -> None:
        peer = member.record.id
        self.members[peer] = member
        insort(self.ids, peer)
        self.filed(member)

    def filed(self, member: Member) -> None:
        """The member's state or record changed: put it on the rings or among the tombs, and log it."""
        peer = member.record.id
        self._name(peer, member.record.name)
        if member.present:
            self.tombs.pop(peer, None)
            self.dirty = self.dirty or peer not in self.rings
            self.rings.add(peer)
        else:
            self.accused.discard(peer)
            self.dirty = self.dirty or peer in self.rings
            self.rings.remove(peer)
            self.tombs[peer] = None
            self.tombs.move_to_end(peer)
        self.touch(peer)

    def put(self, value: Value) -> None:
        """A newer value on the board, logged. What the board drops with an owner's older boot is dropped here, too."""
        boot, versions = self.board.versions(value.owner)
        older = list(versions) if boot != value.boot else []
        self.board.put(value)
        for key in older:
            self.log.pop((value.owner, key), None)
        self.touch(value.owner, value.key)

    def forget(self, peer: str) -> None:
        """Drop a tombstone and all that is known of that member."""
        del self.members[peer], self.tombs[peer]
        self._name(peer, "")
        self.ids.pop(bisect_left(self.ids, peer))
        self.board.drop(peer)
        for entry in [entry for entry in self.log if entry[0] == peer]:
            del self.log[entry]

    def _name(self, peer: str, name: str) -> None:
        was = self._names.pop(peer, "")
        if was:
            self._named[was].discard(peer)
            if not self._named[was]:
                del self._named[was]
        if name:
            self._names[peer] = name
            self._named.setdefault(name, set()).add(peer)

    def has_twin(self, record: Record) -> bool:
        """Whether another present member has the same name."""
        return any(peer != record.id and self.members[peer].present for peer in self._named.get(record.name, ()))

    # --- digests ---

    def held(self, peer: str) -> Held:
        """The whole digest line of one member."""
        return self._line(peer, dict(self.board.versions(peer)[1]))

    def _line(self, peer: str, keys: dict[str, int]) -> Held:
        member = self.members[peer]
        record = member.record
        boot = self.board.versions(peer)[0] if keys else 0
        return Held(peer, record.boot, record.incarnation, member.rank, keys, boot)

    def version(self, peer: str, key: str) -> tuple[int, ...]:
        """What a link's `has` compares: (boot, incarnation, state) of a member, (boot, version) of a key."""
        if key:
            return self.board.version(peer, key)
        member = self.members[peer]
        return (member.record.boot, member.record.incarnation, member.rank)

    def news(self, link: Link, limit: int, again_s: float) -> tuple[int, list[Held]]:
        """What changed since the link's peer confirmed, oldest first, without what it is known to hold; and the place
        of the log that this covers. What was said less than `again_s` ago is not repeated yet: a peer that is slow to
        confirm is not helped by more to read."""
        confirmed, now = link.confirmed, self.clock.now
        if confirmed >= self.place:
            return self.place, []
        on_its_way = link.told > confirmed and now - link.told_at < again_s
        floor = link.told if on_its_way else confirmed
        entries: list[tuple[str, str]] = []
        for entry, place in reversed(self.log.items()):
            if place <= floor:
                break
            entries.append(entry)
        lines: dict[str, dict[str, int]] = {}
        covered, known, of_key = self.place, link.has, self.board.version
        for entry in reversed(entries):
            peer, key = entry
            if peer == link.peer:
                continue
            version = of_key(peer, key) if key else self.version(peer, "")
            if known.get(entry) == version:
                if not lines and not on_its_way:
                    link.confirmed = self.log[entry]  # nothing before it is left to say
                continue
            if peer not in lines:
                if len(lines) >= limit:
                    covered = self.log[entry] - 1
                    break
                lines[peer] = {}
            if key:
                lines[peer][key] = version[1]
        if lines:
            link.told, link.told_at = covered, link.told_at if on_its_way else now
        return confirmed if on_its_way else covered, [self._line(peer, keys) for peer, keys in lines.items()]

    def range(self, start: int, count: int) -> tuple[str, str, list[Held]]:
        """`count` ids from position `start`: (lo, hi, lines); the first range starts at '', the last ends at ''."""
        chosen = self.ids[start : start + count]
        following = self.ids[start + count : start + count + 1]
        lo = chosen[0] if start and chosen else ""
        return lo, following[0] if following else "", [self.held(peer) for peer in chosen]

    def between(self, lo: str, hi: str) -> list[str]:
        """The known ids in [lo, hi); hi '' is the end."""
        return self.ids[bisect_left(self.ids, lo) : bisect_left(self.ids, hi) if hi else len(self.ids)]

    def check(self) -> None:
        """Raise if the parts are out of step."""
        present = {peer for peer, member in self.members.items() if member.present}
        assert self.me in present, "this node is not a member of its own view"
        assert len(self.rings) == len(present), "the rings do not hold the present members"
        assert all(peer in self.rings for peer in present), "a present member is on no ring"
        assert self.ids == sorted(self.members), "the id list is out of step"
        assert set(self.tombs) == set(self.members) - present, "the tombs are out of step"
        assert self._names == {peer: member.record.name for peer, member in self.members.items()}, "names out of step"
        assert self.accused <= present, "an absent member is accused"
        for peer, member in self.members.items():
            assert member.record.id == peer, "a record is filed under another id"
            assert member.rank < DEAD or not member.refusals, "the dead are not accused"
