"""What a warm process and the agent tell each other, and what the agent believes of it (user code can write, too)."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta, Struct

from jupiter_agent.core.ids import is_item_name
from jupiter_agent.core.messages.jobs import INLINE_BYTES, Obj
from jupiter_agent.errors import JupiterError

FOREIGN = (OSError, LookupError, JupiterError)
"""what `bundles` and the object store raise for something they do not have"""

NO_RUN = 0
"""stands for the run in the file names of outputs that belong to none"""


Spent = Annotated[float, Meta(ge=0, le=1e9)]
"""seconds; the process may say anything"""


class Paths(Protocol):
    """Where objects are."""

    def path(self, sha256: bytes) -> Path:
        """Of a stored object, only to be read. FileNotFoundError or KeyError when it is not there."""


class ObjectStore(Paths, Protocol):
    """What the runner needs of the store. Everything but `path` is called from threads."""

    def ingest_file(self, path: Path) -> tuple[bytes, int]:
        """Move a file into the store: (sha256, size)."""

    def sync(self, digests: Iterable[bytes]) -> None:
        """Have these on disk."""


class Ready(Struct, array_like=True, tag="ready"):
    """The script is loaded."""


class Broken(Struct, array_like=True, tag="broken"):
    """The script does not load; the process ends."""

    kind: str
    error: str


class Done(Struct, array_like=True, tag="done"):
    """A run gave outputs: (children, name, data or None, file number, size)."""

    run: int
    seconds: Spent
    outputs: list[tuple[list[str], str, bytes | None, int, int]]
    cpu_s: Spent = 0.0
    peak_bytes: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0


class Failed(Struct, array_like=True, tag="failed"):
    """A run failed."""

    run: int
    kind: str
    error: str


class Window(Struct, array_like=True, tag="window"):
    """Up to `runs` runs may be inside at once."""

    runs: int


class Back(Struct, array_like=True, tag="back"):
    """This run was not begun; the process is about to end."""

    run: int


class Made(Struct, array_like=True, tag="made"):
    """An output that belongs to no run; fields as in `Done.outputs`."""

    children: list[str]
    name: str
    data: bytes | None
    number: int
    size: int


class Taken(Struct, array_like=True, tag="taken"):
    """A large file that was delivered is laid out: the one that was shown is needed no more."""

    file: str


class Ended(Struct, array_like=True, tag="ended"):
    """The function of a home script or non-DAG task returned; the process ends."""


decode = msgspec.msgpack.Decoder(Ready | Broken | Done | Failed | Window | Back | Made | Taken | Ended).decode
GARBAGE = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)
"""what `decode` raises for what no honest process writes"""


Inputs = list[tuple[str, list[Obj]]]
"""as in `StartRun`"""


def inline(name: str, data: bytes) -> Obj:
    return Obj(name, hashlib.sha256(data).digest(), len(data), data)


def entries_of(inputs: Inputs, objects: Paths) -> Iterable[tuple[str, str, bytes | None, str]]:
    """(key, name, data or None, path): the key is the parent, or `parent/name` when it gave several objects."""
    for parent, given in inputs:
        for obj in given:
            if not is_item_name(obj.name):
                raise LookupError(f"{obj.name!r} is no file name")
            key = parent if len(given) == 1 else f"{parent}/{obj.name}"
            yield key, obj.name, obj.data, "" if obj.data is not None else str(objects.path(obj.sha256))


def forged(answer: Done | Made, children: list[str]) -> str:
    """What no honest task process sends."""
    for named, name, data, _, _ in outputs_of(answer):
        if not is_item_name(name):
            return f"{name!r} is not a plain file name"
        if not set(named) <= set(children):
            return f"{named} are not all among the children {children}"
        if data is not None and len(data) > INLINE_BYTES:
            return f"{name} is too large to be sent inside a message"
    return ""


def outputs_of(answer: Done | Made) -> list[tuple[list[str], str, bytes | None, int, int]]:
    if isinstance(answer, Done):
        return answer.outputs
    return [(answer.children, answer.name, answer.data, answer.number, answer.size)]


def ingest(objects: ObjectStore, out: Path, answer: Done | Made, sync: bool = False) -> list[tuple[list[str], Obj]]:
    """In a thread: hash and move. `sync`: they may be results, which home's records name."""
    taken = []
    run = answer.run if isinstance(answer, Done) else NO_RUN
    for children, name, data, number, _ in outputs_of(answer):
        if data is not None:
            taken.append((children, inline(name, data)))
            continue
        path = out / f"{run}.{number}"
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(f"{path.name} is not a regular file")
        sha256, size = objects.ingest_file(path)
        if sync:
            objects.sync([sha256])
        taken.append((children, Obj(name, sha256, size)))
    return taken
