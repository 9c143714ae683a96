"""Active probes: few bytes, where they tell most (DESIGN.md 97).

A *look* at a peer is a handful of probes, one at a time: short ones for the round trip, long ones for the rate from
there to here. The least of each counts, since noise only adds; the difference is what the bytes took. A look at a link
that is not known begins with `FIRST` bytes and, if a mapping asked about it, goes on with as many as should take
`TELLING_S`, at most what TCP sends in one go where the path is long. Looked at are, in this order: neighbours whose
round trip nobody knows; links that a mapping asked about, again every `WANTED_S` for a while; round trips that got old;
and, one every `IDLE_EVERY_S`, the rates of all other neighbours. What surprises is looked at once more at once.

Every node keeps to a budget, for what it asks for and, apart from it, for what it answers: at most the profile's bits
per second over any minute (three quarters of it, and a quarter of a minute saved up), and one hundredth of the time of
each link. A node that has nothing left answers without bytes: a round trip, still.

Must not know: sockets, what else is said on a link, why somebody wants to know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from math import inf

from msgspec import Struct

from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.estimate import Links
from jupiter_agent.core.messages.links import PROBE_BYTES, USUAL_Q, LinkEcho, LinkProbe
from jupiter_agent.core.profiling.budget import Budget

TICK_S, SOON_S = 1.0, 0.1
AT_ONCE, SHORT_AT_ONCE = 4, 16
"""Looks with long probes, and all together"""
FIRST = 2048
LEAST = 1024
ONE_GO = 12_000
"""Bytes that leave before the first acknowledgement, with what CURVE and ZMTP add (ten segments)"""
SHORT_RTT_S = 0.005
"""On a path as short as this one more round trip is no matter"""
TELLING_S = 0.002
"""A long probe should take so much longer than a short one"""
SHORTS = 2
REPEATS = 2
MOST = 3
"""Long probes of one size in a look: when the last one surprised, and at most"""
LATER_S = 5.0
"""Who answered without bytes is asked again then"""
WANTED_S = 20.0
WANTED_FOR_S = 600.0
RTT_OLD_S = 60.0
RTT_SURE, RTT_AGAIN_S = 4, 1.5
"""A round trip of which there are fewer samples is measured again so soon: an agent that starts is busy"""
LATE_S, STARVED_S = 0.1, 5.0
"""Who is served so late has no time to itself: then, and for so long after, only what a mapping asked about is looked
at; what a starved agent would measure is its own processor"""
SUSPECT_S = 10.0
"""A suspicion is looked at at once, the next one of the same link so much later: it is mostly the processors"""
IDLE_S, IDLE_EVERY_S, NEW_EVERY_S = 600.0, 30.0, 3.0
"""The rate of a link that nobody asked about, and of all of them: an idle agent costs little; sooner while it is new"""
FEW = 4
"""A mapping that asks about so many links gets each of them measured well at once"""
FAR, FAR_AGAIN_S = 4, 120.0
"""Of the candidates of a mapping that are no neighbours so many are looked at, and again so much later: each look needs
a session of its own"""
PATIENCE_S = 1.0
LOST = 3
AGAIN_S = 30.0
HEAD_BYTES = 120
"""What a message has around its bytes: CURVE, ZMTP, TCP, IP"""
LINK_SHARE = 0.01
SAVED_S = 15.0
STEADY = 0.75
ANSWERS_BYTES_PER_S = 500.0
"""At least, also where nothing is asked"""
NOISE_S = 0.0001
TOLD = 0.2
"""A rate that changed by more than this share is told at once"""


_IDLY = 2.0
"""The place in the row of what nobody asked about"""


class ProbeSettings(Struct, frozen=True):
    """`bits_per_s`: what a node may say in probes, and in answers to them; 0: it does not ask."""

    bits_per_s: float = 0.0


PROBES = {"lan": ProbeSettings(200e3), "wan": ProbeSettings(50e3), "manet": ProbeSettings(4e3)}


class _Look:
    """One look at a peer, going on. `size` 0: only at the round trip."""

    def __init__(self, size: int, repeats: int) -> None:
        self.size, self.repeats = size, repeats
        self.short: list[float] = []
        self.long: list[float] = []
        self.serial = -1
        self.asked = 0
        self.at = 0.0
        self.due = inf
        self.lost = 0
        self.again = False
        """because the last one was not as expected"""


class Probing:
    """`near`: the peers that this node has a session with. `reachable`: whether one may be sent to directly."""

    def __init__(
        self, me: str, links: Links, near: Callable[[], Iterable[str]], reachable: Callable[[str], bool],
        settings: ProbeSettings,
    ) -> None:  # fmt: skip
        self.counters: Counter[str] = Counter()
        self._me, self._links, self._near, self._reachable = me, links, near, reachable
        self._bytes_per_s = settings.bits_per_s / 8
        self._asking = Budget(STEADY * self._bytes_per_s, SAVED_S * self._bytes_per_s, 0.0)
        """what others are to say for us"""
        said = max(ANSWERS_BYTES_PER_S, self._bytes_per_s)
        self._saying = Budget(STEADY * said, SAVED_S * said, 0.0)
        self._shares: dict[str, Budget] = {}
        """of the time of each link"""
        self._looks: dict[str, _Look] = {}
        self._wanted: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._suspected: dict[str, float] = {}
        self._told: dict[str, float] = {}
        """what each peer has last heard of the link from it, seconds per byte"""
        self._serial = 0
        self._tick_at = 0.0 if self._bytes_per_s else inf
        self._idle_at = 0.0
        self._starved_until = 0.0

    # --- what is asked of it -----------------------------------------------------------------------------------------

    def want(self, candidates: Iterable[str], now: float) -> None:
        """A mapping asks about the links among these nodes: those that come in here are looked at. Of those that are
        no neighbours some, chosen by the ids, so that all nodes together look at different ones."""
        if not self._bytes_per_s:
            return
        near = set(self._near())
        others = [peer for peer in dict.fromkeys(candidates) if peer != self._me and self._reachable(peer)]
        far = sorted((peer for peer in others if peer not in near), key=self._lot)[:FAR]
        for peer in (*(peer for peer in others if peer in near), *far):
            self._wanted[peer] = now + WANTED_FOR_S
        self._tick_at = min(self._tick_at, now)

    def soon(self, now: float) -> None:
        """There is a new session: look almost at once, and once for those that come together."""
        if self._bytes_per_s:
            self._tick_at = min(self._tick_at, now + SOON_S)

    def suspect(self, peer: str, now: float) -> None:
        """Something about this link was not as expected: look again soon."""
        quiet_until = max(self._not_before.get(peer, -inf), self._suspected.get(peer, -inf))
        busy = quiet_until > now or peer in self._looks or self.is_starved(now)
        if self._bytes_per_s and not busy and self._may_ask(peer):
            self._suspected[peer] = now + SUSPECT_S
            self._not_before[peer] = now + 2 * TICK_S
            self._looks[peer] = _Look(0, 1)
            self._tick_at = min(self._tick_at, now)

    def forget(self, peer: str) -> None:
        for known in (self._looks, self._wanted, self._not_before, self._shares, self._suspected, self._told):
            known.pop(peer, None)

    def _lot(self, peer: str) -> bytes:
        return blake2b(f"{self._me}:{peer}".encode(), digest_size=8).digest()

    # --- messages ----------------------------------------------------------------------------------------------------

    def on_probe(self, src: str, message: LinkProbe, now: float) -> list[Effect]:
        """Answer it, with as many bytes as the budget has."""
        self._links.on_told(src, message.q)
        held = self._saying.held(now)
        size = message.size if message.size + HEAD_BYTES <= held else 0
        if held < HEAD_BYTES:
            self.counters["probes_unanswered"] += 1
            return []
        self._say(size + HEAD_BYTES, now)
        return [Send(src, LinkEcho(message.serial, max(0.0, now), self._q(src), bytes(size)))]

    def on_echo(self, src: str, message: LinkEcho, now: float) -> list[Effect]:
        """One more time for the look that is going on there; anything else is dropped."""
        look = self._looks.get(src)
        if look is None or message.serial != look.serial or look.due == inf or len(message.data) > look.asked:
            self.counters["echoes_unasked"] += 1
            return []
        self._links.on_told(src, message.q)
        seconds, look.due = message.took_s or now - look.at, inf
        if not message.data:
            look.short.append(seconds)
            if self._links.on_rtt(src, seconds, now, exact=message.took_s > 0):
                look.repeats = max(look.repeats, REPEATS + 1)
            if look.asked:  # it has nothing left for us
                look.size, self._not_before[src] = 0, now + LATER_S
        elif len(message.data) == look.asked:
            look.long.append(seconds)
            shape = self._links.shape(src)
            self._share(src, now).spend(max(0.0, seconds - shape.rtt_s) - look.asked * shape.q, now)
        return self._go_on(src, look, now)

    # --- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return min([self._tick_at, *(look.due for look in self._looks.values())])

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for peer, look in list(self._looks.items()):
            if look.due <= now:
                effects += self._on_lost(peer, look, now)
        if self._tick_at <= now:
            if 0 < self._tick_at < now - LATE_S:
                self.counters["probing_late"] += 1
                self._starved_until = now + STARVED_S
            self._tick_at = now + TICK_S
            effects += self._tick(now)
        return effects

    def is_starved(self, now: float) -> bool:
        """Whether this agent has had to wait for a processor lately."""
        return now < self._starved_until

    def check(self) -> None:
        """Raise when more is being looked at than may be."""
        assert sum(look.due < inf for look in self._looks.values()) <= SHORT_AT_ONCE + len(self._wanted) + 1

    def _on_lost(self, peer: str, look: _Look, now: float) -> list[Effect]:
        self._links.on_lost(peer, now)
        look.lost, look.due = look.lost + 1, inf
        if look.lost < LOST and self._may_ask(peer):
            return self._go_on(peer, look, now)
        del self._looks[peer]
        self._not_before[peer] = now + AGAIN_S
        return []

    def _tick(self, now: float) -> list[Effect]:
        """Begin what is due, as far as the budget goes."""
        self._wanted = {peer: until for peer, until in self._wanted.items() if until > now and self._reachable(peer)}
        effects: list[Effect] = []
        for peer in [peer for peer, look in self._looks.items() if look.due == inf]:
            if self._may_ask(peer):
                effects += self._go_on(peer, self._looks[peer], now)
            else:
                self.forget(peer)
        due = [(rank, peer, size) for peer in self._known() for rank, size in [self._due(peer, now)] if rank < inf]
        for rank, peer, size in sorted(due):
            if len(self._looks) >= SHORT_AT_ONCE or self._asking.held(now) < HEAD_BYTES:
                break
            if size and sum(look.size > 0 for look in self._looks.values()) >= AT_ONCE:
                continue
            if rank == _IDLY:
                if self._idle_at > now:
                    continue
                self._idle_at = now + (IDLE_EVERY_S if self._links.knows_rate(peer) else NEW_EVERY_S)
            look = self._looks[peer] = _Look(size, SHORTS if rank == -inf else 1)
            effects += self._go_on(peer, look, now)
        return effects

    def _may_ask(self, peer: str) -> bool:
        """A probe opens no session, except where a mapping wants to know: on a crowded machine sessions come and go."""
        return self._reachable(peer) and (peer in self._wanted or peer in self._near())

    def _known(self) -> Iterable[str]:
        return {*self._near(), *self._wanted} - {self._me} - set(self._looks)

    def _due(self, peer: str, now: float) -> tuple[float, int]:
        """(its place in the row, bytes of a long probe); infinity where nothing is to be done."""
        if self._not_before.get(peer, -inf) > now or not self._reachable(peer):
            return inf, 0
        if self.is_starved(now) and peer not in self._wanted:
            return inf, 0
        rtt_age, rate_age = self._links.rtt_age_s(peer, now), self._links.rate_age_s(peer, now)
        if rtt_age == inf:
            return -inf, 0
        size = self._size(peer)
        affordable = self._asking.held(now) >= size + 2 * HEAD_BYTES and self._share(peer, now).held(now) > 0
        if peer in self._wanted and affordable and rate_age > (WANTED_S if peer in self._near() else FAR_AGAIN_S):
            return -rate_age if rate_age < inf else -1e9, size
        if rtt_age > (RTT_OLD_S if self._links.rtt_samples(peer) >= RTT_SURE else RTT_AGAIN_S):
            return 1.0, 0
        if rate_age > IDLE_S and affordable and self._plenty(now):
            return _IDLY, size
        return inf, 0

    # --- a look ------------------------------------------------------------------------------------------------------

    def _go_on(self, peer: str, look: _Look, now: float) -> list[Effect]:
        """The next probe of a look, or its end."""
        if not self._may_ask(peer):
            del self._looks[peer]
            return []
        shorts = SHORTS if look.size else look.repeats
        if len(look.short) < max(shorts, len(look.long)):
            return self._ask(peer, look, 0, now)
        if not look.size:
            del self._looks[peer]
            return []
        if len(look.long) < look.repeats:
            return self._ask(peer, look, look.size, now)
        took, noise_s = min(look.long) - min(look.short), self._noise_s(peer, look)
        if took < 3 * noise_s:
            per_byte = max(took, noise_s) / look.size
            larger = min(self._most(peer), int(TELLING_S / per_byte))
            first_of_many = not self._links.knows_rate(peer) and len(self._wanted) > FEW  # all once, before one well
            may_grow = peer in self._wanted and not first_of_many and self._affords(peer, larger, now)
            if may_grow and larger > 1.5 * look.size:
                look.size, look.long = larger, []
                return self._ask(peer, look, larger, now)
        if self._is_doubtful(peer, look, (took, noise_s), now) and self._affords(peer, look.size, now):
            look.repeats += 1
            return self._ask(peer, look, 0, now)
        return self._judged(peer, look, look.size, now)

    def _is_doubtful(self, peer: str, look: _Look, found: tuple[float, float], now: float) -> bool:
        """One more long probe may say more: it took longer than it should, or nothing is known and noise is all."""
        took, noise_s = found
        if look.repeats >= MOST:
            return False
        if not self._links.knows_rate(peer):
            off = took < 3 * noise_s or took > 5 * USUAL_Q * look.size + 3 * noise_s
            return off and self._plenty(now)  # all links once, before some twice
        return took > 1.4 * self._links.shape(peer).q * look.size + noise_s / 2

    def _judged(self, peer: str, look: _Look, size: int, now: float) -> list[Effect]:
        """The look is over: what the bytes took is a sample. What changed by it the peer is told with a short probe."""
        del self._looks[peer]
        self._not_before[peer] = max(self._not_before.get(peer, now), now + 2 * TICK_S)
        self.counters["looks"] += 1
        took, noise_s = min(look.long) - min(look.short), self._noise_s(peer, look)
        seconds = self._links.shape(peer).rtt_s + max(took, noise_s / 2)
        first = not self._links.knows_rate(peer)
        surprised = self._links.on_probe(peer, size, seconds, noise_s, now)
        if (surprised or (first and self._plenty(now))) and peer in self._wanted and not look.again:
            again = self._looks[peer] = _Look(size, REPEATS)
            again.again = True
            return self._go_on(peer, again, now)
        q = self._q(peer)
        if abs(q - self._told.get(peer, 0.0)) < TOLD * q:
            return []
        self._told[peer] = q
        self._looks[peer] = _Look(0, 1)
        return self._go_on(peer, self._looks[peer], now)

    def _ask(self, peer: str, look: _Look, size: int, now: float) -> list[Effect]:
        """Unless the budget has nothing left: then a later tick goes on."""
        if self._saying.held(now) < HEAD_BYTES:
            return []
        if size and not self._affords(peer, 0, now):
            look.size = 0
            return self._judged(peer, look, size, now) if look.long else self._go_on(peer, look, now)
        self._serial += 1
        look.serial, look.asked, look.at = self._serial, size, now
        shape = self._links.shape(peer)
        look.due = now + max(PATIENCE_S, 4 * shape.rtt_s + 8 * shape.q * size)
        self._asking.spend(size + HEAD_BYTES, now)
        self._share(peer, now).spend(size * shape.q, now)
        self._say(HEAD_BYTES, now)
        return [Send(peer, LinkProbe(self._serial, size, self._q(peer)))]

    def _say(self, size: int, now: float) -> None:
        self._saying.spend(size, now)
        self.counters["probe_bytes_out"] += size

    def _noise_s(self, peer: str, look: _Look) -> float:
        """How much the least times are still off: half of what the second least are above them."""
        above = sum(sorted(times)[1] - min(times) for times in (look.short, look.long) if len(times) > 1)
        if len(look.short) < 2 or len(look.long) < 2:
            return max(NOISE_S, self._links.jitter_s(peer), above)
        return max(NOISE_S, self._links.jitter_s(peer) / 4, above / 2)

    def _affords(self, peer: str, size: int, now: float) -> bool:
        q = self._links.shape(peer).q
        return self._asking.held(now) > size + HEAD_BYTES and self._share(peer, now).held(now) > size * q

    def _plenty(self, now: float) -> bool:
        return self._asking.held(now) > SAVED_S / 2 * self._bytes_per_s

    def _share(self, peer: str, now: float) -> Budget:
        share = self._shares.get(peer)
        if share is None:
            share = self._shares[peer] = Budget(LINK_SHARE, SAVED_S * LINK_SHARE, now)
        return share

    def _size(self, peer: str) -> int:
        """Of a long probe: what should take `TELLING_S`, little where nothing is known."""
        if not self._links.knows_rate(peer):
            return FIRST
        return max(LEAST, min(self._most(peer), int(TELLING_S / max(1e-12, self._links.shape(peer).q))))

    def _most(self, peer: str) -> int:
        return PROBE_BYTES if self._links.shape(peer).rtt_s < SHORT_RTT_S else ONE_GO

    def _q(self, peer: str) -> float:
        """What we say of the link from this peer to here; 0 while it is a guess."""
        return min(1e3, self._links.shape(peer).q) if self._links.knows_rate(peer) else 0.0
