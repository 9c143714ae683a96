"""Results on disk: DIR/<item>/<sink task>/<file name> and nothing else (DESIGN 10).

The names come from tasks and peers. Each must be a plain file name, or nothing at all is written; a link in the way is
refused. A file appears whole: written beside its place, then renamed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl.session import Session
from jupiter_agent.core.ids import is_item_name
from jupiter_agent.errors import CapacityError, PeerError, UsageError

Item = Mapping[str, Any]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Not the path's fault."""


def save(session: Session, items: Iterable[Item], folder: Path) -> list[Path]:
    """Fetch and write every result; returns the paths. PeerError for an unsafe name, before anything is written."""
    planned = [(result, _place(folder, item, result)) for item in items for result in item.get("results") or []]
    for result, path in planned:
        try:
            _write(session, result, path, folder)
        except OSError as error:
            if error.errno in FULL:
                raise CapacityError(f"cannot write {path}: {error.strerror}", "make room and ask again") from error
            raise UsageError(f"cannot write {path}: {error.strerror}", "give another folder") from error
    return [path for _, path in planned]


def make_folder(folder: Path, option: str) -> None:
    """UsageError when results could not be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{option} {folder}: {error.strerror}", "give another folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {folder}: cannot be written to", "give another folder")


def _place(folder: Path, item: Item, result: Mapping[str, Any]) -> Path:
    parts = (item.get("name"), result.get("sink"), result.get("name"))
    for part in parts:
        if not isinstance(part, str) or not is_item_name(part):
            raise PeerError(f"a result has an unsafe name and was not written: {units.text(str(part))!r}")
    return folder.joinpath(*(str(part) for part in parts))


def _write(session: Session, result: Mapping[str, Any], path: Path, folder: Path) -> None:
    for parent in (path.parent.parent, path.parent):
        if parent.is_symlink():
            raise UsageError(f"{parent} is a link: results are not written through it", "give another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = _digest(result), int(result["size"])
    if _is_there(path, digest, size):
        return
    import tempfile

    number, name = tempfile.mkstemp(dir=folder, prefix=".part-")
    try:
        with os.fdopen(number, "wb") as sink:
            session.client.read_blob(digest, size, sink)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _digest(result: Mapping[str, Any]) -> bytes:
    value = result.get("sha256")
    try:
        return value if isinstance(value, bytes) else bytes.fromhex(str(value))
    except ValueError:
        raise PeerError(f"{units.text(str(value))!r} is no SHA-256") from None


def _is_there(path: Path, digest: bytes, size: int) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
        return False
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == digest


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
