"""Fuzz targets for what a member, a bulk source or taker, a task, or this node's own disk may say in bytes that no wire
message holds: specs, sealed frames, uses of tokens, parts of objects, reports of sample runs, remembered files."""

from __future__ import annotations

import json
import random
import tempfile
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec

from jupiter_agent.adapters import authority, grants, keyring, remembered, sampling, state
from jupiter_agent.adapters.answers import GARBAGE
from jupiter_agent.adapters.keys import ClusterKeys
from jupiter_agent.core import bulk, estimate, job, wire
from jupiter_agent.core.ledger import Ledger
from jupiter_agent.core.membership import Membership, relay, routes
from jupiter_agent.core.messages import bulk as parts
from jupiter_agent.core.messages.bulk import Ask, Gone, Knock, Part
from jupiter_agent.core.messages.jobs import HomeVersion, JobSpec, SignedSpec, TaskSpec
from jupiter_agent.core.messages.membership import USE, Entry, Ping, Relayed, Sealed
from jupiter_agent.errors import PeerError, UsageError
from jupiter_agent.sim.world import World

_encode = msgspec.msgpack.encode


# --- specs -------------------------------------------------------------------------------------------------------


def spec(data: bytes) -> None:
    """A spec as a host takes it from an award, its signature apart."""
    signed = SignedSpec(data, "n1", b"")
    found = job.decode_spec(signed)
    job.Job(signed, found, HomeVersion(1, "n1", 1)).check()


def specs() -> list[bytes]:
    tasks = [TaskSpec("a", children=["b"]), TaskSpec("b", parents=["a"])]
    plain = {"params": {}, "weights": {}, "seconds": {}, "edge_bytes": {}, "submitted_at": 1.0}
    good = JobSpec("j1", "app", "app", bytes(32), 1, tasks, "heft", 1, **plain)  # type: ignore[arg-type]
    replace = msgspec.structs.replace
    odd = [
        replace(good, id="../x"), replace(good, ports=["x:y"]), replace(good, weights={"size": 1.0}),
        replace(good, seconds={"a": float("nan")}), replace(good, tasks=[TaskSpec("a", children=["a"])]),
        replace(good, edge_bytes={"a>b": 5, "home>a": 7}), replace(good, home_task=TaskSpec("home"), nondag=tasks[:1]),
    ]  # fmt: skip
    return [_encode(each) for each in [good, *odd]] + [b"", b"\x90", b"\xc1"]


# --- relays ------------------------------------------------------------------------------------------------------


class Relayer:
    """A member that unseals what another one sealed for it, whatever that is."""

    def __init__(self) -> None:
        self.machine: Membership | None = None

    def __call__(self, data: bytes) -> None:
        if self.machine is None:
            world = World(1)
            for name in ("a", "b"):
                world.join(name, *["a"][: name != "a"])
            world.run(3.0)
            self.machine = world.nodes["a"].machine
            self._src, self._now = world.nodes["b"].seat.peer, world.nodes["a"].now
            self._seal = world.nodes["b"].machine._context.trust.sealer
        routes._near({"near": [data.hex()] if data else 5})
        self.machine._relay._windows.clear()
        me, first = self.machine.self_record, data[:1]
        plain = _bound(data, self._src, me.id, self.machine)
        assert self._seal is not None
        sealed = plain if first == b"\x02" else self._seal.seal(me.curve_key, plain)
        message = Relayed("nobody" if first == b"\x03" else self._src, me.id, 0, sealed[:1200])
        for _ in range(2 if first == b"\x04" else 1):
            self.machine._relay.on_relayed(self._src, message, self._now)


def _bound(data: bytes, src: str, me: str, machine: Membership) -> bytes:
    """These bytes as a frame that is bound as it should be or, as the first byte says, to another boot; or bare."""
    if data[:1] not in (b"\x01", b"\x04", b"\x05"):
        return data[1:]
    boot = machine.members()[src].record.boot + (data[:1] == b"\x05")
    return _encode(Sealed(src, me, boot, machine.self_record.boot, 5, data[1:]))


def relays() -> list[bytes]:
    frame, inner = wire.encode(Ping(1, True, True, 0, 0)), wire.encode(Relayed("a", "b", 1, b"x"))
    foreign = _encode(Sealed("x", "y", 1, 1, 1, frame))
    bound = [bytes([first]) + each for first, each in ((1, frame), (1, inner), (1, b"\xc1"), (4, frame), (5, frame))]
    return [*bound, b"\0" + foreign, b"\0\xc1", b"\x02x", b"\x03x", b""]


# --- the ledger --------------------------------------------------------------------------------------------------


def use(data: bytes) -> None:
    """An entry that says a token was used: its bytes are the joiner's."""
    keys = ClusterKeys(bytes(8), bytes(32), issuer=bytes(32))
    judge = authority.ClusterAuthority(keys, Ledger(), lambda keys: None)
    assert not judge.verify_entry(Entry(USE if data else 0, "x", 1, data)), "nobody has signed it"


def uses() -> list[bytes]:
    good = grants.Grant("worker", 0, bytes(32), "o" * 40, bytes(64), 1)
    odd = [msgspec.structs.replace(good, role="king"), msgspec.structs.replace(good, uses=-1)]
    raws = [*map(grants.to_bytes, [good, *odd]), b"", b"\xc1", b"x" * 2000]
    return [_encode((raw, ("n", bytes(32), "k" * 40, "worker"))) for raw in raws] + [b"", b"\xc1"]


# --- parts of objects --------------------------------------------------------------------------------------------

SHA, PART_BYTES = bytes(range(32)), 32 * 1024
SIZE = 100_000


def part(data: bytes) -> None:
    """Frames of the bulk channel, to a source or, one after the other, from one."""
    if data[:1] == b"\x01":
        parts.from_taker(data[1:])
        return
    source, now = bulk.Source(0.0), 0.0
    source.want(SHA, SIZE, 0, now)
    for frame in data[1:].split(b"||"):
        now += 0.01
        source.next_said(now)
        message = parts.from_source(frame)
        taken, _ = source.on_heard(message, PART_BYTES - frame.count(b"short"), now)
        assert taken is None or 0 <= taken.offset <= taken.size
        assert source.waiting_bytes >= 0


def parted() -> list[bytes]:
    heard: list[parts.Heard] = [Knock(1), Part(SHA, SIZE, 0), Part(SHA, SIZE, PART_BYTES), Part(SHA, 7, 0), Gone(SHA)]
    up, first, second, other, gone = [parts.to_frame(each) for each in heard]
    said: list[parts.Said] = [Ask(SHA, 0, 5), Knock(1)]
    strange = parts.to_frame(Gone(b"short" + SHA[5:]))
    last = parts.to_frame(Part(SHA, SIZE, 3 * PART_BYTES))
    third = parts.to_frame(Part(SHA, SIZE, 2 * PART_BYTES))
    chains = [
        [up, first, second, third, last], [up, other], [up, gone, first], [up, second, first], [first], [up, up],
        [up, strange, first],
    ]  # fmt: skip
    to_source = [b"\x01" + parts.to_frame(each) for each in said]
    return [*(b"\0" + b"||".join(chain) for chain in chains), *to_source, b"\0\xc1", b"\x01\xc1"]


# --- reports of sample runs, files of this node --------------------------------------------------------------------


def in_memory() -> tempfile.TemporaryDirectory[str]:
    """A folder for files that are written a million times, where there is such a place."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


class Kept:
    """Files of a state folder, and rows of the profile store, with any bytes in them."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self, data: bytes) -> None:
        if self._folder is None:
            self._folder = in_memory()
        path, kind = Path(self._folder.name) / "file", data[:1]
        path.write_bytes(data[1:])
        if not data[1:]:
            path.unlink()
        if kind == b"\0":
            keyring._read(path)
        elif kind == b"\x01":
            remembered.Remembered(path)
        elif kind == b"\x02":
            state._cluster_from(path)
        elif kind == b"\x03":
            estimate.Links("n1").recall("n2", data[1:], 1.0, 2.0)
        elif kind == b"\x04":
            _sampled(data[1:])


def _sampled(frame: bytes) -> None:
    """As `sampling` reads what a sample run says of itself."""
    try:
        sampling._decode(frame)
    except GARBAGE:
        return


def kept() -> list[bytes]:
    rng = random.Random(1)
    peers = {"addresses": ["h:1"], "admission": b64encode(b"x").decode(), "records": b64encode(b"\x90").decode()}
    memory = estimate.Links("n1")
    memory.on_transfer("n2", 1000, 0.5, 1.0)
    row = memory.to_rows(["n2"])["n2"]
    files: list[Any] = [peers, {"version": 1}, [], {"version": 1, "seeds": 5}]
    ours = [json.dumps(value).encode() for value in files]
    bodies = [*ours, b64encode(b"\x90"), b64encode(rng.randbytes(40)), row, b"\xc1", b""]
    return [bytes([kind]) + body for kind in range(5) for body in bodies]


MEMBERS: dict[str, tuple[Any, ...]] = {
    "spec": (spec, (job.decode_spec,), specs, (PeerError, UsageError)),
    "relayed": (Relayer(), (relay.Relay._opened, routes._near), relays, (PeerError,)),
    "use": (use, (authority.ClusterAuthority.verify_entry, grants.from_bytes), uses),
    "part": (
        part, (parts.from_source, parts.from_taker, bulk.Source.on_heard, bulk.Source._match), parted, (PeerError,),
    ),
    "kept": (
        Kept(), (keyring._read, remembered.Remembered.__init__, estimate.Links.recall), kept, (UsageError,),
    ),
}  # fmt: skip
"""name -> what a `Target` is made of"""
