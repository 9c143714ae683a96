"""Bundles: an app's folder as one content-hashed file, and back, trusting nothing in it.

The format is the plainest tar there is (POSIX ustar without extensions, not compressed): regular files only, one top
folder that carries the app's name, members sorted, times and owners zero, mode 644 or 755. So one content is one digest
on every machine, and the reader is short enough to be believed: it knows nothing of links, devices, sparse files, long
names or extended headers, and refuses them. Everything is checked from the headers, each size against the limit and
against what the file still holds, before a byte is written; then members are copied one by one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from jupiter_agent.adapters.disk import capacity, sync_folder
from jupiter_agent.core.app import AppSpec, parse_app
from jupiter_agent.core.ids import is_item_name
from jupiter_agent.errors import UsageError

MAX_BYTES = 256 * 1024 * 1024
MAX_MEMBERS = 10_000
MAX_DEPTH = 32
_NAME_BYTES, _PREFIX_BYTES, _BLOCK = 100, 155, 512
_PIECE = 1024 * 1024
_IN_MEMORY = 8 * 1024 * 1024
_SKIPPED = {".git", ".hg", ".svn", ".venv", ".jupiter", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
_RESULTS = "results"
"""where `--results` often points; skipped at the top of the app only"""
_KINDS = {
    **{b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a fifo"},
    **{b"S": "a sparse file", b"L": "a long name", b"K": "a long link", b"x": "an extended header"},
    **{b"g": "an extended header"},
}
_OCTAL = re.compile(rb" *([0-7]{1,11})[ \0]*\Z")


class Bundle(NamedTuple):
    """A made bundle. `file` is at its start; in memory up to 8 MiB, else nameless on disk. `sha256`: 32 bytes."""

    file: IO[bytes]
    sha256: bytes
    size: int


class Member(NamedTuple):
    """A file of a bundle: its path below the top folder, and where its bytes are."""

    path: str
    offset: int
    size: int
    executable: bool


def check_folder(folder: Path) -> AppSpec:
    """Parse the app in a folder as every node will. UsageError for the author's mistakes."""
    folder = folder.resolve()
    return parse_app(folder.name, set(_files(folder)), lambda name: (folder / name).read_bytes())


def make_bundle(folder: Path, max_bytes: int = MAX_BYTES) -> Bundle:
    """Archive an app's folder; same content and name, same digest.

    UsageError for what no node would accept: links that lead out of the folder, devices, odd names, too many bytes.
    """
    folder = folder.resolve()
    file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - the caller's from here on
    names, digest, size = _Names(f"cannot bundle {folder}", "rename or remove it"), hashlib.sha256(), 0
    with capacity("bundle"):
        for path in [*sorted(_files(folder)), None]:
            for piece in _pieces(folder, path, names) if path else [bytes(2 * _BLOCK)]:
                size += len(piece)
                if size > max_bytes:
                    hint = "keep data out of the app's folder: give it with --input"
                    raise UsageError(f"cannot bundle {folder}: more than {max_bytes} bytes", hint)
                digest.update(piece)
                file.write(piece)
        file.seek(0)
    return Bundle(file, digest.digest(), size)


def open_bundle(file: Path, into: Path, max_bytes: int = MAX_BYTES) -> AppSpec:
    """Parse the app in a bundle and unpack it: its files are in the folder `into`, without the top folder.

    All or nothing: checked and parsed first, unpacked beside `into`, renamed. Idempotent: an `into` whose files are the
    bundle's is kept, any other is replaced. UsageError: `bundle refused: ...` for what make_bundle would not have
    written, or the app's own mistakes; nothing was written then. CapacityError: the disk is full, nothing is left.
    """
    with file.open("rb") as archive, capacity("unpacking a bundle"):
        top, members = read_members(archive, max_bytes)
        places = {member.path: member for member in members}
        app = parse_app(top, places.keys(), lambda name: b"".join(_bytes(archive, places[name], 2 * _PIECE)))
        if not _same(archive, members, into):
            _unpack(archive, members, into)
    return app


# --- writing --------------------------------------------------------------------------------------------------


def _files(folder: Path) -> Iterator[str]:
    """Paths of the files to bundle, in no order. A link to a file inside the folder counts as that file."""
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}", "name the folder that holds app_config.yaml")
    for at, folders, files in os.walk(folder, onerror=_unreadable):
        here = Path(at)
        folders[:] = [n for n in folders if n not in _SKIPPED and not (here == folder and n == _RESULTS)]
        for name in folders:
            if (here / name).is_symlink():
                raise UsageError(f"cannot bundle {here / name}: a link to a folder", "copy the folder itself")
        yield from ((here / n).relative_to(folder).as_posix() for n in files if n not in _SKIPPED and n[-4:] != ".pyc")


def _unreadable(error: OSError) -> None:
    raise UsageError(f"cannot bundle {error.filename}: {error.strerror}", "make it readable") from error


def _pieces(folder: Path, path: str, names: _Names) -> Iterator[bytes]:
    """Header, content and padding of one member."""
    source = folder / path
    try:
        if not source.resolve().is_relative_to(folder):
            raise UsageError(f"cannot bundle {source}: a link that leads out of the app", "copy the file itself")
        if not stat.S_ISREG(source.stat().st_mode):  # before opening: a fifo would wait for a writer
            raise UsageError(f"cannot bundle {source}: not a file", "remove it from the app's folder")
        with source.open("rb") as content:
            info = os.fstat(content.fileno())
            name = f"{folder.name}/{path}"
            names.admit(name)
            yield _header(name, info.st_size, bool(info.st_mode & 0o100))
            read = 0
            while piece := content.read(_PIECE):
                read += len(piece)
                yield piece
            if read != info.st_size:
                raise UsageError(f"cannot bundle {source}: it changed meanwhile", "submit when nothing writes to it")
            yield bytes(-read % _BLOCK)
    except OSError as error:
        _unreadable(error)


def _cut(raw: bytes) -> int:
    """Where a name is cut in two for the header's fields: at a `/`, 0 when it fits whole, -1 when it cannot fit."""
    if len(raw) <= _NAME_BYTES:
        return 0
    at = raw.find(b"/", len(raw) - _NAME_BYTES - 1)
    return at if at <= _PREFIX_BYTES else -1


def _header(name: str, size: int, executable: bool) -> bytes:
    raw = name.encode()
    cut = _cut(raw)
    prefix, raw = (raw[:cut], raw[cut + 1 :]) if cut else (b"", raw)
    fields = b"%s%07o\0%s%011o\0%011o\0" % (
        *(raw.ljust(_NAME_BYTES, b"\0"), 0o755 if executable else 0o644),
        *(b"0000000\0" * 2, size, 0),
    )
    rest = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + prefix.ljust(_PREFIX_BYTES, b"\0")
    total = sum(fields) + sum(rest) + 8 * ord(" ")
    return (fields + b"%06o\0 " % total + rest).ljust(_BLOCK, b"\0")


# --- reading --------------------------------------------------------------------------------------------------


class _Names:
    """The names admitted so far. Refuses odd ones, duplicates (also but for case), and a file as a folder."""

    def __init__(self, refusal: str, hint: str) -> None:
        self.refusal, self.hint = refusal, hint
        self.count = 0
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def admit(self, name: str) -> None:
        self.count += 1
        if self.count > MAX_MEMBERS:
            raise self.refused(f"more than {MAX_MEMBERS} files")
        self.check(name)
        key = unicodedata.normalize("NFC", name).casefold()
        folders = [key[:at] for at, char in enumerate(key) if char == "/"]
        if key in self._files or key in self._folders or not self._files.isdisjoint(folders):
            raise self.refused(f"'{name}' is there twice (upper and lower case count as one)")
        self._files.add(key)
        self._folders.update(folders)

    def check(self, name: str) -> None:
        """A relative path of plain names that fits a header."""
        parts = name.split("/")
        try:
            raw = name.encode()
        except UnicodeEncodeError as error:
            raise self.refused(f"{name[:80]!r} is not UTF-8") from error
        if name.startswith("/"):
            raise self.refused(f"{name[:80]!r} is an absolute name")
        if not all(is_item_name(part) for part in parts):
            raise self.refused(f"{name[:80]!r} is no plain name")
        if len(parts) > MAX_DEPTH or _cut(raw) < 0:
            limits = f"{_NAME_BYTES} bytes for the file's, {_PREFIX_BYTES} for its folders', {MAX_DEPTH} of them"
            raise self.refused(f"the name {name[:80]!r}... is too long ({limits})")

    def refused(self, why: str) -> UsageError:
        return UsageError(f"{self.refusal}: {why}", self.hint)


_REFUSED = "bundle refused"


def read_members(archive: IO[bytes], max_bytes: int = MAX_BYTES) -> tuple[str, list[Member]]:
    """The app's name and the members of a seekable bundle, from its headers alone. UsageError as open_bundle."""
    names, members, tops = _Names(_REFUSED, "jupiter ctl submit makes good ones"), [], set()
    end = archive.seek(0, os.SEEK_END)
    if end > max_bytes:
        raise names.refused(f"{end} bytes, {max_bytes} are allowed")
    at = archive.seek(0)
    while (header := archive.read(_BLOCK)) != bytes(_BLOCK):
        name, size, kind, mode = _fields(header, names)
        at += _BLOCK
        if size > end - at:
            raise names.refused(f"truncated: '{name}' claims {size} bytes, {end - at} are left")
        if kind == b"5" and not size:
            names.check(name.removesuffix("/"))
            names.count += 1
        else:
            names.admit(name)
            top, _, path = name.partition("/")
            tops.add(top)
            if not path or len(tops) > 1:
                raise names.refused(f"'{name}' is not in the one folder that holds the app")
            members.append(Member(path, at, size, bool(mode & 0o100)))
        at = archive.seek(at + size + -size % _BLOCK)
    if end - at > 32 * _BLOCK or any(archive.read()):
        raise names.refused("more follows its end")
    if not members:
        raise names.refused("empty")
    return tops.pop(), members


def _fields(header: bytes, names: _Names) -> tuple[str, int, bytes, int]:
    """Name, size, kind and mode of a header."""
    if len(header) < _BLOCK:
        raise names.refused("truncated")
    if header[257:265] != b"ustar\x0000":
        raise names.refused("not a bundle (an uncompressed POSIX tar)")
    size, total, mode = (_OCTAL.match(field) for field in (header[124:136], header[148:156], header[100:108]))
    if not (size and total and mode):
        raise names.refused("damaged: a header's number is none")
    if sum(header) - sum(header[148:156]) + 8 * ord(" ") != int(total[1], 8):
        raise names.refused("damaged: a header's checksum is wrong")
    kind, prefix = header[156:157], header[345:500].rstrip(b"\0")
    raw = prefix + b"/" * bool(prefix) + header[:100].rstrip(b"\0")
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise names.refused(f"{raw[:80]!r} is not UTF-8") from error
    if kind not in {b"0", b"\0", b"5"}:
        raise names.refused(f"{name[:80]!r} is {_KINDS.get(kind, 'no file')}, and only files are allowed")
    return name, int(size[1], 8), kind, int(mode[1], 8)


def _bytes(archive: IO[bytes], member: Member, most: int = MAX_BYTES) -> Iterator[bytes]:
    """A member's content in pieces, `most` bytes of it at most."""
    archive.seek(member.offset)
    left = min(member.size, most)
    while left:
        piece = archive.read(min(left, _PIECE))
        if not piece:
            raise UsageError(f"{_REFUSED}: truncated while it was read")
        left -= len(piece)
        yield piece


def _same(archive: IO[bytes], members: list[Member], into: Path) -> bool:
    """Whether `into` holds these files with this content. It may hold more: tasks leave caches."""
    for member in members:
        path = into / member.path
        try:
            if path.is_symlink() or path.stat().st_size != member.size:
                return False
            with path.open("rb") as there:
                if any(there.read(len(piece)) != piece for piece in _bytes(archive, member)):
                    return False
        except OSError:
            return False
    return True


def _unpack(archive: IO[bytes], members: list[Member], into: Path) -> None:
    into.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".unpack-", dir=into.parent))
    try:
        for member in members:
            path = fresh / "new" / member.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.writelines(_bytes(archive, member))
            path.chmod(0o755 if member.executable else 0o644)
        if into.exists():
            into.rename(fresh / "old")
        (fresh / "new").rename(into)
        sync_folder(into.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
