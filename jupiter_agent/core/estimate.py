"""What this node believes of its links: round trips, probes and finished transfers in, one model per peer out (DESIGN
96).

Measured here is what comes in, from a peer to this node; what goes out the peer tells with its probes, and where it did
not, the way back stands for it. What was never measured is estimated and says so: the latency from places in a common
space (`profiling/coordinates.py`), the rate from what both ends have on their access links, min(up, down). Nobody's
word moves what was measured here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from statistics import median
from typing import Any

import msgspec
from msgspec import Struct

from jupiter_agent.core.messages.links import USUAL_Q, Shape
from jupiter_agent.core.profiling.coordinates import Place, moved
from jupiter_agent.core.profiling.delays import Delay
from jupiter_agent.core.profiling.link_model import LinkModel, Memory, Sample
from jupiter_agent.core.surroundings import LinkEstimate

PRIOR_LATENCY_S = 0.001
PRIOR_BANDWIDTH_BPS = 1 / USUAL_Q
"""100 Mbit/s, before anything was measured"""
SELF = LinkEstimate(0.0, 1e12, 1, "measured")
OFTEN_S = 0.05
"""Of transfers from one peer that end sooner after each other than this, one counts"""
CLOSES_S, QUEUED = 0.2, 1.5
"""With so many round trips, for some of them were with a queue, how long TCP waits for an answer (RFC 6298, as Linux
has it)"""
FULL = 2.0
"""So often what the path holds is the most that a window holds"""
TOGETHER = 8
"""Transfers of one peer that are remembered to see which went on at the same time"""
SURE = 0.6
"""A place with a larger error says nothing about latency, a model nothing about the access"""


class Net(Struct, frozen=True):
    """What a node says of its access to the network. Rates in bytes/s, 0 where nothing was measured."""

    place: Place | None = None
    up_bps: float = 0.0
    down_bps: float = 0.0


def _rate(q: float) -> float:
    return 1 / max(1e-15, q)


class _Peer:
    """One peer, as seen from here."""

    def __init__(self) -> None:
        self.delay = Delay()
        self.inbound = LinkModel()
        self.told: float = 0.0
        """seconds per byte from here to it, by its own measure; 0: it has not said"""
        self.recent: deque[tuple[float, float, int]] = deque(maxlen=TOGETHER)
        """(from, to, bytes) of transfers"""
        self.window: tuple[float, float] = (0.0, -inf)
        """(bytes to which the sender's was opened, when it was used last)"""

    @property
    def samples(self) -> int:
        return self.delay.samples + self.inbound.count


_NOBODY = _Peer()
"""A peer of which nothing is known; nobody changes it"""


class Links:
    """The links between one node and its peers. `nets` looks up what a node says of its access."""

    def __init__(self, me: str = "") -> None:
        self.place = Place()
        self.probed = False
        """this node measures its links itself, and may ask others to"""
        self.nets: Callable[[str], Net] = lambda node: Net()
        self._me = me
        self._net = Net()
        self._peers: dict[str, _Peer] = {}

    # --- what was measured -------------------------------------------------------------------------------------------

    def on_rtt(self, peer: str, rtt_s: float, now: float, exact: bool = False) -> bool:
        """A probe of this peer was answered; whether that was far from what was known. `exact`: without what it waited
        in both agents; others do not count where there was one lately."""
        known = self._peers.setdefault(peer, _Peer())
        far = known.delay.on_rtt(rtt_s, now, exact)
        place, rtt = self.nets(peer).place, known.delay.rtt_s
        if place is not None and rtt is not None and known.delay.at == now:
            self.place = moved(self.place, place, rtt, (self._me, peer))
        return far

    def on_lost(self, peer: str, now: float) -> None:
        """A probe of this peer was not answered in time."""
        self._peers.setdefault(peer, _Peer()).delay.on_lost(now)

    def on_transfer(self, peer: str, size: int, seconds: float, now: float, coming: int = 0) -> bool:
        """`size` bytes came from this peer in `seconds`, asking for them included; whether that was unexpected. What
        came from it meanwhile counts as well, for they shared the link, and of the `coming` that still come each as
        much."""
        known = self._peers.setdefault(peer, _Peer())
        if size <= 0 or not 0 < seconds < inf:
            return False
        began, last = now - seconds, known.recent[-1][1] if known.recent else -inf
        beside = sum(
            other * max(0.0, min(now, until) - max(began, since)) / max(1e-6, until - since)
            for since, until, other in known.recent
        )
        opened = self._opened(peer, began)
        known.window = (float(opened + size), now)
        known.recent.append((began, now, size))
        if now - last < OFTEN_S and known.inbound.transfers > 2:
            return False
        noise_s = 0.001 + known.delay.jitter_s
        sample = Sample(size * (1 + coming) + int(beside), seconds, True, noise_s, opened)
        return known.inbound.on_sample(sample, self._rtt_s(peer), now)

    def expected_s(self, peer: str, size: int, now: float) -> float:
        """What an object of this size would take from a peer to here if it began now: as `Shape.seconds`, and quicker
        where another has just opened the window."""
        return self.shape(peer).seconds(size, self._opened(peer, now))

    def _opened(self, peer: str, at: float) -> int:
        """To how many bytes the sender's window is open: a transfer opens it by its size, to what the path and a queue
        hold at most, and it halves with every timeout that passes in silence (RFC 2861; Linux does so)."""
        known, rtt_s = self._peers.get(peer, _NOBODY), self._rtt_s(peer)
        window, until = known.window
        window = min(window, FULL * rtt_s / known.inbound.last_q)
        return int(window * 0.5 ** (max(0.0, at - until) // (CLOSES_S + QUEUED * rtt_s))) if window else 0

    def on_probe(self, peer: str, size: int, seconds: float, noise_s: float, now: float) -> bool:
        """A probe that asked for so many bytes was answered in `seconds`; whether that was unexpected."""
        known = self._peers.setdefault(peer, _Peer())
        return known.inbound.on_sample(Sample(size, seconds, False, noise_s), self._rtt_s(peer), now)

    def on_told(self, peer: str, q: float) -> None:
        """What a byte from here to this peer takes, as that peer has measured it; 0: it has not."""
        if q > 0:
            self._peers.setdefault(peer, _Peer()).told = q

    def forget(self, peer: str = "") -> int:
        """Forget what was learned of one peer, or of all; of how many there was something."""
        gone = [peer] if peer in self._peers else [] if peer else list(self._peers)
        for each in gone:
            del self._peers[each]
        return len(gone)

    # --- what follows from it ----------------------------------------------------------------------------------------

    def estimate(self, peer: str) -> LinkEstimate:
        """The link from here to a peer."""
        known, shape = self._peers.get(peer, _NOBODY), self.shape(peer, outward=True)
        has_rtt = known.delay.rtt_s is not None
        source = "transfer" if known.inbound.transfers else "measured" if has_rtt else "estimated"
        rate_source = "measured" if known.told else "estimated"
        return LinkEstimate(shape.rtt_s / 2, _rate(shape.q), known.samples, source, shape, rate_source)

    def inward(self, peer: str) -> LinkEstimate:
        """The link from a peer to here."""
        shape = self.shape(peer)
        return msgspec.structs.replace(self.estimate(peer), bytes_per_s=_rate(shape.q), shape=shape)

    def shape(self, peer: str, outward: bool = False) -> Shape:
        """The model of the link from a peer to here, or from here to it: then the rate is what the peer tells, else
        that of the way back."""
        known = self._peers.get(peer, _NOBODY)
        rtt_s = self._rtt_s(peer)
        shape = known.inbound.shape(rtt_s) if known.inbound.count else Shape(rtt_s, q=self._usual_q(peer, outward))
        return msgspec.structs.replace(shape, q=known.told, r=0.0) if outward and known.told else shape

    def measured(self) -> dict[str, tuple[float, float, int]]:
        """Peer -> (latency s, bytes/s or 0 when never measured, samples) of the links from here."""
        rows = {}
        for peer, known in self._peers.items():
            if known.samples:
                has_rate = known.told or known.inbound.count
                rate = _rate(self.shape(peer, outward=True).q) if has_rate else 0.0
                rows[peer] = (self._rtt_s(peer) / 2, rate, known.samples)
        return rows

    def inbound(self) -> dict[str, Shape]:
        """Peer -> the model of the link from it to here, of all links of which something was measured; where only the
        round trip was, `samples` is 0."""
        return {peer: self.shape(peer) for peer, known in self._peers.items() if known.samples}

    def net(self) -> Net:
        """What this node says of itself: where it lies, the most that ever came in and went out."""
        sure = [peer for peer, known in self._peers.items() if known.inbound.count and known.inbound.uncertainty < SURE]
        down = [_rate(self.shape(peer).q) for peer in sure]
        up = [_rate(known.told) for known in self._peers.values() if known.told]
        self._net = Net(self.place, max(up, default=0.0), max(down, default=0.0))
        return self._net

    def wide(self, peer: str, now: float) -> dict[str, Any]:
        """The link from a peer to here in all its numbers, for people."""
        known, shape = self._peers.get(peer, _NOBODY), self.shape(peer)
        model = known.inbound
        return {
            "latency_s": shape.rtt_s / 2, "bandwidth_bps": 8 * _rate(shape.q), "loss": known.delay.loss,
            "jitter_s": known.delay.jitter_s, "age_s": self.age_s(peer, now), "samples": known.samples,
            "p": shape.p, "q": shape.q, "r": shape.r, "variance": shape.error**2,
            "source": "estimated" if known.delay.rtt_s is None else "measured",
            "bandwidth_source": "transfer" if model.transfers else "measured" if model.count else "estimated",
        }  # fmt: skip

    def age_s(self, peer: str, now: float) -> float | None:
        """Since anything was measured of the link to this peer; None if never."""
        age = min(self.rtt_age_s(peer, now), self.rate_age_s(peer, now))
        return None if age == inf else max(0.0, age)

    def rtt_samples(self, peer: str) -> int:
        return self._peers.get(peer, _NOBODY).delay.samples

    def jitter_s(self, peer: str) -> float:
        return self._peers.get(peer, _NOBODY).delay.jitter_s

    def knows_rate(self, peer: str) -> bool:
        """Whether the rate from this peer was ever measured."""
        return self._peers.get(peer, _NOBODY).inbound.count > 0

    def rtt_age_s(self, peer: str, now: float) -> float:
        """Since the round trip to this peer was measured; infinity if never."""
        return now - self._peers.get(peer, _NOBODY).delay.at

    def rate_age_s(self, peer: str, now: float) -> float:
        """The same of the rate from it."""
        return now - self._peers.get(peer, _NOBODY).inbound.at

    def _rtt_s(self, peer: str) -> float:
        """Measured; else from the places of both; else as to the others; else the prior."""
        rtt_s = self._peers.get(peer, _NOBODY).delay.rtt_s
        if rtt_s is not None:
            return rtt_s
        place = self.nets(peer).place
        if place is not None and max(place.error, self.place.error) <= SURE:
            return self.place.rtt_s(place)
        others = [rtt for rtt in (known.delay.rtt_s for known in self._peers.values()) if rtt is not None]
        return median(others) if others else 2 * PRIOR_LATENCY_S

    def _usual_q(self, peer: str, outward: bool) -> float:
        """Seconds per byte where none were measured: by the slower of both access links, as far as they are known."""
        here, there = self._net, self.nets(peer)
        ends = (here.up_bps, there.down_bps) if outward else (here.down_bps, there.up_bps)
        known = [rate for rate in ends if rate > 0]
        return 1 / min(known) if known else USUAL_Q

    # --- remembering -------------------------------------------------------------------------------------------------

    def learned_since(self, at: float) -> list[str]:
        """The peers from which the rate was measured after that."""
        return [peer for peer, known in self._peers.items() if known.inbound.at > at]

    def to_rows(self, peers: Iterable[str]) -> dict[str, bytes]:
        """What was learned of these peers, to be kept."""
        rows = {}
        for peer in peers:
            if (known := self._peers.get(peer)) is not None and known.inbound.count:
                rows[peer] = _encode(known.inbound.to_memory())
        return rows

    def recall(self, peer: str, row: bytes, age_s: float, now: float) -> bool:
        """Take in what was kept of a peer, as learned so long ago; False, and nothing changed, for what is no such row.
        The round trip is not taken over: the path may be another."""
        try:
            memory = _decode(row)
        except (msgspec.MsgspecError, RecursionError):
            return False
        self._peers.setdefault(peer, _Peer()).inbound = LinkModel.from_memory(memory, now - age_s)
        return True


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Memory).decode
