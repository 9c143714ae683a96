"""Performs effects: each kind by the adapter that owns that part of the outside. Answers go back as events.

The promise of core/effects.py is kept here: a batch's journal records are written, and synced where one asks for it,
before anything else of the batch is done. Only small objects are stored even before them, and the objects that a synced
record names are synced first: a record that outlived the bytes it names would promise a result that nobody has.

When the disk takes a record or an object no more, the machine has applied what no restart would find again. Nothing of
that batch leaves then, nor of what follows: the agent stands still until there is room, and then goes on where it was.
To others it is like a node that does not answer; who calls it hears why.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from jupiter_agent.adapters.bulk import Wanted
from jupiter_agent.adapters.bundle import open_bundle
from jupiter_agent.adapters.foreign import CHOOSE_S, Foreign
from jupiter_agent.adapters.forwards import Forwards
from jupiter_agent.adapters.journal import Journal
from jupiter_agent.adapters.mailbag import Mailbag
from jupiter_agent.adapters.objects import ObjectStore
from jupiter_agent.adapters.ports import format_address, parse_address
from jupiter_agent.adapters.promises import Promises
from jupiter_agent.adapters.runner import Runner
from jupiter_agent.adapters.sandbox import Sandbox
from jupiter_agent.adapters.solver import solve_off_loop
from jupiter_agent.adapters.stamps import PROBES, Stamps
from jupiter_agent.adapters.transports import DataTransport
from jupiter_agent.core import effects as ef
from jupiter_agent.core import events as ev
from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.bulk import BulkAt
from jupiter_agent.core.messages.control import Answer, Call, LogChunk
from jupiter_agent.core.messages.jobs import SINK, Chunk, Many, Missing
from jupiter_agent.core.wire import UNKNOWN, decode, encode
from jupiter_agent.errors import EXIT_FAILED, CapacityError, JupiterError, PeerError, UsageError

log = logging.getLogger("jupiter")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

SYNC_APART_BYTES = 1024 * 1024
is_digest = re.compile("[0-9a-f]{64}").fullmatch

Post = Callable[[ev.Event], None]


class Network(Protocol):
    """The transport and the join socket, as far as effects need them."""

    def learn(self, peer: str, address: str, curve_key: str) -> None: ...
    def forget(self, peer: str) -> None: ...
    def ban(self, peer: str, for_s: float) -> None: ...
    def admit_client(self, curve_key: str, role: str, for_s: float) -> None: ...
    def connect(self, peer: str) -> None: ...
    def disconnect(self, peer: str) -> None: ...
    def send(self, peer: str, frame: bytes) -> None: ...
    def test_port(self, peer: str, address: str) -> None: ...
    def place(self, peer: str) -> tuple[str, str] | None: ...
    def join_request(self, address: str, frame: bytes, on_answer: Callable[[bytes | None, str], None]) -> None: ...


class Performer:
    """One agent's hands. `on_effect` gets the effects that are the composition's own: Halt, Joined."""

    def __init__(
        self, me: str, post: Post, state_dir: Path, journal: Journal, on_effect: Callable[[ef.Effect], None],
        sandbox: Callable[[], Sandbox] = Sandbox,
    ) -> None:  # fmt: skip
        self.counters: Counter[str] = Counter()
        self.objects = ObjectStore(state_dir / "objects")
        self.bundles = state_dir / "bundles"
        self.bundles.mkdir(mode=0o700, exist_ok=True)
        bundles = self.bundles
        self._clear_up()
        self.runner = Runner(
            post, state_dir / "jobs", lambda digest: bundles / digest.hex(), self.objects, sandbox=sandbox
        )
        self.forwards = Forwards(self._note)
        self.network: Network
        """set by the composition before the first effect"""
        self.mail = Mailbag(lambda dst, frame: self.network.send(dst, frame))  # noqa: PLW0108 - it is set later
        self.bulk: DataTransport | None = None
        """set by the composition where there is one"""
        self.stamps = Stamps()
        self._durable: set[bytes] = set()
        self._me, self._post, self._on_effect = me, post, on_effect
        self.promises = Promises(journal, self.objects, self._act, self._give_up)
        self._apps: dict[bytes, AppSpec] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._foreign = Foreign()

    def perform(self, effects: list[ef.Effect]) -> None:
        """Do a batch: bytes that a record may name, the journal, then the rest in order. Without room: halt."""
        self.promises.perform(effects)

    def _act(self, effects: list[ef.Effect]) -> None:
        """Do what follows once the records of a batch are on disk."""
        for effect in effects:
            action = _ACTIONS.get(type(effect))
            if action is not None:
                action(self, effect)
            elif not isinstance(effect, ef.Append | ef.StoreInline):
                self._on_effect(effect)

    def _give_up(self, effects: list[ef.Effect], error: CapacityError) -> None:
        """Nothing of the batch is done; who waits for an answer in it is told why."""
        self.counters["journal_refused"] += 1
        what, hint = f"the disk is full: {error.message}", "free space, then start the agent again: nothing is lost"
        log.error("%s; the agent stops", what)
        for effect in effects:
            if isinstance(effect, ef.Send) and isinstance(effect.message, Answer):
                self.send(effect.dst, Answer(effect.message.seq, EXIT_FAILED, None, what, hint))
        self._on_effect(ef.Halt(what, hint))

    # --- network -------------------------------------------------------------------------------------------------

    def _send(self, effect: ef.Send) -> None:
        self.send(effect.dst, effect.message)

    def send(self, dst: str, message: Message) -> None:
        """Encode and hand to the transport; what is too large to encode is refused to whoever asked for it."""
        try:
            if type(message) in PROBES:
                message = self.stamps.leaving(dst, message)
            self.mail.put(dst, message, encode(message))
        except (PeerError, CapacityError) as error:
            self.counters["unsendable"] += 1
            log.warning("a %s for %s cannot be sent: %s", type(message).__name__, dst, error)
            if isinstance(message, Answer):
                fields = (EXIT_FAILED, None, f"the answer is too large: {error}", "ask for a part of it")
                self.network.send(dst, encode(Answer(message.seq, *fields)))

    def on_frame(self, src: str, frame: bytes) -> None:
        """A frame from a peer or client: an event, or a counted mistake. On a full disk it is as if it got lost."""
        try:
            message = decode(frame)
            if type(message) in PROBES:
                message = self.stamps.came(src, message)
            if isinstance(message, Many):
                self._on_many(src, message)
            elif not self.promises.full:
                self._post(ev.Received(src, message))
            elif isinstance(message, Call):
                self._answer_full(src, message)
        except PeerError as error:
            self._refused(src, error)

    def _on_many(self, src: str, many: Many) -> None:
        """Frames that travelled together; one that is malformed harms no other."""
        for frame in many.frames:
            try:
                message = decode(frame)
                if isinstance(message, Many):
                    raise PeerError("frames inside of frames")
                if not self.promises.full:
                    self._post(ev.Received(src, message))
            except PeerError as error:
                self._refused(src, error)

    def on_join(self, src: str, frame: bytes) -> None:
        try:
            self._post(ev.JoinRequested(src, decode(frame)))
        except PeerError as error:
            self._refused(src, error)

    def _answer_full(self, src: str, call: Call) -> None:
        what, hint = f"the agent waits for room on its disk: {self.promises.full}", "free space, or ask another agent"
        self.send(src, Answer(call.seq, EXIT_FAILED, None, what, hint))

    def _refused(self, src: str, error: PeerError) -> None:
        self.counters["frames_refused"] += 1
        if self.counters["frames_refused"] <= 20:
            log.warning("frame from %s refused: %s", src, error)
        if error.message != UNKNOWN:  # that may be a newer version's
            self._post(ev.Garbled(src, error.message))

    def _send_join(self, effect: ef.SendJoin) -> None:
        def answered(frame: bytes | None, error: str) -> None:
            try:
                message = decode(frame) if frame is not None else None
            except PeerError:
                message, error = None, "garbage"
            self._post(ev.JoinAnswered(effect.address, message, error))

        self.network.join_request(effect.address, encode(effect.message), answered)

    # --- storage -------------------------------------------------------------------------------------------------

    def _write_chunk(self, effect: ef.WriteChunk) -> None:
        try:
            written = self.objects.write_chunk(effect.sha256, effect.size, effect.offset, effect.data)
        except CapacityError as error:
            self._post(ev.ObjectStored(effect.sha256, effect.size, str(error)))
            return
        if written.state == "stored" and effect.size > SYNC_APART_BYTES:
            self._work(self._synced(effect.sha256, effect.size))
        elif written.state != "partial":
            self._post(ev.ObjectStored(effect.sha256, effect.size, written.error))

    async def _synced(self, sha256: bytes, size: int) -> None:
        """A large object is synced off the loop before it is there: a record that names it must not wait for that."""
        error = ""
        try:
            await asyncio.to_thread(self.objects.sync, [sha256])
        except (CapacityError, OSError) as failed:
            error = str(failed)
            self.objects.drop(sha256)
        self._post(ev.ObjectStored(sha256, size, error))

    def _send_chunk(self, effect: ef.SendChunk) -> None:
        size = self.objects.size(effect.sha256)
        data = self.objects.read_chunk(effect.sha256, effect.offset, effect.length) if size is not None else None
        message: Message = Missing(effect.sha256)
        if size is not None and data is not None:
            message = Chunk(effect.sha256, size, effect.offset, data)
        if effect.relayed:
            self._post(ev.ChunkRead(effect.dst, message))
        else:
            self.send(effect.dst, message)

    def _fetch_bulk(self, effect: ef.FetchBulk) -> None:
        """From the host of the peer's address, with the key of the control channel."""
        place = self.network.place(effect.peer)
        try:
            host, _ = parse_address(place[0] if place is not None else "")
        except UsageError:  # not known, or it says no address of itself
            host = ""
        if self.bulk is None or place is None or not host:
            self._post(ev.BulkEnded(effect.sha256, effect.peer, 0, 0.0, "unreachable"))
            return
        if effect.durable:
            self._durable.add(effect.sha256)
        self.bulk.take(Wanted(effect.sha256, effect.size, effect.peer, format_address(host, effect.port), place[1]))

    def _drop_bulk(self, effect: ef.DropBulk) -> None:
        self._durable.discard(effect.sha256)
        if self.bulk is not None:
            self.bulk.drop(effect.sha256)

    def _tell_bulk(self, effect: ef.TellBulk) -> None:
        self.send(effect.dst, BulkAt(self.bulk.port if self.bulk is not None else 0))

    def on_bulk(self, event: ev.Event) -> None:
        """What the bulk channel tells: a large object that must last is synced before it is here."""
        if isinstance(event, ev.ObjectStored) and event.sha256 in self._durable:
            self._durable.discard(event.sha256)
            if not event.error and event.size > SYNC_APART_BYTES:
                self._work(self._synced(event.sha256, event.size))
                return
        self._post(event)

    def _clear_up(self) -> None:
        """Bundles whose archives are not here any more, and what was left of some that were being removed."""
        for folder in self.bundles.iterdir():
            if not (is_digest(folder.name) and self.objects.has(bytes.fromhex(folder.name))):
                shutil.rmtree(folder, ignore_errors=True)

    def _drop_object(self, effect: ef.DropObject) -> None:
        """A bundle goes with the folder that it was unpacked to."""
        self.objects.drop(effect.sha256)
        name = effect.sha256.hex()
        if self._apps.pop(effect.sha256, None) is not None and (self.bundles / name).exists():
            gone = (self.bundles / name).rename(self.bundles / f".{name}.{time.monotonic_ns()}")
            self._work(asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True))

    def _open_bundle(self, effect: ef.OpenBundle) -> None:
        async def opened() -> None:
            into = self.bundles / effect.sha256.hex()
            try:
                await asyncio.to_thread(self.objects.sync, [effect.sha256])
                app = await asyncio.to_thread(open_bundle, self.objects.path(effect.sha256), into)
            except JupiterError as error:
                self._post(ev.BundleOpened(effect.sha256, None, error.message, error.hint))
                return
            self._apps[effect.sha256] = app
            self._post(ev.BundleOpened(effect.sha256, app))

        self._work(opened())

    # --- tasks ---------------------------------------------------------------------------------------------------

    def _start_task(self, effect: ef.StartTask) -> None:
        self.runner.start_task(effect)
        self.forwards.start(effect)

    def _stop_task(self, effect: ef.StopTask) -> None:
        self.runner.stop_task(effect)
        self.forwards.stop(effect)

    def _profile(self, effect: ef.ProfileApp) -> None:
        app = self._apps[effect.bundle]
        self.runner.profile(effect, [task for task in app.tasks if task.contract != SINK], app.samples)

    def _read_log(self, effect: ef.ReadLog) -> None:
        data, end = self.runner.read_log(effect.job, effect.task, effect.offset, effect.length)
        message = LogChunk(effect.seq, effect.offset, end, data)
        if effect.dst == self._me:
            self._post(ev.Received(self._me, message))
        else:
            self.send(effect.dst, message)

    def _solve(self, effect: ef.Solve) -> None:
        async def solved() -> None:
            self._post(await solve_off_loop(effect))

        self._work(solved())

    def _choose(self, effect: ef.ChooseNode) -> None:
        async def chosen() -> None:
            found = await self._foreign.ask({"choose": effect.view, "rule": effect.rule}, CHOOSE_S)
            node, error = str(found.get("value", "")), str(found.get("error", ""))
            self._post(ev.NodeChosen(effect.job, effect.task, node, error))

        self._work(chosen())

    def _note(self, effect: ef.Notice) -> None:
        fields = " ".join(f"{key}={value}" for key, value in effect.fields.items())
        log.log(LEVELS.get(effect.level, logging.INFO), "%s %s", effect.event, fields)

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)


_ACTIONS: dict[type[ef.Effect], Callable[[Performer, Any], None]] = {
    ef.Send: Performer._send,
    ef.Learn: lambda p, e: p.network.learn(e.peer, e.address, e.curve_key),
    ef.AdmitClient: lambda p, e: p.network.admit_client(e.curve_key, e.role, e.for_s),
    ef.Forget: lambda p, e: p.network.forget(e.peer),
    ef.Ban: lambda p, e: p.network.ban(e.peer, e.for_s),
    ef.Connect: lambda p, e: p.network.connect(e.peer),
    ef.Disconnect: lambda p, e: p.network.disconnect(e.peer),
    ef.TestPort: lambda p, e: p.network.test_port(e.peer, e.address),
    ef.SendJoin: Performer._send_join,
    ef.WriteChunk: Performer._write_chunk,
    ef.SendChunk: Performer._send_chunk,
    ef.FetchBulk: Performer._fetch_bulk,
    ef.DropBulk: Performer._drop_bulk,
    ef.TellBulk: Performer._tell_bulk,
    ef.DropObject: Performer._drop_object,
    ef.OpenBundle: Performer._open_bundle,
    ef.StartTask: Performer._start_task,
    ef.StartRun: lambda p, e: p.runner.start_run(e),
    ef.Deliver: lambda p, e: p.runner.deliver(e),
    ef.StopTask: Performer._stop_task,
    ef.HoldTask: lambda p, e: p.runner.hold(e),
    ef.ProfileApp: Performer._profile,
    ef.ReadLog: Performer._read_log,
    ef.Solve: Performer._solve,
    ef.ChooseNode: Performer._choose,
    ef.Notice: Performer._note,
}
