"""The composition root: builds an agent's parts, wires them, starts them, drains and closes them.

Start: lock the state folder, load keys, bind, restore, drive. Stop (SIGTERM, SIGINT): the machine drains and leaves,
says `Halt`, and everything is closed in the opposite order. Nothing else in the package builds adapters.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from jupiter_agent import __version__
from jupiter_agent.adapters import network_profilers, transports
from jupiter_agent.adapters.discovery import Discovery
from jupiter_agent.adapters.driver import Driver
from jupiter_agent.adapters.journal import Journal
from jupiter_agent.adapters.keyring import Keyring
from jupiter_agent.adapters.keys import NodeIdentity
from jupiter_agent.adapters.learned import LearnedLinks
from jupiter_agent.adapters.learned_runs import LearnedRuns
from jupiter_agent.adapters.mdns import Announced
from jupiter_agent.adapters.metrics import metrics_text
from jupiter_agent.adapters.performer import Performer
from jupiter_agent.adapters.ports import numeric
from jupiter_agent.adapters.remembered import Remembered
from jupiter_agent.adapters.resources import Guarded
from jupiter_agent.adapters.resources import find as find_profiler
from jupiter_agent.adapters.sandbox import BWRAP
from jupiter_agent.adapters.sandbox import find as find_sandbox
from jupiter_agent.adapters.sealing import NodeSealer
from jupiter_agent.adapters.sensors import Sensors, cpus
from jupiter_agent.adapters.speed import remembered as remembered_speed
from jupiter_agent.adapters.stamps import own_time_s
from jupiter_agent.adapters.zeromq import PROFILE_LIMITS, ZmqTransport
from jupiter_agent.config import Config, parse_reserve
from jupiter_agent.core.effects import Browse, Effect, ForgetProfiles, Halt, KeepProfiles, LookUp
from jupiter_agent.core.events import PortTested, Sampled, SessionDown, SessionUp, Stopping
from jupiter_agent.core.ledger import Issued
from jupiter_agent.core.membership import PROFILES, Joined, Membership, Recorded, Rekeyed
from jupiter_agent.core.messages.membership import Record
from jupiter_agent.core.peer import Peer, PeerSettings
from jupiter_agent.core.profiling.probing import PROBES, ProbeSettings
from jupiter_agent.core.trust import Trust
from jupiter_agent.errors import EXIT_OK, JupiterError
from jupiter_agent.whereabouts import advertised, host_node, joins, open_state, sources

JOURNAL_SCHEMA = 1
SAMPLE_S = 2.0
REMEMBER_S = 10.0
HEALTHY_S = 5.0

log = logging.getLogger("jupiter")


class Agent:
    """One agent in this process. Is the transport's sink. Build it inside a running loop; `run` until it has left."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._halted: asyncio.Future[Halt] = self._loop.create_future()
        self._state = open_state(config)
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            self._build()
        except BaseException:
            self._state.close()
            raise

    def _build(self) -> None:
        config, state = self._config, self._state
        self._profiler = find_profiler(config.resource_profiler)
        self._network_profiler = network_profilers.find(config.network_profiler)
        transport = transports.find(config.transport)
        token, addresses = joins(config)
        keys = state.node_keys()
        keyring = self._keyring = Keyring(state, token)
        identity, access = NodeIdentity(keys.seed), keyring.access()
        self._network = ZmqTransport(self, keys.curve, access, config.bind, PROFILE_LIMITS[config.profile])
        self.address = advertised(config, self._network.address)
        self._journal = Journal(state.path / "journal", JOURNAL_SCHEMA)
        sandbox = functools.partial(find_sandbox, config.isolation, state.path, config.expose)
        self._performer = Performer(identity.id, self._post, state.path, self._journal, self._on_effect, sandbox)
        self._performer.network = self._network
        host = config.bind.rpartition(":")[0].strip("[]")
        post = self._performer.on_bulk
        self._bulk = transport(keys.curve, self._performer.objects, post, self._network.admits, host)
        self._performer.bulk = self._bulk
        self._remembered = Remembered(state.path / "peers.json")
        record = Record(
            id=identity.id, name=config.name or "node", address=self.address, sign_key=identity.public,
            curve_key=keys.curve.public, role=keyring.role, boot=state.next_boot(), incarnation=0,
            version=__version__, admission=self._remembered.admission,
        )  # fmt: skip
        now = self._loop.time()
        self._started_at = time.time()
        rng = random.Random()
        trust = Trust(identity, keyring.authority, NodeSealer(keys.curve, self._performer.counters), keyring.ledger)
        seeds = [address for address in addresses if numeric(address)]
        membership = Membership(record, trust, PROFILES[config.profile], seeds, rng, now)
        for seed in token.seeds if token else keyring.seeds:
            membership.add_seed(seed, "token")
        for address in self._remembered.addresses:
            membership.add_seed(address, "remembered")
        for address in set(addresses) - set(seeds):
            membership.seeds.add_name(address)
        announced = Announced(identity.id, self.address, keyring.authority.keys.fingerprint.hex())
        self._discovery = Discovery(
            sources(config, os.environ), announced, access, lambda: self.machine.boot, self._post
        )
        if self._discovery.listens:
            membership.seeds.listen()
        settings = PeerSettings(
            slots=max(8, 4 * cpus()),
            wall_offset_s=self._started_at - now,
            drain_s=config.drain_s,
            probes=ProbeSettings() if self._network_profiler else PROBES[config.profile],
        )
        self.machine = Peer(membership, identity, rng, self.token, settings)
        self.machine.transfers.bulk = True
        self._learned = LearnedLinks(state.path / "profiles.db", self.machine.links_known, now)
        self._learned_runs = LearnedRuns(state.path / "profiles.db", self.machine.profiler.book)
        self._driver = Driver(self._loop, self.machine, self._performer.perform, self._on_crash)
        self._network.run_turns_inside(self._driver.serving)

    def token(self, role: str = "", expires_s: float = 0.0, uses: int = 0) -> Issued:
        """What a newcomer needs: the token this node has itself or, with a role, a new one. Expires never with 0."""
        members = self.machine.membership.members()
        others = [members[node].record.address for node in self.machine.alive() if node in members]
        seeds = tuple(dict.fromkeys([self.address, *others]))[:4]
        return self._keyring.token(seeds, role, expires_s, uses)

    # --- running ---------------------------------------------------------------------------------------------------

    async def run(self) -> Halt:
        """Until the agent has left, or had to stop; with the error then."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        self._loop.add_signal_handler(signal.SIGUSR1, self._diagnose)
        if self._config.isolation == BWRAP:
            await self._performer.runner.sandbox()  # or there is no start
        self._write_file("token", self.token().text + "\n")
        promises = self._performer.promises
        promises.mend()
        effects = self.machine.restore(promises.replay(), self._performer.objects.sizes(), self._loop.time())
        promises.compact(self.machine.records(), self.machine.transfers.needs)
        self._performer.perform(effects + self.machine.membership.recall(self._remembered.records))
        self._spawn(self._sample())
        self._spawn(self._remember())
        self._spawn(self._calibrate())
        if self._network_profiler:
            profiler = self._network_profiler(str(self._state.path))
            self._spawn(network_profilers.measure(profiler, self.machine, self._post))
        if self._config.http:
            await self._serve_http()
        promises.on_crash, promises.on_full, promises.settle = self._on_crash, self._on_full, self._state.settle
        self._driver.start()
        await self._discovery.start()
        self._write_agent_file()
        for notice in self._state.notices:
            log.warning("%s", notice)
        log.info("agent %s (%s) listens on %s", self._config.name, self.machine.me, self.address)
        try:
            return await self._halted
        finally:
            await self._close()

    def _stop(self) -> None:
        if self._performer.promises.full:
            log.info("asked to stop: at once, as nothing can be written")
            self._on_effect(Halt())
            return
        log.info("asked to stop: draining")
        self._post(Stopping())

    async def _close(self) -> None:
        """In the opposite order of the start; what was sent last still leaves."""
        for task in self._tasks:
            task.cancel()
        self._driver.stop()
        await self._discovery.close()
        self._remembered.save(self.machine.membership)
        self._learned.close(self._loop.time())
        self._learned_runs.close(self._loop.time())
        self._performer.forwards.close()
        await self._performer.runner.close()
        await self._performer.promises.drain()
        await asyncio.sleep(0.1)
        self._bulk.close()
        self._network.close()
        self._performer.promises.close()
        self._journal.close()
        self._state.close()
        log.info("agent %s has left", self._config.name)

    async def _sample(self) -> None:
        """Read the sensors every `SAMPLE_S`; the speed index is measured once ever, off the loop."""
        speed = await asyncio.to_thread(remembered_speed, self._state.path / "speed.json")
        labels = dict(pair.split("=", 1) for pair in self._config.labels)
        sensors = Sensors(str(self._state.path), speed, parse_reserve(self._config.disk_reserve), labels)
        others = [Guarded(self._profiler(str(self._state.path)), log.warning)] if self._profiler else []
        host = host_node(self._config, os.environ)
        if host is not None:
            self._spawn(host.ask())
        isolation = await self._isolation()
        while True:
            now = self._loop.time()
            read = [sensors.read(now), *(other.read(now) for other in others), {"isolation": isolation}]
            values = {name: value for values in read for name, value in values.items()}
            values = host.over(values) if host is not None else values
            self._post(Sampled(values, time.time() - now))
            await asyncio.sleep(SAMPLE_S)

    async def _calibrate(self) -> None:
        """What this agent's own stack adds to a round trip."""
        self._performer.stamps.own_s = await asyncio.to_thread(own_time_s)

    async def _isolation(self) -> str:
        """What task processes run in; what is missing is said."""
        sandbox = await self._performer.runner.sandbox()
        if sandbox.is_closed:
            log.info("tasks run in %s", sandbox.kind)
        else:
            log.warning(
                "tasks run without a sandbox, and can read what this user can, this node's keys included: %s; %s",
                sandbox.missing, sandbox.hint,
            )  # fmt: skip
        return sandbox.kind

    async def _remember(self) -> None:
        while True:
            await asyncio.sleep(REMEMBER_S)
            self._performer.objects.expire()
            self._performer.runner.expire(time.time(), self.machine.profile(self.machine.me).full)
            await self._performer.promises.tidy(self.machine.records)
            self._remembered.save(self.machine.membership)
            self._state.catch_up()
            self._keyring.catch_up()
            await self._learned.save(self._loop.time())

    async def _serve_http(self) -> None:
        from jupiter_agent.adapters.http import serve

        config, checks = self._config, (self._healthy, self._unready, self._metrics)
        self._http = await serve(config.http, checks, config.http_token, config.open_health == "on")

    def _unready(self) -> str:
        return self.machine.jobs.handing.unready() if self.machine.membership.joined else "not joined"

    def _healthy(self) -> bool:
        """It moves, or waits for room on its disk, which a restart would not make."""
        return bool(self._performer.promises.full) or self._loop.time() - self._driver.last_turn < HEALTHY_S

    def _metrics(self) -> str:
        return metrics_text(self.machine, self._counters(), self._driver.backlog())

    def _counters(self) -> dict[str, int]:
        parts = (self._network.counters(), self._performer.counters, self._bulk.counters, self._discovery.counters())
        return {name: count for part in parts for name, count in part.items()}

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _post(self, event: Any) -> None:
        self._driver.post(event)

    # --- effects that are the composition's own ----------------------------------------------------------------------

    def _on_effect(self, effect: Effect) -> None:
        if isinstance(effect, Halt):
            self._driver.stop()
            if not self._halted.done():
                self._halted.set_result(effect)
        elif isinstance(effect, LookUp | Browse):
            self._discovery.perform(effect)
        elif isinstance(effect, KeepProfiles):
            self._spawn(self._learned_runs.keep(effect.rows))
        elif isinstance(effect, ForgetProfiles):
            self._spawn(self._learned_runs.forget(effect.bundle))
            if effect.bundle is None:
                self._learned.forget()
        elif isinstance(effect, Joined):
            self._state.set_boot(effect.boot)
            self._remembered.admission = effect.admission
            self._remembered.save(self.machine.membership)
            self._write_agent_file()
        elif isinstance(effect, Recorded):
            for key in self._keyring.record(effect.entry):
                self._network.expire_client(key)
        elif isinstance(effect, Rekeyed):
            self._network.rekey(self._keyring.access())
            self._discovery.rekey(self._keyring.access())
            self._write_file("token", self.token().text + "\n")

    def _on_full(self, why: str) -> None:
        """Stand still while the disk takes nothing."""
        self._driver.pause(bool(why))
        log.log(
            *((logging.ERROR, "%s; the agent waits for room", why) if why else (logging.INFO, "there is room again"))
        )

    def _on_crash(self, error: BaseException) -> None:
        """A broken invariant: leave a dump, and end rather than go on with a state nobody can trust."""
        dump = "".join(traceback.format_exception(error))
        log.critical("the agent stops: %s", dump)
        self._write_file("crash.txt", dump)
        if not self._halted.done():
            what = f"internal error: {type(error).__name__}: {error}"
            self._halted.set_result(Halt(what, f"report it with {self._state.path}/crash.txt"))

    def _diagnose(self) -> None:
        """SIGUSR1: write diagnostics.json, what is loaded and counted in this process."""
        content = {
            "modules": sorted({name.partition(".")[0] for name in sys.modules}),
            "counters": self._counters(),
            "membership": dict(self.machine.membership.counters),
            "backlog": self._driver.backlog(),
        }
        self._write_file("diagnostics.json", json.dumps(content, indent=1) + "\n")

    def _write_agent_file(self) -> None:
        content = {
            "pid": os.getpid(), "name": self._config.name, "id": self.machine.me, "address": self.address,
            "started_at": self._started_at, "boot": self.machine.boot,
        }  # fmt: skip
        self._write_file("agent.json", json.dumps(content) + "\n")

    def _write_file(self, name: str, text: str) -> None:
        """Replace a small file of the state folder, readable by its owner only; without room later."""
        self._state.keep(name, text)

    # --- Sink --------------------------------------------------------------------------------------------------------

    def on_frame(self, src: str, frame: bytes) -> None:
        self._performer.on_frame(src, frame)

    def on_join(self, src: str, frame: bytes) -> None:
        self._performer.on_join(src, frame)

    def on_up(self, peer: str) -> None:
        self._post(SessionUp(peer))

    def on_down(self, peer: str, reason: str) -> None:
        self._post(SessionDown(peer, reason))

    def on_port(self, peer: str, outcome: str) -> None:
        self._post(PortTested(peer, outcome))


def set_up_logging(level: str) -> None:
    """One line per record on stderr, with UTC time."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def profiled(main: Callable[[], Coroutine[Any, Any, Halt]], config: Config) -> Halt:
    """Run under cProfile; `profile.out` in the state folder is for pstats (JUPITER_CPROFILE=1)."""
    import cProfile

    profile = cProfile.Profile(time.thread_time)
    try:
        return profile.runcall(asyncio.run, main())
    finally:
        profile.dump_stats(config.state_dir / "profile.out")


def run_agent(config: Config) -> int:
    """Run an agent until it has left; the process's exit code. JupiterError when it cannot start, or must not go on."""
    import socket

    set_up_logging(config.log_level)
    if not config.name:
        config = replace(config, name=socket.gethostname().partition(".")[0])

    async def main() -> Halt:
        return await Agent(config).run()

    halt = profiled(main, config) if os.environ.get("JUPITER_CPROFILE") else asyncio.run(main())
    if halt.error:
        raise JupiterError(halt.error, halt.hint, halt.exit_code)
    return EXIT_OK
