"""What a run's outputs amount to: its stamp (DESIGN.md 7, rules 2 and 3), and whether a message can name them all."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

import msgspec

from jupiter_agent.core.messages.jobs import Obj, Parcel

STAMP_BYTES = 8
ITEM_NAME_CHARACTERS = 200
LISTED_BYTES = 448 * 1024
"""Names and digests of one run's outputs together: they travel in one frame, beside INLINE_MESSAGE_BYTES."""
OUTPUT_BYTES = 100
"""What an output without a name takes of them: as a result it is a row with its digest in hexadecimal."""


def source_stamp(objects: list[Obj]) -> bytes:
    """The stamp of the source of an injected item: the digest of its bytes (rule 3)."""
    return sha256(b"".join(obj.sha256 for obj in objects)).digest()[:STAMP_BYTES]


def manifest_stamp(outputs: list[tuple[str, list[Obj]]]) -> bytes:
    """First 8 bytes of the SHA-256 of a manifest: out-edges in DAG order, each with (name, digest, size) per object."""
    listed = [(child, [(obj.name, obj.sha256, obj.size) for obj in objects]) for child, objects in outputs]
    return sha256(msgspec.msgpack.encode(listed)).digest()[:STAMP_BYTES]


def passed_on(parcels: list[Parcel]) -> list[tuple[list[str], Obj]]:
    """The outputs of a sink: all that reached it. Names that come twice say from whom: `<task>_<name>`."""
    arrived = [(parcel.src, obj) for parcel in parcels for obj in parcel.objects]
    times = Counter(obj.name for _, obj in arrived)
    return [([], obj if times[obj.name] == 1 else _from(src, obj)) for src, obj in arrived]


def _from(src: str, obj: Obj) -> Obj:
    return msgspec.structs.replace(obj, name=f"{src}_{obj.name}"[:ITEM_NAME_CHARACTERS])


def beyond_a_message(outputs: list[tuple[list[str], Obj]]) -> str:
    """Why these outputs cannot be handed on: their names and digests travel in one message per child."""
    listed = sum(OUTPUT_BYTES + len(obj.name.encode()) for _, obj in outputs)
    if listed <= LISTED_BYTES:
        return ""
    most = LISTED_BYTES * len(outputs) // listed
    return f"{len(outputs)} output files for one item, at most {most} with names as long as these: pack them together"
