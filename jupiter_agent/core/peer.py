"""The whole agent as one machine: membership, jobs, submissions and control behind one event loop's worth of methods.

Owns nothing but the composition: it routes events by type, feeds effects that are for this node back into itself, turns
what membership says of others into what the job machines need, and publishes this node's profile. It is the same object
over real sockets and in virtual time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from math import inf
from random import Random
from typing import Any

from msgspec import Struct

from jupiter_agent.core import events as ev
from jupiter_agent.core.announcing import CROWD, PUBLISH_S, Announcer
from jupiter_agent.core.control import Control
from jupiter_agent.core.effects import Effect, Halt, Notice, Send
from jupiter_agent.core.estimate import Links
from jupiter_agent.core.jobs import Jobs
from jupiter_agent.core.ledger import Issued
from jupiter_agent.core.local import slowest
from jupiter_agent.core.membership import Delivered, MemberChanged, Membership, ProfileChanged
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages import jobs as jm
from jupiter_agent.core.messages.bulk import BulkAt, BulkWanted
from jupiter_agent.core.messages.control import Answer, BlobWrite, Call, LogChunk
from jupiter_agent.core.messages.links import LinkEcho, LinkProbe, LinksWanted
from jupiter_agent.core.messages.links import Links as LinksMessage
from jupiter_agent.core.messages.profiling import Profiles, ProfilesWanted, SampleDone, SampleWanted
from jupiter_agent.core.nodes import Nodes
from jupiter_agent.core.profiling.exec_profiler import ExecProfiler
from jupiter_agent.core.profiling.matrix import sane
from jupiter_agent.core.profiling.probing import ProbeSettings, Probing
from jupiter_agent.core.published import Published
from jupiter_agent.core.rights import forbidden
from jupiter_agent.core.runqueue import RunQueue
from jupiter_agent.core.standpoint import Standpoint
from jupiter_agent.core.submission import Submissions
from jupiter_agent.core.task_events import TASK_EVENTS
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.core.trust import Identity
from jupiter_agent.errors import PeerError

DRAIN_S = 5.0
GONE = ("dead", "left")


class PeerSettings(Struct, frozen=True):
    """`slots`: attempts at once on this node. `wall_offset_s`: wall minus loop clock, at first."""

    slots: int = 8
    wall_offset_s: float = 0.0
    drain_s: float = DRAIN_S
    probes: ProbeSettings = ProbeSettings()


class Peer(Standpoint):
    """One node's machine; with its view of the others (core/standpoint.py) for the parts it is made of."""

    def __init__(
        self,
        membership: Membership,
        identity: Identity,
        rng: Random,
        token: Callable[..., Issued],
        settings: PeerSettings | None = None,
    ) -> None:
        settings = settings or PeerSettings()
        self.me = membership.self_record.id
        self.rng = rng
        self.membership = membership
        self.transfers = Transfers(self.me)
        self.transfers.relayed = membership.relayed_bps
        self.queue = RunQueue(settings.slots)
        self.jobs = Jobs(self, self.queue, self.transfers)
        self.links_known = Links(self.me)
        self.probing = Probing(self.me, self.links_known, self._near, self._is_direct, settings.probes)
        membership.watch_probes(self._on_probed)
        self.profiler = ExecProfiler(self, self.jobs)
        self.jobs.on_runs = self.profiler.ran
        self.submissions = Submissions(self, self.jobs, self.links_known, self.profiler)
        self.jobs.succession.on_promoted = self.submissions.resume
        self.published = Published(membership.board)
        self.links_known.nets = self.published.net
        nodes = Nodes(self.me, membership, self.links_known, self.published)
        self.control = Control(self, self.jobs, self.submissions, nodes, token)
        self.control.drain, self.control.forget = self._drain, membership.forget
        self.control.profiler = self.profiler
        self.control.trust, self.control.decide = membership.trust, membership.decided
        self._machines = (self.transfers, self.jobs, self.profiler, self.submissions, self.control)
        self._calm_until = inf
        """when one of these will have something to do, unless they were told something since"""
        self._touched = True
        self.refused = 0
        """messages that broke a rule of a job machine"""
        self._identity = identity
        self._settings = settings
        self._wall_offset_s = settings.wall_offset_s
        self._announcer = Announcer(membership, self.links_known, self.queue.committed)
        self._announcer.slow = lambda: slowest(self.jobs.local.values())
        self._announcer.is_starved = self.probing.is_starved
        self._announcer.says_net = self.links_known.probed = settings.probes.bits_per_s > 0
        self._stop_by = inf
        self._stopping = False
        self._inbox: deque[ev.Event] = deque()

    # --- the machine ---------------------------------------------------------------------------------------------

    def on_event(self, event: ev.Event, now: float) -> list[Effect]:
        """Take one event in; what it sends to this very node is taken in as well."""
        effects = self._run([event], [], now)
        self._announcer.on_homed(self.jobs.homed, now)
        return effects

    def restore(self, records: Iterable[Any], stored: Mapping[bytes, int], now: float) -> list[Effect]:
        """Before the first event: what an earlier run of this agent left in its journal and in its object store."""
        self.transfers.sizes.update(stored)
        self.transfers.stored.update(stored)
        effects = self.jobs.succession.replay(self.profiler.log.without(records, self.wall(now)), now)
        self.submissions.resume(now)
        self.transfers.unclaimed(now)
        return self._run([], effects, now)

    def records(self) -> Iterable[Any]:
        """What the journal must hold for `restore` to bring this state back."""
        yield from (record for home in self.jobs.homes() for record in home.records())
        yield from self.jobs.succession.records()
        yield from self.profiler.records()

    def on_deadline(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        self._touched = self._touched or self._calm_until <= now
        for machine in (self.membership, *(self._machines if self._touched else ()), self.probing):
            if machine.next_deadline() <= now:
                effects += machine.on_deadline(now)
        if self._announcer.due <= now:
            self._publish(now)
        if self._stopping:
            effects += self._leave_when_idle(now)
        return self._run([], effects, now)

    def next_deadline(self) -> float:
        if self._touched:
            self._calm_until = min(machine.next_deadline() for machine in self._machines)
            self._touched = False
        network = min(self.membership.next_deadline(), self.probing.next_deadline())
        return min(self._announcer.due, self._stop_by, self._calm_until, network)

    def check(self) -> None:
        self.membership.check()
        self.transfers.check()
        self.jobs.check()

    def _run(self, events: list[ev.Event], effects: list[Effect], now: float) -> list[Effect]:
        """Handle events and route their effects until only the outside has something to do."""
        self._inbox.extend(events)
        out: list[Effect] = []
        self._route(effects, out, now)
        while self._inbox:
            event = self._inbox.popleft()
            handler, of_task = _EVENTS.get(type(event)), TASK_EVENTS.get(type(event))
            self._touched = self._touched or handler is not Peer._on_received
            if handler is not None:
                self._route(handler(self, event, now), out, now)
            elif of_task is not None:
                self._route(of_task(self.jobs, event, now), out, now)
            else:
                if isinstance(event, ev.SessionUp):
                    self.probing.soon(now)
                self._route(self.membership.on_event(event, now), out, now)
        return out

    def _route(self, effects: list[Effect], out: list[Effect], now: float) -> None:
        """Inner effects go to their machine, messages to this node into the inbox, the rest out."""
        for effect in effects:
            if isinstance(effect, Send) and effect.dst == self.me:
                self._inbox.append(ev.Received(self.me, effect.message))
            elif isinstance(effect, MemberChanged):
                self._route(self._on_member(now), out, now)
            elif isinstance(effect, ProfileChanged):
                continue
            elif isinstance(effect, Delivered):
                self._inbox.append(ev.Received(effect.src, effect.message))
            elif isinstance(effect, Send) and self.membership.is_shut(effect.dst):
                out += self.membership.relayed(effect.dst, effect.message, now)
            else:
                if isinstance(effect, Notice):
                    self._note(effect, now)
                out.append(effect)

    def _note(self, notice: Notice, now: float) -> None:
        if notice.level != "debug":
            row = {"time": self.wall(now), "level": notice.level, "event": notice.event, "node": self.name(self.me)}
            self.control.note({**notice.fields, **row})

    # --- events --------------------------------------------------------------------------------------------------

    def _on_received(self, event: ev.Received, now: float) -> list[Effect]:
        """Calls and uploads to control, job messages to the jobs, the rest to membership."""
        message = event.message
        handler = _MESSAGES.get(type(message))
        try:
            if (refused := forbidden(self.membership, event.src, message)) is not None:
                return refused
            if handler is not None:
                self._touched = True
                return handler(self, event.src, message, now)
            effects = self.jobs.on_message(event.src, message, now)
        except PeerError as error:
            self.refused += 1
            self._touched = True
            return [Notice("warning", "message refused", {"from": self.name(event.src), "error": error.message})]
        if effects is None:
            return self.membership.on_event(event, now)
        self._touched = True
        return effects

    def _on_chunk(self, src: str, message: jm.Chunk, now: float) -> list[Effect]:
        """Part of an object."""
        effects = self.transfers.on_chunk(src, message, now)
        return effects + self._after_fetch(now)

    def _on_bulk_ended(self, event: ev.BulkEnded, now: float) -> list[Effect]:
        effects = self.transfers.on_bulk_ended(event, now)
        return effects + self._after_fetch(now)

    def _after_fetch(self, now: float) -> list[Effect]:
        """Finished transfers are free measurements of the link; items whose objects can never come are given up."""
        samples, self.transfers.samples = self.transfers.samples, []
        for peer, size, seconds in samples:
            if self.links_known.on_transfer(peer, size, seconds, now, self.transfers.coming(peer)):
                self.probing.suspect(peer, now)
        if not self.transfers.refuting:
            return []
        self.transfers.refuting = False
        return self.jobs.on_stored(ev.ObjectStored(b"", 0, "refuted"), now)

    def _on_links_wanted(self, src: str, message: LinksWanted, now: float) -> list[Effect]:
        self.probing.want(message.among, now)
        return [Send(src, LinksMessage(message.seq, self.links_known.measured(), self.links_known.inbound()))]

    def _on_links(self, src: str, message: LinksMessage, now: float) -> list[Effect]:
        message, dropped = sane(message)
        self.published.senseless += dropped
        return self.submissions.on_links(src, message, now)

    def _on_link_probe(self, src: str, message: LinkProbe | LinkEcho, now: float) -> list[Effect]:
        if src not in self.membership.members():
            raise PeerError(f"{type(message).__name__}: from no member")
        if isinstance(message, LinkProbe):
            return self.probing.on_probe(src, message, now)
        return self.probing.on_echo(src, message, now)

    def _on_link_measured(self, event: ev.LinkMeasured, now: float) -> list[Effect]:
        if (peer := self.find(event.peer)) is not None and peer != self.me:
            if event.size:
                self.links_known.on_transfer(peer, event.size, event.seconds, now)
            else:
                self._on_probed(peer, event.seconds or None, now)
        return []

    def _on_probed(self, peer: str, rtt_s: float | None, now: float) -> None:
        """A ping of membership is a probe, too."""
        if rtt_s is None:
            self.links_known.on_lost(peer, now)
        elif self.links_known.on_rtt(peer, rtt_s, now):
            self.probing.suspect(peer, now)

    def _on_member(self, now: float) -> list[Effect]:
        self._touched = True
        self._announcer.soon(now + PUBLISH_S)
        return self.jobs.on_members(now) + self.control.on_members(now)

    def _on_stored(self, event: ev.ObjectStored, now: float) -> list[Effect]:
        effects = self.jobs.on_stored(event, now) + self.profiler.on_here()
        return effects + self.control.on_stored(event, now)

    def _on_bundle(self, event: ev.BundleOpened, now: float) -> list[Effect]:
        effects = self.jobs.on_bundle_opened(event, now) + self.profiler.on_here(event.error, event.sha256)
        effects += self.submissions.on_bundle_opened(event, now)
        return effects + self.control.after_submissions(now)

    def _on_profiled(self, event: ev.Profiled, now: float) -> list[Effect]:
        for_others = self.profiler.on_profiled(event, self.queue.load, now)
        if for_others is not None:
            return for_others
        return self.submissions.on_profiled(event, now) + self.control.after_submissions(now)

    def _on_profiling(self, src: str, message: Message, now: float) -> list[Effect]:
        """Profiles, and what a full execution profiling has to say."""
        effects = self.profiler.on_message(src, message, now) + self.submissions.go_on(now)
        return effects + self.control.after_submissions(now)

    def _on_solved(self, event: ev.Solved, now: float) -> list[Effect]:
        return self.submissions.on_solved(event, now) + self.control.after_submissions(now)

    def _on_sampled(self, event: ev.Sampled, now: float) -> list[Effect]:
        self._wall_offset_s = event.wall_offset_s
        was, full = bool(self._announcer.resources.get("full")), bool(event.values.get("full"))
        self._announcer.resources = event.values
        self.queue.load = self.published.queue_length(event.values)
        own = self.profile(self.me)
        self.profiler.book.on_machine(own.cpus, own.speed)
        self._publish(now)
        if was == full:
            return []
        free = {"used": event.values.get("disk_used")}
        return [Notice("error", "disk full: no tasks and no input are taken", free) if full else
                Notice("info", "disk has room again", free)]  # fmt: skip

    def _on_stopping(self, event: ev.Stopping, now: float) -> list[Effect]:
        """Take nothing new, let what runs end (for a while), then leave."""
        self._stopping = True
        self._give_up_at = now + self._settings.drain_s
        return [*self._drain(now), *self._leave_when_idle(now)]

    def _drain(self, now: float) -> list[Effect]:
        """Take no more tasks, and hand over those that are here."""
        self._announcer.draining = True
        self._publish(now)
        return self.jobs.evacuate(now)

    def _leave_when_idle(self, now: float) -> list[Effect]:
        if self.jobs.busy() and now < self._give_up_at:
            self._stop_by = now + 0.1
            return []
        self._stopping, self._stop_by = False, inf
        return [*self.membership.leave(now), Halt()]

    def _publish(self, now: float) -> None:
        self._announcer.say(self.jobs.homed, now)

    def _near(self) -> list[str]:
        """The peers there is a session with. In a crowd nobody: pings tell how far they are, and a hundred agents have
        better to do than to look closer before a mapping asks."""
        members = self.membership.members().items()
        if len(members) > CROWD:
            return []
        return [node for node, member in members if member.session and member.present and node != self.me]

    def _is_direct(self, peer: str) -> bool:
        member = self.membership.members().get(peer)
        return member is not None and member.present and not self.membership.is_shut(peer)


_EVENTS: dict[type[ev.Event], Callable[[Peer, Any, float], list[Effect]]] = {
    ev.Received: Peer._on_received,
    ev.ObjectStored: Peer._on_stored,
    ev.BundleOpened: Peer._on_bundle,
    ev.BulkEnded: Peer._on_bulk_ended,
    ev.ChunkRead: lambda peer, event, now: [Send(event.dst, event.message)],
    ev.Profiled: Peer._on_profiled,
    ev.Sampled: Peer._on_sampled,
    ev.Stopping: Peer._on_stopping,
    ev.LinkMeasured: Peer._on_link_measured,
    ev.Solved: Peer._on_solved,
}

_MESSAGES: dict[type[Message], Callable[[Peer, str, Any, float], list[Effect]]] = {
    Call: lambda peer, src, message, now: peer.control.on_call(src, message, now),
    Answer: lambda peer, src, message, now: peer.control.on_answer(src, message, now),
    BlobWrite: lambda peer, src, message, now: peer.control.uploads.on_blob(src, message, now),
    jm.ChunkRequest: lambda peer, src, message, now: peer.transfers.on_request(src, message, now),
    jm.Chunk: Peer._on_chunk,
    jm.Missing: lambda peer, src, message, now: peer.transfers.on_missing(src, message, now),
    BulkWanted: lambda peer, src, message, now: peer.transfers.on_bulk_wanted(src, message, now),
    BulkAt: lambda peer, src, message, now: peer.transfers.on_bulk_at(src, message, now),
    LogChunk: lambda peer, src, message, now: peer.control.on_log(src, message, now),
    LinksWanted: Peer._on_links_wanted,
    LinkProbe: Peer._on_link_probe,
    LinkEcho: Peer._on_link_probe,
    LinksMessage: Peer._on_links,
    ProfilesWanted: Peer._on_profiling,
    Profiles: Peer._on_profiling,
    SampleWanted: Peer._on_profiling,
    SampleDone: Peer._on_profiling,
}
