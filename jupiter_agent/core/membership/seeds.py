"""The seed set: every address at which a member may be found, whoever named it, and when each is tried.

Sources say where somebody may be: the user (`join`, `token`), an earlier life (`remembered`), a name that stands for
many addresses (`dns`, and `kube`, the API server of Kubernetes), the network around (`beacon`, `mdns`). All say it as
a `Hint`: address, source, and the id expected there if the source knows one. A hint proves nothing. It costs a dial;
only the handshake of the join socket and two signatures make a member.

Rules:

* A round of tries begins every second at first, then every 9 s. Each seed is tried once a round, at random, one at a
  time; names are looked up again in each round, so that a name with changing addresses (a headless Service) works.
* Each kind of source gets an equal share of the tries: forged hints of one keep nobody from being found by another.
* A source has at most `MOST` seeds. What the user said is kept; a full source of hints replaces one of its own at
  random. A hint ends unless it is said again (`LASTS_S`).
* Listening to the network around is for the lonely: it stops with `COMPANY` living peers, and starts again with none.

To add a source: a line in `SOURCES`, one in `LASTS_S` if its hints end, an adapter that posts `SeedsFound`.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import Protocol

from jupiter_agent.core.effects import Browse, Effect, LookUp
from jupiter_agent.core.events import Hint

SOURCES = ("join", "token", "remembered", "dns", "kube", "beacon", "mdns")
"""Strongest first: a seed that several name has the strongest as its source"""

LASTS_S = {"dns": 300.0, "kube": 90.0, "beacon": 60.0, "mdns": 150.0}
"""How long a hint counts after it was last given; others always count"""

BEACON = "beacon"
OVERHEARD = frozenset({BEACON, "mdns"})
"""Sources that others than the user and this node itself can make say something"""

CONFIGURED = frozenset({"join", "token", "dns", "kube"})
"""Sources that say what the user gave, names looked up: only their word ends a node that was to join"""

MOST = 64
"""seeds of one source"""
MOST_NAMES = 16
COMPANY = 3
GOSSIP = "gossip"


class Known(Protocol):
    """Ids or addresses that can be asked for one of them."""

    def __contains__(self, key: str, /) -> bool: ...


@dataclass
class Seed:
    """An address somebody gave us, and who turned out to live there."""

    address: str
    found_by: str
    node: str = ""
    """expected there"""
    until: float = inf
    peer: str = ""
    tried: bool = False
    me: bool = False
    configured: bool = False
    """one of the sources that named it is `CONFIGURED`"""


class SeedSet:
    """See the module. `eager_s`: how long the first phase lasts; `pauses`: between rounds, first and later."""

    def __init__(self, eager_s: float, pauses: tuple[float, float], rng: random.Random, now: float) -> None:
        self._rng, self._pauses = rng, pauses
        self._eager_until = now + eager_s
        self._seeds: dict[str, Seed] = {}
        self._strays: dict[str, Seed] = {}
        self._names: dict[str, None] = {}
        self._listens = False
        self._browsing: bool | None = None
        self.dropped = 0
        self.due = now

    # --- what sources say ---

    def add(self, hint: Hint, now: float) -> bool:
        """Whether the hint is (again) one of the seeds. A stronger source takes a seed over, a weaker changes nothing
        of it."""
        seed = self._seeds.get(hint.address)
        rank = SOURCES.index(hint.found_by)
        configured = hint.found_by in CONFIGURED
        if seed is not None:
            seed.configured = seed.configured or configured
        if seed is not None and SOURCES.index(seed.found_by) < rank:
            return False
        if (seed is None or seed.found_by != hint.found_by) and not self._make_room(hint.found_by):
            return False
        if seed is None:
            seed = self._seeds[hint.address] = Seed(hint.address, hint.found_by, configured=configured)
        seed.found_by, seed.node = hint.found_by, hint.node
        seed.until = now + LASTS_S.get(hint.found_by, inf)
        return True

    def add_name(self, address: str) -> None:
        """HOST:PORT whose host is a name, to be looked up in every round."""
        if len(self._names) < MOST_NAMES:
            self._names[address] = None
        else:
            self.dropped += 1

    def listen(self) -> None:
        """Sources around this node will speak up by themselves, or when told to `Browse`."""
        self._listens = True

    def _make_room(self, source: str) -> bool:
        own = [address for address, seed in self._seeds.items() if seed.found_by == source]
        if len(own) < MOST:
            return True
        self.dropped += 1
        if source in LASTS_S:
            del self._seeds[self._rng.choice(own)]
        return source in LASTS_S

    # --- what is asked ---

    def __len__(self) -> int:
        return len(self._seeds)

    def __contains__(self, address: object) -> bool:
        return address in self._seeds

    @property
    def is_hopeless(self) -> bool:
        """No seed, and nobody who could name one."""
        return not (self._seeds or self._names or self._listens)

    def get(self, address: str) -> Seed | None:
        return self._seeds.get(address) or self._strays.get(address)

    def found_by(self, address: str) -> str:
        """Who named this address first."""
        seed = self._seeds.get(address)
        return seed.found_by if seed is not None else GOSSIP

    # --- rounds ---

    def begin_round(self, now: float) -> list[Effect]:
        """When due: forget what ended, let everybody be tried again, and look names up."""
        pause = self._pauses[0] if now < self._eager_until else self._pauses[1]
        self.due = now + pause * self._rng.uniform(0.7, 1.3)
        for address in [address for address, seed in self._seeds.items() if seed.until <= now]:
            del self._seeds[address]
        for seed in self._seeds.values():
            seed.tried = False
        return [LookUp(name) for name in self._names]

    def set_strays(self, addresses: Collection[str]) -> None:
        """Addresses of the dead that are tried as if they were seeds, instead of those before."""
        self._strays = {address: Seed(address, "remembered") for address in addresses}

    def add_strays(self, addresses: Collection[str]) -> None:
        """To be tried in this round as well."""
        for address in addresses:
            if address not in self._seeds and len(self._strays) < MOST:
                self._strays.setdefault(address, Seed(address, GOSSIP))

    def next(self, addresses: Known, ids: Known) -> Seed | None:
        """One to try now that is none of these, which live; it counts as tried then."""
        shares: dict[str, list[Seed]] = {}
        for seed in [*self._seeds.values(), *self._strays.values()]:
            known = seed.peer in ids or seed.node in ids or seed.address in addresses
            if not (seed.tried or seed.me or known):
                shares.setdefault(seed.found_by if seed.found_by in LASTS_S else "", []).append(seed)
        if not shares:
            return None
        share = self._rng.choice(sorted(shares)) if len(shares) > 1 else next(iter(shares))
        seed = self._rng.choice(shares[share])
        seed.tried = True
        return seed

    def browse(self, others: int) -> list[Effect]:
        """Whether to listen around, when that changes: `others` is how many living peers there are."""
        wanted = self._browsing
        if wanted is None or others == 0:
            wanted = others < COMPANY
        elif others >= COMPANY:
            wanted = False
        if not self._listens or wanted == self._browsing:
            return []
        self._browsing = wanted
        return [Browse(wanted)]
