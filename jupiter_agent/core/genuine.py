"""Bytes that come inside a message are held against the digests that it gives for them, where they come in.

What is fetched is verified by the store. What travels with a parcel, a record or a file that a task made is not stored
at once, and is handed to tasks, to others and to clients under its digest: it is checked before anything is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from jupiter_agent.core.messages.jobs import Obj
from jupiter_agent.errors import PeerError


def check_genuine(objects: Iterable[Obj], whose: str) -> None:
    """PeerError for bytes that are not what their digest and size say. O(bytes)."""
    for obj in objects:
        if obj.data is None:
            continue
        if len(obj.data) != obj.size or sha256(obj.data).digest() != obj.sha256:
            raise PeerError(f"{whose}: the bytes of {obj.name!r} do not have its digest")
