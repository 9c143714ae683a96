"""Effects: what a machine asks the outside to do. Frozen values; an adapter performs each and answers with an event.

The order inside one batch is kept, with one promise on top: every `Append` of a batch is on disk (and synced, where
one asks for it) before any later `Send` of that batch leaves the node.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.jobs import Obj, TaskSpec
from jupiter_agent.core.messages.profiling import TaskProfile
from jupiter_agent.errors import EXIT_FAILED


class Effect(Struct, frozen=True):
    """Base of all effects."""


# --- network -------------------------------------------------------------------------------------------------


class Learn(Effect, frozen=True):
    """Enter a member into the transport's directory and allow-list. `curve_key`: 40 characters of Z85."""

    peer: str
    address: str
    curve_key: str


class AdmitClient(Effect, frozen=True):
    """Let an operator's key in, with the role of its token, for so long."""

    curve_key: str
    role: str
    for_s: float


class Forget(Effect, frozen=True):
    """Take a peer out of directory and allow-list and end its sessions."""

    peer: str


class Ban(Effect, frozen=True):
    """Forget this peer, and refuse its key for so many seconds."""

    peer: str
    for_s: float


class Connect(Effect, frozen=True):
    """Keep a session with this peer until `Disconnect`."""

    peer: str


class Disconnect(Effect, frozen=True):
    """This session need not be kept any longer; it ends unless the other side keeps it or it is in use."""

    peer: str


class Send(Effect, frozen=True):
    """Best effort, in order per session. Without a session one is opened on demand; the id may be a client's."""

    dst: str
    message: Message


class TestPort(Effect, frozen=True):
    """A plain TCP connect; answered by `PortTested`."""

    __test__ = False  # not a pytest class

    peer: str
    address: str


class SendJoin(Effect, frozen=True):
    """A request to the join socket of an agent at `address` (host:port of the agent); answered by `JoinAnswered`."""

    address: str
    message: Message


class LookUp(Effect, frozen=True):
    """Ask the resolver for all addresses of a name (HOST:PORT); answered by `SeedsFound`, or by nothing."""

    address: str


class Browse(Effect, frozen=True):
    """Listen for members that announce themselves around here (each is a `SeedsFound`), or stop that."""

    on: bool


# --- storage -------------------------------------------------------------------------------------------------


class Append(Effect, frozen=True):
    """One journal record. `sync`: on disk before anything later in the batch leaves (intake, results, registers)."""

    record: Any
    sync: bool = False


class WriteChunk(Effect, frozen=True):
    """Bytes of an object at an offset; when `size` bytes are there they are verified: `ObjectStored`."""

    sha256: bytes
    size: int
    offset: int
    data: bytes


class SendChunk(Effect, frozen=True):
    """Read from the store and send `Chunk` to `dst` (`Missing` when it is not there); `relayed`: answered by
    `ChunkRead` instead, for others must carry it."""

    dst: str
    sha256: bytes
    offset: int
    length: int
    relayed: bool = False


class FetchBulk(Effect, frozen=True):
    """Take an object from what is here of it on, by the bulk channel that `peer` serves at `port`; answered by
    `ObjectStored` when it is whole, and by `BulkEnded`. `durable`: it is on disk then."""

    sha256: bytes
    size: int
    peer: str
    port: int
    durable: bool = False


class DropBulk(Effect, frozen=True):
    """Stop taking this object by the bulk channel; no answer."""

    sha256: bytes


class TellBulk(Effect, frozen=True):
    """Send `BulkAt` with the port of this agent's bulk channel to `dst`."""

    dst: str


class StoreInline(Effect, frozen=True):
    """Put bytes that arrived inside a message into the store; no answer."""

    sha256: bytes
    data: bytes


class DropObject(Effect, frozen=True):
    """No job of ours needs this object any longer."""

    sha256: bytes


class OpenBundle(Effect, frozen=True):
    """Check and unpack a stored bundle and parse its app; answered by `BundleOpened`."""

    sha256: bytes


# --- tasks ---------------------------------------------------------------------------------------------------


class StartTask(Effect, frozen=True):
    """Start the warm process of (job, task) from an opened bundle. Idempotent."""

    job: str
    task: TaskSpec
    bundle: bytes
    app: str
    params: dict[str, str]
    ports: list[str] = []
    """'service:container': what comes to the service port is passed on to the container port"""


class StartRun(Effect, frozen=True):
    """Give one item to a warm process; answered by `RunDone` or `RunFailed` with the same `run`."""

    run: int
    job: str
    task: str
    item: str
    inputs: list[tuple[str, list[Obj]]]
    """(parent task, its objects); an injected item's parent is `input`"""
    after_s: float = 0.0
    """not before: what was said of this run first must have left the node"""


class Deliver(Effect, frozen=True):
    """Put files into the queue of a task that is not run item by item (a home script); not answered."""

    job: str
    task: str
    src: str
    item: str
    objects: list[Obj]


class HoldTask(Effect, frozen=True):
    """Read no more from the process of a task that makes files by itself, so that it waits; or read on."""

    job: str
    task: str
    held: bool


class StopTask(Effect, frozen=True):
    """End the process group of (job, task), or of every task of the job with task ''. Its runs are not answered."""

    job: str
    task: str = ""


class ProfileApp(Effect, frozen=True):
    """Run the whole DAG once on one sample, in one process, at most `budget_s`; answered by `Profiled`."""

    job: str
    bundle: bytes
    sample: Obj | None
    """None: the app's own first sample, if it has one"""
    budget_s: float
    first_s: float = 0.0
    """tell what there is after so long, too; 0: only at the end"""
    task_s: float = 0.0
    """for one task; 0: a share of what is left of the budget where the task has a process of its own"""


class KeepProfiles(Effect, frozen=True):
    """Remember these over a restart, in place of what was kept of the same (bundle, task, node); not answered."""

    rows: list[tuple[bytes, str, str, TaskProfile]]


class ForgetProfiles(Effect, frozen=True):
    """Keep no execution profiles of this bundle any more; without one, nothing that was learned at all."""

    bundle: bytes | None


class ReadLog(Effect, frozen=True):
    """Read up to `length` bytes of a task's log from `offset`; answered to `dst` by a `LogChunk` with `seq`."""

    dst: str
    seq: int
    job: str
    task: str
    offset: int
    length: int


# --- mapping, reporting ----------------------------------------------------------------------------------------


class Solve(Effect, frozen=True):
    """Run a registered centralised mapper off the loop; answered by `Solved`."""

    job: str
    mapper: str
    problem: dict[str, Any]
    """keyword arguments of schedulers.Problem as plain lists"""
    seed: int
    options: dict[str, bool] = {}
    """of the mapper"""


class ChooseNode(Effect, frozen=True):
    """Ask a third party's WAVE rule where a task shall run, off the loop; answered by `NodeChosen`."""

    job: str
    task: str
    rule: str
    view: dict[str, Any]
    """a `schedulers.rules.View` as plain data"""


class Notice(Effect, frozen=True):
    """Something worth a line in the log and in `ctl events`. `level`: debug, info, warning, error."""

    level: str
    event: str
    fields: dict[str, Any] = {}


class Halt(Effect, frozen=True):
    """The agent has left and drained (or must not go on, with an error): end the process."""

    error: str = ""
    hint: str = ""
    exit_code: int = EXIT_FAILED
    """when there is an error"""
