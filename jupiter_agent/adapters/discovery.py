"""The sources of discovery of one agent that need the outside, behind one door: names, Kubernetes, mDNS, beacon.

What the user and this node's past say (`join`, `token`, `remembered`) the composition adds itself. Each source posts
`SeedsFound` with the same kind of hint; which counts how long, and who is tried when, is decided in `core`. A source
that cannot work here says so in the log, once, and the others go on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from jupiter_agent.adapters.beacon import Beacon, BeaconSocket, Ear, Seal, beacon_key
from jupiter_agent.adapters.curve import AccessKeys
from jupiter_agent.adapters.keys import door_of
from jupiter_agent.adapters.mdns import Announced, Mdns
from jupiter_agent.adapters.names import Names
from jupiter_agent.adapters.pod import Account
from jupiter_agent.core.effects import Browse, Effect, LookUp
from jupiter_agent.core.events import SeedsFound
from jupiter_agent.errors import UsageError

if TYPE_CHECKING:
    from jupiter_agent.adapters.kube_slices import KubeNames

log = logging.getLogger("jupiter")

Post = Callable[[SeedsFound], None]


@dataclass(frozen=True)
class Sources:
    """What is switched on."""

    mdns: bool = False
    beacon: str = ""
    """group:port; empty: off"""
    account: Account | None = None
    """of the pod that this process runs in"""


class Discovery:
    """Build it in a running loop; `start` when the machine runs; `perform` the machine's effects `LookUp`, `Browse`."""

    def __init__(
        self, sources: Sources, me: Announced, access: AccessKeys, boot: Callable[[], int], post: Post
    ) -> None:
        self._sources, self._me, self._boot = sources, me, boot
        self._sent = 0
        self._kube = _kube(sources.account, post, me.address)
        self._names = Names(post, on_answer=self._kube.on_resolved) if self._kube else Names(post)
        self._mdns = Mdns(me, post) if sources.mdns else None
        self._ear = Ear(me.node, self._seal(access))
        self._beacon = BeaconSocket(sources.beacon, self._ear, self._mine, post, Random()) if sources.beacon else None

    @property
    def listens(self) -> bool:
        """Whether somebody may be found without any address to start from."""
        return self._mdns is not None or self._beacon is not None

    async def start(self) -> None:
        if self._mdns is not None:
            self._mdns.start()
        if self._beacon is not None:
            try:
                await self._beacon.start()
            except (OSError, UsageError) as error:
                log.warning("no beacon at %s: %s", self._sources.beacon, error)
                self._beacon = None

    def perform(self, effect: Effect) -> None:
        if isinstance(effect, LookUp):
            if self._kube is None or self._kube.look_up(effect.address):
                self._names.look_up(effect.address)
        elif isinstance(effect, Browse) and self._mdns is not None:
            self._mdns.browse(effect.on)

    def rekey(self, access: AccessKeys) -> None:
        """The keys of the join socket have changed."""
        self._ear.seal = self._seal(access)

    def counters(self) -> dict[str, int]:
        found: Counter[str] = self._names.counters + self._ear.counters
        for source in (self._kube, self._mdns):
            found = found + source.counters if source is not None else found
        return dict(found)

    async def close(self) -> None:
        self._names.close()
        if self._kube is not None:
            self._kube.close()
        if self._beacon is not None:
            self._beacon.close()
        if self._mdns is not None:
            await self._mdns.close()

    def _seal(self, access: AccessKeys) -> Seal:
        return Seal(bytes.fromhex(self._me.cluster), beacon_key(door_of(access)))

    def _mine(self) -> Beacon:
        self._sent += 1
        return Beacon(self._me.node, self._me.address, self._boot(), self._sent)


def _kube(account: Account | None, post: Post, mine: str) -> KubeNames | None:
    """Imported here: only pods have a use for it."""
    if account is None:
        return None
    from jupiter_agent.adapters.kube_slices import KubeNames

    return KubeNames(account, post, mine)
