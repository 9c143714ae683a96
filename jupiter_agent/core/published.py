"""What members say of themselves, as numbers that may be counted with.

A published value is signed by its owner, but what is in it is the owner's word: any plain data. It is checked here,
once per value; a value that is not what it should be counts as not published, and is counted.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from jupiter_agent.core.estimate import Net
from jupiter_agent.core.messages import Count, Seconds
from jupiter_agent.core.messages.links import Rate
from jupiter_agent.core.profiling.coordinates import Place
from jupiter_agent.core.surroundings import Profile

T = TypeVar("T")


class Board(Protocol):
    """What is read of the board here. The same value is the same object."""

    def get(self, node: str, key: str) -> dict[str, Any] | None: ...


class _Link(Struct, array_like=True):
    latency_s: Seconds
    bytes_per_s: Rate


class _Net(Struct):
    place: Annotated[bytes, Meta(max_length=24)] = b""
    up: Rate = 0.0
    down: Rate = 0.0

    def __post_init__(self) -> None:
        """ValueError for a place that is none."""
        if self.place:
            Place.from_bytes(self.place)


class _Homed(Struct):
    homed: Count = 0


Share = Annotated[float, Meta(ge=0, le=1)]


class Shown(Profile, frozen=True):
    """With the resources that are only shown."""

    steal: Share = 0.0
    disk_used: Share = 0.0
    received_bps: Rate = 0.0
    sent_bps: Rate = 0.0
    gpu: Annotated[str, Meta(max_length=64)] = ""
    isolation: Annotated[str, Meta(max_length=32)] = ""
    """of task processes: bubblewrap or limits"""
    k8s_host: Annotated[str, Meta(max_length=253)] = ""
    """what Kubernetes calls the machine"""
    taints: Annotated[list[Annotated[str, Meta(max_length=160)]], Meta(max_length=8)] = []


class Published:
    """A reader of the board. `senseless` counts the values that were ignored."""

    def __init__(self, board: Board) -> None:
        self.senseless = 0
        self._board = board
        self._known: dict[tuple[str, str], tuple[dict[str, Any], Any]] = {}

    def profile(self, node: str) -> Profile:
        """The node's resources; the usual ones when it says nothing that makes sense."""
        found = self._get(node, "resources", Shown)
        return Profile() if found is None else found

    def queue_length(self, values: dict[str, Any]) -> float:
        """Of a reading of this very node."""
        found = self._converted(values, Shown)
        return found.queue_length if found else 0.0

    def resources(self, node: str) -> dict[str, Any]:
        """The same as published, to show; empty when it makes no sense."""
        value = self._board.get(node, "resources")
        return value if value and self._get(node, "resources", Shown) is not None else {}

    def links(self, node: str) -> dict[str, tuple[float, float]]:
        """peer -> (latency s, bytes/s or 0 when unknown) of the links it measured best."""
        found = self._get(node, "links", dict[str, _Link]) or {}
        return {peer: (link.latency_s, link.bytes_per_s) for peer, link in found.items()}

    def net(self, node: str) -> Net:
        """Where a node says it lies, and what its access to the network carries."""
        found = self._get(node, "net", _Net) or _Net()
        return Net(Place.from_bytes(found.place) if found.place else None, found.up, found.down)

    def homed(self, node: str) -> int:
        """How many jobs a node says it is home of."""
        return (self._get(node, "jobs", _Homed) or _Homed()).homed

    def _get(self, node: str, key: str, kind: type[T]) -> T | None:
        value = self._board.get(node, key)
        if value is None:
            self._known.pop((node, key), None)
            return None
        known = self._known.get((node, key))
        if known is None or known[0] is not value:
            known = self._known[node, key] = (value, self._converted(value, kind))
        found: T | None = known[1]
        return found

    def _converted(self, value: dict[str, Any], kind: type[T]) -> T | None:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            self.senseless += 1
            return None
