"""Job messages: specs, registers, awards, parcels and signals (DESIGN.md, sections 6 and 7)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from jupiter_agent.core.messages import FETCHED_BYTES, Boot, Count, Message, Seconds, Size

INLINE_BYTES = FETCHED_BYTES

INLINE_MESSAGE_BYTES = 512 * 1024
"""All objects inside one message together: a frame holds twice that. What is beyond travels by reference."""

CHUNK_BYTES = 256 * 1024

EPOCH_MAX = (1 << 53) - 1

Weight = Annotated[float, Meta(ge=0, le=1e9)]

ERROR_CHARACTERS = 4096
"""Of an error's text, its end: there the reason is."""


def clipped(error: str) -> str:
    """An error's text as it travels and is kept."""
    return error if len(error) <= ERROR_CHARACTERS else "..." + error[3 - ERROR_CHARACTERS :]


SINK = "sink"
"""The contract of a task without code, which passes on what reaches it: a named home where results are sent."""


class Obj(Struct, frozen=True, array_like=True):
    """A named object. `sha256`: 32 bytes; `data` is there when size <= INLINE_BYTES."""

    name: str
    sha256: bytes
    size: Size
    data: bytes | None = None


class TaskSpec(Struct, frozen=True, array_like=True):
    """One task of an app. `children` may hold `home`. Times in seconds."""

    name: str
    script: str = ""
    command: list[str] = []
    children: list[str] = []
    parents: list[str] = []
    """in file order"""
    timeout_s: Seconds | None = None
    parallel: Count = 1
    retries: Count = 2
    node: str = ""
    """a strict pin to a node name, or ''"""
    params: dict[str, str] = {}
    contract: str = "native"
    extra: dict[str, Any] = {}


class HomeVersion(Struct, frozen=True, array_like=True, order=True):
    """Register home(job), ordered by (epoch, writer, boot)."""

    epoch: Count
    writer: str
    boot: Boot


class Deputies(Struct, frozen=True, array_like=True, order=True):
    """The rest of register home(job): who stands in for home, in this order; counted within a home version."""

    n: Count = 0
    nodes: list[str] = []
    former: list[str] = []
    """Homes of earlier epochs, and nodes that have copies from one, which may not know that all is here: whoever is
    home tells them, lest they become home."""


StreamId = tuple[Boot, Count]
"""A sender's boot and its count of streams: what makes one stream of copies differ from an earlier one."""


class Averages(Struct, frozen=True, array_like=True):
    """Of nodes and links, as home knew them at submit: what ranks are computed with, the same on every node."""

    latency_s: Seconds = 0.001
    inv_rate: Seconds = 1e-8
    """seconds per byte"""
    pace: Seconds = 1.0
    """mean over nodes of 1 / speed"""


class JobSpec(Struct, frozen=True, array_like=True):
    """What every host of a job knows from the start; signed by the home that accepted it."""

    id: str
    name: str
    app: str
    bundle: bytes
    bundle_size: Size
    tasks: Annotated[list[TaskSpec], Meta(max_length=10_000)]
    """in file order"""
    mapper: str
    seed: int
    params: dict[str, str]
    weights: dict[str, Weight]
    seconds: dict[str, Seconds]
    """predicted seconds per item and task at speed index 1"""
    edge_bytes: dict[str, Count]
    """'u>v' -> predicted bytes per item"""
    submitted_at: Seconds
    """wall clock, seconds since the epoch"""
    max_open: Count = 64
    entries: list[str] | None = None
    """tasks that get injected items; None: those without a parent"""
    fed: list[str] = []
    """tasks that get files from non-DAG tasks"""
    home_task: TaskSpec | None = None
    """a home script"""
    nondag: list[TaskSpec] = []
    contract: str = "native"
    """`v4`: an item is named by the join key of its files"""
    item_files: dict[str, Count] = {}
    """v4: entry -> files of one key that make an item"""
    ports: list[str] = []
    """'service:container' port pairs, opened on the nodes of the tasks"""
    mapper_options: dict[str, bool] = {}
    remap: str = "off"
    """to better places: active, lazy or off, as the submitter chose; dead hosts are replaced in any case"""
    input_at: dict[str, str] = {}
    """entry -> id of the node where its inputs will be put; home where it is not said"""
    sources: dict[str, list[str]] = {}
    """named sources -> their entries, `home` among them; {} where home is the only one"""
    replicas: Annotated[int, Meta(ge=0, le=16)] = 1
    """deputies that hold copies of items, results and home's journal"""
    max_open_bytes: Size = 1 << 32
    """inputs of open items: no more enter from there on"""
    averages: Averages = Averages()


class SignedSpec(Struct, frozen=True, array_like=True):
    """The MessagePack of a JobSpec, its signer's node id and Ed25519 signature."""

    spec: bytes
    signer: str
    signature: bytes


class Register(Struct, frozen=True, array_like=True):
    """Assignment of one task: last writer wins by (basis, epoch, writer, boot); nothing is rejected (rule 6)."""

    task: str
    node: str
    basis: Count
    """epoch of the controller's register that the writer knew (of home's version for entry tasks)"""
    epoch: Count
    writer: str
    boot: Boot
    why: str = ""
    """one line for `explain`"""
    done_s: Seconds = 0.0
    """plan time at which the task is done there with its first item; 0 where nobody bid"""
    sends: list[tuple[str, Seconds]] = []
    """until when, in the plan, the cards of its parents' hosts are busy with its inputs"""
    left: str = ""
    """the host before, if it was another: its word is taken on what it has begun"""

    def version(self) -> tuple[int, int, str, int]:
        return (self.basis, self.epoch, self.writer, self.boot)


class Award(Message, frozen=True, tag=30):
    """You host these tasks (or: you take part); with all the sender knows. Answered by `Awarded`."""

    spec: SignedSpec
    home: HomeVersion
    registers: list[Register]


class Awarded(Message, frozen=True, tag=31):
    """The award is known here."""

    job: str
    digest: Count


class Registers(Message, frozen=True, tag=32):
    """News of registers for a participant."""

    job: str
    home: HomeVersion
    registers: list[Register]
    confirm: bool = False
    """some name the receiver as host: answered by `Awarded`"""


class RegisterDigest(Message, frozen=True, tag=33):
    """What I hold of registers and of the finished, as two numbers: send me all you have of what differs with you."""

    job: str
    digest: Count
    finished: Count = 0
    answer: bool = False
    """what I told you goes with it: answered with what I lack, and no more"""
    asker: str = ""
    """home asks on behalf of this node, to which it may not tell what others decided"""


class Parcel(Message, frozen=True, tag=34):
    """One out-edge of one run: its objects, or none: the `nothing` token (rule 2). From home: an injected item."""

    job: str
    item: str
    src: str
    dst: str
    stamp: bytes
    """first 8 bytes of the SHA-256 of the run's manifest"""
    carried: dict[str, bytes]
    """stamps of the ancestors that reach the receiver's joins by several paths (rule 3)"""
    objects: list[Obj]
    number: tuple[HomeVersion, Count] | None = None
    strikes: Count = 0
    """hosts that were lost with it; inherited by what its run puts out (rule 11)"""
    instead_of: list[tuple[HomeVersion, Count]] = []
    """numbers under which the item had other bytes: what is held of them is void"""


class ParcelReceived(Message, frozen=True, tag=35):
    """RECEIVED: this node holds the parcel; `boot` tells whether it may have forgotten later."""

    job: str
    item: str
    src: str
    dst: str
    stamp: bytes
    carried: dict[str, bytes]
    boot: Boot


class Finished(Message, frozen=True, tag=36):
    """Items that are over (finished, failed, cancelled), per home version as interval sets [[lo, hi], ...]."""

    job: str
    home: HomeVersion
    intervals: list[tuple[HomeVersion, list[tuple[Count, Count]]]]

    def __post_init__(self) -> None:
        """ValueError, a malformed message when it comes from outside, for an interval that ends before it starts."""
        if any(hi < lo for _, spans in self.intervals for lo, hi in spans):
            raise ValueError("an interval ends before it starts")


class ItemFailed(Message, frozen=True, tag=37):
    """A run used up its retries: tells home."""

    job: str
    item: str
    task: str
    node: str
    attempts: Count
    kind: str
    error: str


class TaskReport(Message, frozen=True, tag=38):
    """Counters of the tasks a node hosts, for home; sent when they change, at most 5 times a second."""

    job: str
    node: str
    sequence: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    tasks: list[tuple[str, str, Count, Count, Count, Count, Count, Seconds]]
    """(task, state, queued, running, done, failed, restarts, seconds in runs)"""
    moved_bytes: Count = 0
    """bytes of objects that this node handed to other nodes for the job"""


class JobOver(Message, frozen=True, tag=39):
    """The job ended (completed, failed, cancelled): hosts stop its processes and drop its spool."""

    job: str
    home: HomeVersion
    state: Annotated[str, Meta(pattern=r"^(completed|failed|cancelled)\Z")]


class JobUnknown(Message, frozen=True, tag=40):
    """I was told of this job without its spec: award me, or it is none of my business."""

    job: str


class ChunkRequest(Message, frozen=True, tag=41):
    """Send me this part of an object."""

    sha256: bytes
    offset: Count
    length: Count


class Chunk(Message, frozen=True, tag=42):
    """A part of an object; `size` is the whole object's."""

    sha256: bytes
    size: Size
    offset: Count
    data: bytes


class Missing(Message, frozen=True, tag=43):
    """I do not have this object."""

    sha256: bytes


class Inject(Message, frozen=True, tag=46):
    """A non-DAG task made a file for a DAG task: home takes it in as an item. Told again until `Injected`."""

    job: str
    seq: Count
    task: str
    child: str
    obj: Obj


class Injected(Message, frozen=True, tag=47):
    """Home has it."""

    job: str
    seq: Count


class RunStarted(Message, frozen=True, tag=54):
    """A run of an item with strikes begins here: if this node is lost now, that was it. Or such a run is over."""

    job: str
    item: str
    task: str
    over: bool = False


class HomeNews(Message, frozen=True, tag=48):
    """Register home(job), to its participants and whoever holds copies; told again until `HomeKnown`."""

    job: str
    home: HomeVersion
    deputies: Deputies
    complete: bool = False
    """all deputies hold all there is: whoever was replaced may let go"""
    leaving: bool = False
    """to a deputy: be home instead, this node drains"""


class HomeKnown(Message, frozen=True, tag=49):
    """This register is known here, and on disk where copies are."""

    job: str
    home: HomeVersion
    n: Count
    complete: bool


class Copy(Message, frozen=True, tag=50):
    """Records of a job, numbered from `first` in this stream: home to a deputy, or a former holder to home.

    A record is (kind, value) as in home's journal. The next batch follows when this one is confirmed (`Copied`).
    """

    job: str
    home: HomeVersion
    deputies: Deputies
    stream: StreamId
    first: Count
    records: list[tuple[str, Any]]
    whole: bool = False
    """with these the receiver has all that was there"""


class Copied(Message, frozen=True, tag=51):
    """All up to `upto` is on disk here, but for objects of the records `lacking`; from home: on its deputies, too."""

    job: str
    home: HomeVersion
    n: Count
    stream: StreamId
    upto: Count
    lacking: list[Count] = []


MANY_FRAMES = 256


class Many(Message, frozen=True, tag=58):
    """Frames that left together, each of one message, in order; never one like this."""

    frames: Annotated[list[bytes], Meta(max_length=MANY_FRAMES)]
