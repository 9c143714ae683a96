"""Events: what the outside tells a machine. Messages from peers come as `Received`; the rest are answers to effects."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.jobs import Obj


class Event(Struct, frozen=True):
    """Base of all events."""


class Received(Event, frozen=True):
    """A message from an authenticated peer, or from a client (`src` then starts with `client:`)."""

    src: str
    message: Message


class SessionUp(Event, frozen=True):
    """An authenticated session with a peer exists (either side opened it)."""

    peer: str


class SessionDown(Event, frozen=True):
    """The last session with a peer is gone. `reason`: lost, closed, refused, timeout, handshake."""

    peer: str
    reason: str


class Garbled(Event, frozen=True):
    """A frame of this peer was no message; `reason` is one of core/wire.py's."""

    peer: str
    reason: str


class PortTested(Event, frozen=True):
    """Answer to `TestPort`. `outcome`: open, refused, timeout."""

    peer: str
    outcome: str


class JoinRequested(Event, frozen=True):
    """A holder of the join secret asks; answer with Send to `src`."""

    src: str
    message: Message


class JoinAnswered(Event, frozen=True):
    """Answer to `SendJoin`. `error`: '', refused, timeout, unauthorised."""

    address: str
    message: Message | None
    error: str = ""


class Hint(Struct, frozen=True):
    """Somebody of this cluster may listen at `address`, says a source of discovery; `node` is who it should be, if it
    said so. No proof of anything."""

    address: str
    found_by: str
    """join, token, remembered, dns, kube, beacon, mdns"""
    node: str = ""


class SeedsFound(Event, frozen=True):
    """What a source of discovery found, or found again."""

    hints: tuple[Hint, ...]


class ObjectStored(Event, frozen=True):
    """An object is complete and its digest is right; or, with `error`, it was thrown away."""

    sha256: bytes
    size: int
    error: str = ""


class ChunkRead(Event, frozen=True):
    """Answer to a `SendChunk` that others must carry."""

    dst: str
    message: Message


class BulkEnded(Event, frozen=True):
    """The bulk channel is done with an object. `error`: '' (it was whole), missing, lost, unreachable, or `size N`:
    what the source says; `moved_bytes` came in `seconds`."""

    sha256: bytes
    peer: str
    moved_bytes: int
    seconds: float
    error: str = ""


class BundleOpened(Event, frozen=True):
    """Answer to `OpenBundle`: the app, or why it was refused (error and hint for the submitter)."""

    sha256: bytes
    app: AppSpec | None
    error: str = ""
    hint: str = ""


class TaskUp(Event, frozen=True):
    """The process of (job, task) is ready for items."""

    job: str
    task: str


class TaskDown(Event, frozen=True):
    """The process of (job, task) ended by itself; its runs were answered by RunFailed before."""

    job: str
    task: str
    error: str


class RunDone(Event, frozen=True):
    """One attempt gave outputs: per object the children it is for ([] = all). `seconds` is the time inside the task."""

    run: int
    outputs: list[tuple[list[str], Obj]]
    seconds: float
    cpu_s: float = 0.0
    peak_bytes: int = 0


class RunFailed(Event, frozen=True):
    """One attempt failed. `kind`: error (raised), contract, timeout, exit; `error` ends with the last trace line."""

    run: int
    kind: str
    error: str


class Produced(Event, frozen=True):
    """A home script or non-DAG task closed an output file for a child by itself: `obj.name` is the base name."""

    job: str
    task: str
    child: str
    obj: Obj


class TaskEnded(Event, frozen=True):
    """The function of a home script or non-DAG task returned; its outputs were all reported before."""

    job: str
    task: str


class Profiled(Event, frozen=True):
    """What a sample run showed: seconds per task and bytes per edge (u, v); `complete` if the DAG ran to its end.

    With `goes_on` this is what there is after `first_s`; all of it comes once more at the end.
    """

    job: str
    seconds: dict[str, float]
    edge_bytes: dict[str, int]
    """'u>v' -> bytes"""
    complete: bool
    error: str = ""
    used: dict[str, tuple[float, int]] = {}
    """task -> CPU seconds, bytes in"""
    errors: dict[str, str] = {}
    """task -> why nothing is known of it"""
    makespan_s: float = 0.0
    """of all tasks, one after the other"""
    goes_on: bool = False


class Solved(Event, frozen=True):
    """Answer to `Solve`: task index -> node index, or why not."""

    job: str
    nodes: list[int]
    starts: list[float]
    finishes: list[float]
    seconds: float
    error: str = ""
    reasons: list[str] = []
    task: int | None = None
    """which task no node may run"""


class NodeChosen(Event, frozen=True):
    """Answer to `ChooseNode`: the name of one of the nodes shown, or why there is none."""

    job: str
    task: str
    node: str
    error: str = ""


class Sampled(Event, frozen=True):
    """The sensors' reading of this node: owner-written profile values. `wall_offset_s`: wall clock minus loop clock."""

    values: dict[str, Any]
    wall_offset_s: float


class LinkMeasured(Event, frozen=True):
    """A network profiler of a third party measured the link from the node called `peer`: `size` bytes came in
    `seconds`, a round trip to ask for them included; with `size` 0 the round trip took so long, with 0 s none came."""

    peer: str
    size: int
    seconds: float


class Stopping(Event, frozen=True):
    """SIGTERM or Ctrl-C: drain, leave, then Halt."""
