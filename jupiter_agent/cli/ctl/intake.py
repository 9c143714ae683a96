"""Inputs on their way in: collected and checked before anything is sent; small ones travel in the call that names them,
the others are written as blobs first."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupiter_agent.cli.ctl.session import Session
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.reach import Caller
from jupiter_agent.core.ids import is_item_name
from jupiter_agent.core.messages.jobs import INLINE_BYTES, INLINE_MESSAGE_BYTES
from jupiter_agent.errors import JupiterError, UsageError

BATCH = 250
"""Inputs named in one call: a frame holds so many with the longest names, and the bytes of small ones beside them."""

AT_HAND_BYTES = 32 << 20
"""So many bytes of small inputs are held here until their calls leave; what is beyond is written, too"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Input:
    """A file that will be an item of the same name."""

    name: str
    path: Path


def collect(paths: Sequence[Path], may_repeat: bool = False) -> list[Input]:
    """Files as given, folders as their files in name order; what is hidden or deeper in one is skipped and said."""
    inputs = [Input(path.name, path) for given in paths for path in _files(given)]
    for item in inputs:
        if not is_item_name(item.name):
            wanted = "UTF-8, no control characters, at most 200 letters"
            shown = str(item.path).encode("utf-8", "backslashreplace").decode()
            raise UsageError(f"{shown}: the name cannot be an item's", wanted)
    if not may_repeat:
        _check_unique(inputs)
    return inputs


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        entries = sorted(path.iterdir())
        files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
        taken = set(files)
        if skipped := [entry.name for entry in entries if entry not in taken]:
            say(f"{path}: skipped {', '.join(skipped)}")
        if not files:
            raise UsageError(f"{path}: no file in this folder", "only its own files are taken, none of deeper folders")
        return files
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder" if not path.exists() else f"{path}: not a regular file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return [path]


def _check_unique(inputs: Iterable[Input]) -> None:
    seen: dict[str, Path] = {}
    for item in inputs:
        if item.name in seen:
            raise UsageError(f"{seen[item.name]} and {item.path} would be the same item", "item names are file names")
        seen[item.name] = item.path


def blob_fields(client: Caller, content: Path | bytes) -> dict[str, Any]:
    """Write an object and say how to name it in a call."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    digest = client.write_blob(content)
    return {"sha256": digest.hex() if isinstance(digest, bytes) else str(digest), "size": size}


def send(client: Caller, inputs: Sequence[Input], task: str | None = None) -> list[dict[str, Any]]:
    """Write the large inputs; the `inputs` entries of all for `submit` and `put`, small ones with their bytes."""
    extra = {"task": task} if task else {}
    entries, room = list[Row](), AT_HAND_BYTES
    for item in _told(inputs):
        fields = _fields(client, item.path, min(room, INLINE_BYTES))
        room -= len(fields.get("data") or b"")
        entries.append({"name": item.name, **fields, **extra})
    return entries


def _fields(client: Caller, path: Path, most: int) -> Row:
    """What names one input; its bytes, too, where they are no more than `most`."""
    if path.stat().st_size > most:
        return blob_fields(client, path)
    data = path.read_bytes()
    if len(data) > most:  # it grew meanwhile
        return blob_fields(client, data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "data": data}


def batches(entries: Sequence[Row]) -> list[Sequence[Row]]:
    """What one call names each; one, empty, of nothing."""
    found: list[list[Row]] = [[]]
    room = INLINE_MESSAGE_BYTES
    for entry in entries:
        size = len(entry.get("data") or b"")
        if len(found[-1]) == BATCH or size > room:
            found.append([])
            room = INLINE_MESSAGE_BYTES
        found[-1].append(entry)
        room -= size
    return list(found)


def submit(session: Session, args: Row, entries: Sequence[Row]) -> Row:
    """Submit with all these inputs; of more than a call holds the others follow before the intake is closed."""
    first, *others = batches(entries)
    keep_open = bool(args.get("keep_open") or others)
    job = dict(session.call("submit", {**args, "inputs": first, "keep_open": keep_open}))
    put = len(first)
    try:
        for batch in others:
            session.call("put", {"job": job["id"], "inputs": batch})
            put += len(batch)
        if others and not args.get("keep_open"):
            return {**job, **session.call("close", {"job": job["id"]})}
    except (JupiterError, KeyboardInterrupt):
        say(f"job {job['id']} was given {put} of {len(entries)} inputs and is open: put the others, or cancel it")
        raise
    return job


def _told(inputs: Sequence[Input]) -> Iterator[Input]:
    """Each in turn; on a terminal one line says how far it got, and is gone at the end."""
    live = sys.stderr.isatty() and len(inputs) > 1
    try:
        for number, item in enumerate(inputs, 1):
            if live:
                print(f"\r\x1b[Ksending {number} of {len(inputs)}: {item.name}", end="", file=sys.stderr, flush=True)
            yield item
    finally:
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
