"""The native contract: what `process(inputs, ctx)` is given, and what becomes of its return value.

    bytes, bytearray, memoryview    one object, named after the task, for all children
    pathlib.Path (any os.PathLike)  one object, named like the file, for all children
    {child: one of these or None}   an object for each child named; None, or a child not named: nothing for it
    None                            nothing for nobody

Anything else is a ContractError; `str` too, because its encoding would be a guess. The same value given to several
children is one object. An object of several under one parent has the key `parent/name`.
"""

from __future__ import annotations

import os
import sys

from jupiter_agent.task.errors import ContractError, a_type

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Any

HOME = "home"
MAX_NAME = 200
COPY_BYTES = 8 * 1024 * 1024
MAX_INLINE_TOTAL = 4 * 1024 * 1024
"""inline bytes in one answer; what comes after goes through files, so that no frame grows without bound"""

Output = tuple[list[str], str, bytes | None, int, int]
"""(children, [] for all; name; data or None; number of the file; size)"""


class Inputs(dict[str, bytes]):
    """Parent -> bytes. What the agent gave as a path into its store is read when first asked for."""

    def __init__(self, entries: Iterable[tuple[str, str, bytes | None, str]]) -> None:
        """`entries`: (key, object name, data or None, path)."""
        super().__init__()
        self.sources: dict[str, tuple[str, str]] = {}
        self._unread: set[str] = set()
        for key, name, data, path in entries:
            self.sources[key] = (name, path)
            super().__setitem__(key, data or b"")
            if data is None:
                self._unread.add(key)

    def __getitem__(self, key: str) -> bytes:
        if key in self._unread:
            with open(self.sources[key][1], "rb") as file:
                super().__setitem__(key, file.read())
            self._unread.discard(key)
        return super().__getitem__(key)

    def __missing__(self, key: str) -> bytes:
        raise KeyError(f"no input from {key!r}; this item has: {', '.join(self.sources)}")

    def __setitem__(self, key: str, value: bytes) -> None:
        self._unread.discard(key)
        super().__setitem__(key, value)

    def __iter__(self) -> Iterator[str]:  # overridden, or dict(inputs) would copy what is not read yet
        return super().__iter__()

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            return self[key]
        return default

    def pop(self, key: str, *default: Any) -> Any:
        if key in self:
            self[key]
        return super().pop(key, *default)

    def values(self) -> Any:
        return self._read_all().values()

    def items(self) -> Any:
        return self._read_all().items()

    def copy(self) -> dict[str, bytes]:
        return dict(self)

    def __eq__(self, other: object) -> bool:
        return self._read_all() == other

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self._read_all())

    def __or__(self, other: Any) -> Any:
        return self._read_all() | other

    def _read_all(self) -> dict[str, bytes]:
        return {key: self[key] for key in self}


class Log:
    """`ctx.log`: a logger's methods without importing `logging`; the agent puts the time in front of each line."""

    def debug(self, message: object, *args: object) -> None:
        self._write("DEBUG", message, args)

    def info(self, message: object, *args: object) -> None:
        self._write("INFO", message, args)

    def warning(self, message: object, *args: object) -> None:
        self._write("WARNING", message, args)

    def error(self, message: object, *args: object) -> None:
        self._write("ERROR", message, args)

    def critical(self, message: object, *args: object) -> None:
        self._write("CRITICAL", message, args)

    def exception(self, message: object, *args: object) -> None:
        """ERROR and the traceback of the exception being handled."""
        import traceback

        self._write("ERROR", f"{_format(message, args)}\n{traceback.format_exc().rstrip()}", ())

    def _write(self, level: str, message: object, args: tuple[object, ...]) -> None:
        sys.stdout.flush()
        sys.stderr.write(f"{level} {_format(message, args)}\n")
        sys.stderr.flush()


def _format(message: object, args: tuple[object, ...]) -> str:
    try:
        return str(message) % args if args else str(message)
    except (TypeError, ValueError):
        return f"{message} {args}"


class Context:
    """What `process` gets as `ctx`."""

    def __init__(self, setup: dict[str, Any], item: str, inputs: Inputs, scratch: str) -> None:
        self.item = item
        self.job: str = setup["job"]
        self.task: str = setup["task"]
        self.params: dict[str, str] = dict(setup["params"])
        self.log = LOG
        self._inputs = inputs
        self._scratch = scratch

    @property
    def scratch(self) -> Path:
        """A private folder, emptied after each item."""
        from pathlib import Path

        return Path(self._scratch)

    def path(self, parent: str) -> Path:
        """This input as a file, named like the object: a private copy, so changing it harms nobody."""
        from pathlib import Path

        if parent not in self._inputs.sources:
            self._inputs.__missing__(parent)
        name, source = self._inputs.sources[parent]
        folder = os.path.join(self._scratch, ".inputs", parent.replace("/", "%"))
        target = os.path.join(folder, name)
        if not os.path.exists(target):
            os.makedirs(folder, exist_ok=True)
            if source:
                copy(source, target)
            else:
                with open(target, "wb") as file:
                    file.write(self._inputs[parent])
        return Path(target)


LOG = Log()


class Outputs:
    """Turns one return value into objects; what is larger than `inline_bytes` becomes files `<run>.<n>` in `folder`."""

    def __init__(self, setup: dict[str, Any], run: int, scratch: str) -> None:
        self._task: str = setup["task"]
        self._children: list[str] = setup["children"]
        self._prefix = os.path.join(setup["out"], f"{run}.")
        self._inline: int = setup["inline_bytes"]
        self._scratch = scratch + "/"
        self._inlined = 0

    def take(self, value: object) -> list[Output]:
        if value is None:
            return []
        if isinstance(value, dict):
            return self._routed(value)
        return [self._object(value, [], 0)]

    def _routed(self, values: dict[object, object]) -> list[Output]:
        allowed = self._children or [HOME]
        groups: dict[object, tuple[object, list[str]]] = {}
        for child, value in values.items():
            if not isinstance(child, str) or child not in allowed:
                raise ContractError(f"process returned a dict naming {child!r}; the children are {', '.join(allowed)}")
            if value is None:
                continue
            same = os.fsdecode(value) if isinstance(value, os.PathLike) else id(value)
            groups.setdefault(same, (value, []))[1].append(child)
        return [self._object(value, children, n) for n, (value, children) in enumerate(groups.values())]

    def _object(self, value: object, children: list[str], number: int) -> Output:
        if isinstance(value, bytes | bytearray | memoryview):
            return self._from_bytes(bytes(value), children, number)
        if isinstance(value, os.PathLike):
            return self.from_path(os.path.abspath(os.fsdecode(value)), children, number)
        hint = "; encode it: text.encode()" if isinstance(value, str) else ""
        what = f"process returned {a_type(value)}" + (f" for {', '.join(children)}" if children else "")
        raise ContractError(f"{what}: return bytes, a pathlib.Path, a dict of these by child, or None{hint}")

    def _from_bytes(self, data: bytes, children: list[str], number: int) -> Output:
        if self._fits(len(data)):
            return (children, self._task, data, number, len(data))
        with open(f"{self._prefix}{number}", "xb") as file:
            file.write(data)
        return (children, self._task, None, number, len(data))

    def from_path(self, path: str, children: list[str], number: int, name: str = "") -> Output:
        """A file as an object named like it, or `name`; one in the scratch folder is moved."""
        name = name or os.path.basename(path)
        if not os.path.isfile(path):
            raise ContractError(f"process returned the path {path}, which is not a file")
        if len(name) > MAX_NAME or not name.isprintable():
            raise ContractError(f"{self._task} gave a file with the name {name!r}: use a plain, shorter one")
        size = os.path.getsize(path)
        if self._fits(size):
            with open(path, "rb") as file:
                data = file.read()
            return (children, name, data, number, len(data))
        real = os.path.realpath(path)
        if real.startswith(self._scratch) and os.stat(real).st_nlink == 1:
            os.rename(real, f"{self._prefix}{number}")
        else:
            copy(real, f"{self._prefix}{number}")
        return (children, name, None, number, size)

    def _fits(self, size: int) -> bool:
        fits = size <= self._inline and self._inlined + size <= MAX_INLINE_TOTAL
        self._inlined += size if fits else 0
        return fits


def copy(source: str, target: str) -> None:
    """A new file with the same bytes (sharing blocks where the file system can)."""
    with open(source, "rb") as reader, open(target, "xb") as writer:
        move: Callable[[int, int, int], int] = os.copy_file_range
        while True:
            try:
                count = move(reader.fileno(), writer.fileno(), COPY_BYTES)
            except OSError:
                if move is _send:
                    raise
                move = _send
                continue
            if not count:
                return


def _send(source: int, target: int, count: int) -> int:
    return os.sendfile(target, source, None, count)
