"""What the job machines may know of the node they run on and of the others: a narrow view, faked in their tests."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from jupiter_agent.core.job import Job

from jupiter_agent.core.messages.links import Shape

LabelText = Annotated[str, Meta(max_length=63)]


class LinkEstimate(Struct, frozen=True):
    """The directed link from this node to a peer. `source` of the latency, `rate_source` of the rate: measured,
    transfer, estimated."""

    latency_s: float
    bytes_per_s: float
    samples: int
    source: str
    shape: Shape | None = None
    rate_source: str = "estimated"

    def seconds(self, size: float) -> float:
        """Predicted time of a transfer."""
        return self.latency_s + size / self.bytes_per_s if self.shape is None else self.shape.seconds(size)


class Estimate(NamedTuple):
    """Seconds that a task takes; 80 % of runs lie between `low` and `high`."""

    seconds: float
    low: float
    high: float
    samples: int
    source: str
    """measured (runs there), sampled (a sample run there), scaled (from elsewhere, by speed index), prior (assumed)"""

    @property
    def reason(self) -> str:
        """As `explain` shows it."""
        of = f"of {self.samples} runs, " if self.samples else ""
        return f"{self.seconds:.3g} s {self.source}, {of}80 % within {self.low:.3g}..{self.high:.3g} s"


class Profile(Struct, frozen=True):
    """What a node says of its resources (adapters/sensors.py); what it does not say is as usual."""

    cpus: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    speed: Annotated[float, Meta(ge=1e-3, le=1e3)] = 1.0
    """index: seconds at 1 divided by it are seconds there"""
    load: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """busy cores"""
    memory_used: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """share"""
    draining: bool = False
    full: bool = False
    """its disk"""
    queue_length: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """processes that run there or wait for a core"""
    memory_bytes: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    """0: it does not say"""
    gpus: Annotated[int, Meta(ge=0, le=1024)] = 0
    labels: Annotated[dict[LabelText, LabelText], Meta(max_length=32)] = {}
    """what its operator calls it"""
    slow: Annotated[float, Meta(ge=1, le=1e3)] = 1.0
    """its runs take at least so many times what they usually take there"""

    @property
    def takes_tasks(self) -> bool:
        """Whether the node is a candidate."""
        return not (self.draining or self.full)


class Surroundings(Protocol):
    """Implemented by the peer machine (core/peer.py)."""

    me: str
    rng: Random

    @property
    def boot(self) -> int:
        """This node's boot epoch."""

    def alive(self) -> list[str]:
        """Ids of the members that live as far as this node knows, sorted, itself included."""

    def is_gone(self, node: str) -> bool:
        """Known to be dead or to have left."""

    def may_be_home(self, node: str) -> bool:
        """A member whose role lets it accept jobs."""

    def dead(self) -> list[str]:
        """Ids of the members that are gone and did not say goodbye: they may come back."""

    def knows(self, node: str) -> bool:
        """A member of any state, as far as known here."""

    def name(self, node: str) -> str:
        """A node's name, or its id when the name is not known (yet)."""

    def address(self, node: str) -> str:
        """host:port where a node's agent listens; '' when it is not known."""

    def find(self, name: str) -> str | None:
        """The id of the living node of this name, or id; else of the one on the host that Kubernetes calls so."""

    def boot_of(self, node: str) -> int:
        """The highest boot epoch known of a node, 0 if unknown."""

    def profile(self, node: str) -> Profile:
        """The node's published resources, checked; the usual ones when none are known."""

    def links(self, node: str) -> dict[str, tuple[float, float]]:
        """What a node published of its measured links: peer -> (latency s, bytes/s or 0)."""

    def link(self, peer: str) -> LinkEstimate:
        """This node's own estimate of its link to a peer."""

    def link_from(self, peer: str) -> LinkEstimate:
        """The same of the link from a peer to this node."""

    def task_time(self, job: Job, task: str, node: str, loaded: bool = True) -> Estimate:
        """One run of a task of a job on a node: as loaded as that is now, or as if it did nothing else."""

    def sign(self, data: bytes) -> bytes: ...

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        """True when the member `node` is known and signed the data."""

    def wall(self, now: float) -> float:
        """Loop time as wall clock, seconds since the epoch."""
