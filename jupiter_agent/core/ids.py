"""Identities. A node's id is the fingerprint of its signing key, so it can neither be chosen nor taken."""

from __future__ import annotations

import hashlib
import re
from typing import TypeAlias

NodeId: TypeAlias = str
JobId: TypeAlias = str

HOME = "home"
"""The word for a job's home where a task name is expected: source of injected items and last join."""

CLIENT_PREFIX = "client:"
"""Session ids of `jupiter ctl` start so; no node id does."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}\Z")
_ITEM = re.compile(r"[^/\x00-\x1f\x7f\ud800-\udfff]{1,200}\Z")


def node_id(sign_key: bytes) -> NodeId:
    """16 hex digits: the first 8 bytes of the SHA-256 of the Ed25519 public key (32 bytes)."""
    return hashlib.sha256(sign_key).hexdigest()[:16]


def is_node_name(name: str) -> bool:
    """Letters, digits, `.` and `-`, at most 63, as in a DNS name."""
    return bool(_NAME.match(name))


def is_task_name(name: str) -> bool:
    """As node names, without `.`; no `_` (v5 file names use it as a separator), no `/`."""
    return bool(_NAME.match(name)) and "." not in name


def is_item_name(name: str) -> bool:
    """A plain file name: no `/`, no control characters, UTF-8, not `.` or `..`, at most 200 characters."""
    return bool(_ITEM.match(name)) and name not in {".", ".."}
