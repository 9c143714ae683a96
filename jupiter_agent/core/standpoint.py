"""A node's view of the others, for its job machines: `Surroundings` from membership and what is published."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from jupiter_agent.core.estimate import SELF, Links
from jupiter_agent.core.job import Job
from jupiter_agent.core.membership import Membership
from jupiter_agent.core.profiling.exec_profiler import ExecProfiler
from jupiter_agent.core.published import Published
from jupiter_agent.core.rights import MAY_SUBMIT
from jupiter_agent.core.surroundings import Estimate, LinkEstimate, Profile
from jupiter_agent.core.trust import Identity

GONE = ("dead", "left")


class Standpoint:
    """Whoever inherits it sets these before they are asked for."""

    me: str
    rng: Random
    membership: Membership
    published: Published
    links_known: Links
    profiler: ExecProfiler
    _identity: Identity
    _wall_offset_s: float

    @property
    def boot(self) -> int:
        return self.membership.self_record.boot

    def alive(self) -> list[str]:
        return self.membership.alive()

    def is_gone(self, node: str) -> bool:
        member = self.membership.members().get(node)
        return member is not None and str(member.state) in GONE

    def may_be_home(self, node: str) -> bool:
        member = self.membership.members().get(node)
        return member is not None and member.record.role in MAY_SUBMIT

    def dead(self) -> list[str]:
        return [node for node, member in self.membership.members().items() if str(member.state) == "dead"]

    def knows(self, node: str) -> bool:
        return node in self.membership.members()

    def name(self, node: str) -> str:
        member = self.membership.members().get(node)
        return member.record.name if member else node

    def address(self, node: str) -> str:
        member = self.membership.members().get(node)
        return member.record.address if member else ""

    def find(self, name: str) -> str | None:
        members, here = self.membership.members(), self.alive()
        found = next((node for node in here if name in (node, members[node].record.name)), None)
        if found is not None or not name:
            return found
        return next((node for node in here if self.published.resources(node).get("k8s_host") == name), None)

    def boot_of(self, node: str) -> int:
        member = self.membership.members().get(node)
        return member.record.boot if member else 0

    def profile(self, node: str) -> Profile:
        profile, member = self.published.profile(node), self.membership.members().get(node)
        runs_nothing = member is not None and member.record.role == "observer"
        return replace(profile, draining=True) if runs_nothing else profile

    def links(self, node: str) -> dict[str, tuple[float, float]]:
        return self.published.links(node)

    def link(self, peer: str) -> LinkEstimate:
        return SELF if peer == self.me else self.links_known.estimate(peer)

    def link_from(self, peer: str) -> LinkEstimate:
        return SELF if peer == self.me else self.links_known.inward(peer)

    def task_time(self, job: Job, task: str, node: str, loaded: bool = True) -> Estimate:
        return self.profiler.time_of(job, task, node, loaded)

    def sign(self, data: bytes) -> bytes:
        return self._identity.sign(data)

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        member = self.membership.members().get(node)
        if member is None or member.record.role not in MAY_SUBMIT:
            return False
        return self._identity.verify(member.record.sign_key, data, signature)

    def wall(self, now: float) -> float:
        return now + self._wall_offset_s
