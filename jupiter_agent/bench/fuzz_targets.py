"""What is fuzzed: every place where bytes from outside become values, what it may raise, and inputs to start from.

A target gets any bytes. It returns, or raises what its `Target.may_raise` names; anything else is a finding. Where a
checksum would keep the fuzzer out (tokens, headers of bundles, records of journals) the first byte says whether the
target puts it right: behind it is what a hostile, not what a broken sender reaches.
"""

from __future__ import annotations

import io
import random
import struct
import tempfile
import types
import typing
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jupiter_agent.adapters import answers, beacon, bundle, journal, mdns, processes
from jupiter_agent.bench.fuzz_apps import NAMES, SEPARATOR, apps
from jupiter_agent.bench.fuzz_members import MEMBERS, in_memory
from jupiter_agent.bench.fuzz_tokens import TOKEN_READERS, token, tokens
from jupiter_agent.core import (
    app_edges,
    app_homes,
    app_parse,
    app_script,
    app_tasks,
    app_text,
    app_v4,
    app_v4_json,
    app_v4_side,
    app_yaml,
    board,
    bounds,
    call_shapes,
    events,
    wire,
)
from jupiter_agent.core.app import parse_app
from jupiter_agent.core.membership import Membership
from jupiter_agent.core.messages.control import Answer, Call
from jupiter_agent.errors import CapacityError, JupiterError, PeerError, UsageError
from jupiter_agent.sim.world import World

TRUE = 0x80
"""A first byte from here on: put the checksum right."""


@dataclass(frozen=True)
class Target:
    """`covers`: modules, classes and functions whose lines this target has to reach."""

    run: Callable[[bytes], object]
    covers: tuple[Any, ...]
    seeds: Callable[[], Iterable[bytes]]
    may_raise: tuple[type[Exception], ...] = ()


# --- frames ------------------------------------------------------------------------------------------------------


def sample(hint: Any, rng: random.Random) -> Any:
    """Some value of a type hint, in plain types: what an encoder turns into a frame."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return sample(args[0], rng)
    if origin in (typing.Union, types.UnionType):
        return sample(rng.choice([arg for arg in args if arg is not type(None)]), rng)
    if origin is list:
        return [sample(args[0], rng) for _ in range(rng.randrange(3))]
    if origin is dict:
        return {sample(args[0], rng): sample(args[1], rng) for _ in range(rng.randrange(3))}
    if origin is tuple:
        return [sample(arg, rng) for arg in args]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        fields = _fields(hint, rng)
        return fields if hint.__struct_config__.array_like else dict(zip(hint.__struct_fields__, fields, strict=True))
    plain: dict[Any, list[Any]] = {
        bool: [True, False],
        int: [0, 1, 7, 255, 1 << 30, 1 << 62],
        float: [0.0, 0.5, 1e9],
        str: ["", "a", "n1", "node1:7000"],
        bytes: [b"", b"x" * 8, b"y" * 32],
    }
    return rng.choice(plain.get(hint, [None, 1, "x", [1], {"a": 1}]))


def _fields(kind: type[msgspec.Struct], rng: random.Random) -> list[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return [sample(hints[name], rng) for name in kind.__struct_fields__]


CALLS: tuple[tuple[Any, ...], ...] = (
    *[(Call, "get", {"kind": "jobs"}), (Call, "get", {"kind": 1}), (Call, "submit", {"bundle": "x", "size": -1})],
    *[
        (Answer, 0, {"forgotten": "a"}, "", ""),
        (Answer, 0, {"jobs": float("nan")}, "", ""),
        (Answer, 0, [[0.5]], "", ""),
    ],
)


def frames() -> list[bytes]:
    """A few frames of every kind of message."""
    rng = random.Random(1)
    kinds = sorted(wire.MESSAGES.items())
    made = [msgspec.msgpack.encode([tag, *_fields(kind, rng)]) for tag, kind in kinds for _ in range(3)]
    made += [msgspec.msgpack.encode([kind.__struct_config__.tag, 1, *rest]) for kind, *rest in CALLS]
    return [
        *made,
        b"\x91" + bytes(wire.MAX_BYTES),
        b"",
        b"\x91\x63",
        b"\xdc\x00\x01\x63",
        b"\x92\x07\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    ]


def frame(data: bytes) -> None:
    """Any frame, of members, joiners, clients and answers alike; what was read can be written and read again."""
    message = wire.decode(data)
    try:
        again = wire.encode(message)
    except CapacityError:
        return
    assert msgspec.msgpack.encode(wire.decode(again)) == msgspec.msgpack.encode(message)
    if isinstance(message, Call):
        call_shapes.check_args(message.verb, message.args)
    if isinstance(message, Answer):
        for verb in call_shapes.BODIES:
            call_shapes.check_body(verb, message.body)


class _Member:
    """A member of a small cluster that is told whatever decodes, by another member and at its join socket."""

    def __init__(self) -> None:
        self.machine: Membership | None = None
        self._given = 0

    def __call__(self, data: bytes) -> None:
        message = wire.decode(data[1:])
        if self.machine is None or self._given >= 2000:
            self._given = 0
            self._world = World(1)
            for name in ("a", "b", "c"):
                self._world.join(name, *["a"][: name != "a"])
            self._world.run(3.0)
            self.machine = self._world.nodes["a"].machine
            self._src = self._world.nodes["b"].seat.peer
        self._given += 1
        now = self._world.nodes["a"].now + self._given * 0.01
        event: events.Event = events.Received(self._src, message)
        if data[0] >= TRUE:
            event = events.JoinRequested("join:1", message)
        for effect in [*self.machine.on_event(event, now), *self.machine.on_deadline(now)]:
            _ = effect
        self.machine.check()


# --- texts and files ---------------------------------------------------------------------------------------------


def app(data: bytes) -> None:
    """The files of an app, one after the other; empty ones are not there."""
    parts = dict(zip(NAMES, data.split(SEPARATOR), strict=False))
    files = {name: part for name, part in parts.items() if part}
    if "configuration.txt" in files:
        files |= {f"scripts/{name}.py": b"def task(f, i, o): ..." for name in "abcdx"}
        if "t.py" in files:
            files["scripts/a.py"] = files["t.py"]
    files |= {"samples/s": b"", "u.py": b"def task(q, pathin, pathout, task_name): ...\n", "run.sh": b"#!/bin/sh\n"}
    found = parse_app("folder", files, files.__getitem__)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=type(found)) == found


def archive(data: bytes) -> None:
    content = bytearray(data[1:])
    if data[:1] >= bytes([TRUE]):
        for at in range(0, len(content) - 511, 512):
            if content[at + 257 : at + 265] == b"ustar\x0000":
                total = sum(content[at : at + 512]) - sum(content[at + 148 : at + 156]) + 8 * ord(" ")
                content[at + 148 : at + 156] = b"%06o\0 " % total
    file = io.BytesIO(bytes(content))
    _, members = bundle.read_members(file, 1 << 20)
    if data[:1] in {b"\x01", b"\x81"}:
        file.truncate(len(content) // 2)  # it shrank meanwhile
    for member in members:
        assert sum(map(len, bundle._bytes(file, member))) == member.size
        assert ".." not in member.path.split("/")
        assert not member.path.startswith("/")


def archives() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        (folder / "sub").mkdir(parents=True)
        (folder / "app_config.yaml").write_text("application: {tasks: {dag_tasks: [{name: a, base_script: t.py}]}}\n")
        (folder / "sub" / "t.py").write_text("def process(inputs, ctx): return None\n")
        whole = bundle.make_bundle(folder).file.read()
    header, end = bundle._header, bytes(1024)
    names = ["demo/a", "/abs", "demo/../x", "demo/x\n", "other/a", "demo", "demo/A", "demo/" + "d/" * 33 + "f"]
    odd = [header(name, 0, False) + header("demo/a", 0, False) + end for name in names]
    kinds = [header("demo/a", 0, False)[:156] + kind + header("demo/a", 0, False)[157:] + end for kind in (b"5", b"2")]
    bad = header("demo/\u00e9", 0, True).replace("\u00e9".encode(), b"\xff\xfe")
    wrong = [whole[:700], end, whole + b"x", header("demo/a", 1 << 20, False), b"x" * 600, bytes(1 << 20) + b"x", bad]
    folder_entry = header("demo/", 0, False)[:156] + b"5" + header("demo/", 0, False)[157:]
    return [
        b"\x81" + whole,
        *(b"\xff" + each for each in (whole, *odd, *kinds, *wrong, folder_entry + header("demo/a", 3, True) + b"abc")),
    ]


class _Log:
    """A journal folder with one segment of these bytes."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self, data: bytes) -> None:
        if self._folder is None:
            self._folder = in_memory()
        content = data[1:]
        if data[:1] >= bytes([TRUE]):
            content = journal._header(1, 0) + b"".join(_record(part) for part in data[1:].split(b"|"))
        (Path(self._folder.name) / "journal-00000001.log").write_bytes(content)
        log = journal.Journal(Path(self._folder.name), 1)
        try:
            for _ in log.replay():
                pass
        finally:
            log.close()


def _record(payload: bytes) -> bytes:
    return (
        struct.pack("<II", len(payload), zlib.crc32(payload, zlib.crc32(len(payload).to_bytes(4, "little")))) + payload
    )


def logs() -> list[bytes]:
    whole = journal._header(1, 0) + journal._frame(["a", 1, {"b": b"c"}]) + journal._frame(None)
    records = b"|".join(msgspec.msgpack.encode(value) for value in (["a", 1], {"b": [1.5]}, None))
    return [
        b"\0" + whole,
        b"\0" + whole[:-2],
        b"\0" + journal._header(2, 1) + whole[16:],
        b"\xff" + records,
        b"\xff\xc1",
    ]


class _Pipe:
    """What a task process writes, in two pieces: frames, and what the runner makes of each."""

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def __call__(self, data: bytes) -> None:
        self.closed = False
        ends = processes.Frames(self._on_frame, lambda: None)
        ends._transport = typing.cast(Any, self)
        cut = data[0] % (len(data) + 1) if data else 0
        for piece in (data[1:cut], data[max(cut, 1) :]):
            ends.data_received(piece)

    def _on_frame(self, frame: bytes) -> None:
        try:
            answer = answers.decode(frame)
        except answers.GARBAGE:
            return
        if isinstance(answer, answers.Done | answers.Made):
            answers.forged(answer, ["a", "b"])


def pipes() -> list[bytes]:
    rng = random.Random(1)
    kinds: tuple[Any, ...] = (
        *[answers.Ready, answers.Broken, answers.Done, answers.Failed],
        *[answers.Window, answers.Back, answers.Made],
    )
    bodies = [
        msgspec.msgpack.encode([kind.__struct_config__.tag, *_fields(kind, rng)]) for kind in kinds for _ in "123"
    ]
    big = msgspec.msgpack.encode(answers.Made(["a"], "name", b"x" * 70_000, 0, 0))
    bodies += [big, msgspec.msgpack.encode(answers.Made(["c"], "name", b"", 0, 0)), b"\xd9\x02\xff\xff"]
    return [b"\x05" + len(body).to_bytes(4, "big") + body for body in bodies] + [b"\x01" + b"\xff" * 8]


SEAL = beacon.Seal(bytes(16), bytes(32))
NEARBY = mdns.Announced("00" * 8, "10.0.0.1:7421", "00" * 16)


def datagram(data: bytes) -> None:
    """A datagram as it came; with `TRUE` in front, one with the right seal around these bytes."""
    if data[:1] >= bytes([TRUE]):
        data = beacon._sealed(data[1:], SEAL.key)
    found = beacon.decode(data, SEAL)
    assert found is None or (len(found.address) <= beacon.ADDRESS_BYTES and len(found.node) == 16)


def datagrams() -> list[bytes]:
    addresses = ("10.0.0.2:7421", "[fd00::2]:7421", "node:1", "", "x:y", "h:70000", "h:0")
    whole = [beacon.encode(beacon.Beacon("01" * 8, address, 1, 1), SEAL) for address in addresses]
    foreign = beacon.encode(beacon.Beacon("01" * 8, "h:1", 1, 1), beacon.Seal(b"x" * 16, bytes(32)))
    return [
        b"JUB1",
        whole[0] + b"x",
        whole[0][:-1] + b"x",
        *whole,
        foreign,
        *(bytes([TRUE]) + each[: -beacon.MAC_BYTES] for each in [*whole, foreign]),
    ]


def announcement(data: bytes) -> None:
    """What the mDNS library makes of a record: texts, or none."""
    parts = [part.decode("utf-8", "replace") for part in data.split(b"\0")]
    names = ("cluster", "id", "address")
    text = {name: part or None for name, part in zip(names, parts, strict=False)}
    found = mdns.to_hint(text, parts[3:5], len(data), NEARBY)
    assert isinstance(found, str) or len(found.address) <= mdns.MOST_TEXT


def announcements() -> list[bytes]:
    ours = NEARBY.cluster.encode()
    rest = (b"01\0" + b"10.0.0.2:7421", b"01\0\0" + b"10.0.0.2", b"01\0\0" + b"fd00::2", b"01\0x:0", b"01", b"01\0:")
    return [*(ours + b"\0" + each for each in rest), ours + b"\0" + NEARBY.node.encode(), b"ff\0" + rest[0]]


def published(data: bytes) -> None:
    assert isinstance(board.from_data(data), dict)


def values() -> list[bytes]:
    return [
        msgspec.msgpack.encode(value) for value in ({}, {"cpus": 4, "load": 0.5}, [1], {"a": {"b": [None]}}, {1: 2})
    ]


PARSERS = (
    *(app_parse, app_tasks, app_yaml, app_edges, app_text),
    *(app_script, app_v4, app_v4_json, app_v4_side, app_homes),
)

TARGETS: dict[str, Target] = {
    "wire": Target(
        frame,
        (wire.decode, wire._tag, bounds._finite, call_shapes.check_args, call_shapes.check_body),
        frames,
        (PeerError, UsageError),
    ),
    "membership": Target(_Member(), (), lambda: [bytes([b]) + f for b in (0, 255) for f in frames()], (PeerError,)),
    "values": Target(published, (board.from_data,), values, (PeerError,)),
    "token": Target(token, TOKEN_READERS, tokens, (UsageError,)),
    "beacon": Target(datagram, (beacon.decode, beacon._mac), datagrams, (PeerError,)),
    "mdns": Target(announcement, (mdns.to_hint,), announcements),
    "app": Target(app, PARSERS, apps, (UsageError,)),
    "bundle": Target(
        archive, (bundle.read_members, bundle._fields, bundle._Names, bundle._bytes), archives, (UsageError,)
    ),
    "journal": Target(
        _Log(),
        (journal._frames, journal.Journal.replay, journal.Journal._recover_tail, journal.Journal._flags),
        logs,
        (JupiterError,),
    ),
    "pipe": Target(_Pipe(), (processes.Frames.data_received, answers.forged, answers.outputs_of), pipes),
    **{name: Target(*each) for name, each in MEMBERS.items()},
}
