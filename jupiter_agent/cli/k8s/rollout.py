"""How far a deployment is: looks at the cluster go in, lines for the user and a verdict come out. Reads no clock.

It is done when every node that is to run an agent has one that the others see. Not waited for are nodes on which none
is to be expected: simulated ones, those that are not ready, and those whose pod is said to be ready while nobody
answers in it. It has failed when every pod that is missing has been stuck, for a reason that does not mend itself, for
`STUCK_S`; a pod that is merely not scheduled may still be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jupiter_agent.cli.k8s.pods import HINTS, Pod

STUCK_S = 10.0
SILENT_S = 6.0
"""So long a pod is ready and no member before it is asked itself"""
NO_NODES_S = 5.0
SLOW_S = 8.0
"""After so long it is said what each pod is at"""
FATAL = frozenset(HINTS) - {"Unschedulable"}
GOING, DONE, FAILED = "going", "done", "failed"


@dataclass(frozen=True)
class Look:
    """What was seen at one time."""

    desired: int | None
    """nodes that are to run an agent, or have one left over; None while the controller has not counted them"""
    updated: frozenset[str]
    """uids of the pods of the newest kind"""
    pods: list[Pod]
    members: frozenset[str] | None
    """hosts of the agents that are alive, as one of them says; None while nobody could be asked"""
    no_agent: Mapping[str, str] = field(default_factory=dict)
    """node -> why none is to be expected there"""
    refused: str = ""
    """why no pods are made"""


class Rollout:
    """One deployment. `say` gets its lines."""

    def __init__(self, began: float, say: Callable[[str], None]) -> None:
        self.joined: dict[str, float] = {}
        """node -> seconds after the begin"""
        self.silent: dict[str, str] = {}
        """node -> why it is not waited for, found out by asking its pod"""
        self.missing: dict[str, tuple[str, str]] = {}
        """node -> (why, hint), as of the last look"""
        self.skipped: dict[str, str] = {}
        """node -> why it is not waited for, as of the last look"""
        self.update = ""
        """how far the pods are replaced by new ones, while they are"""
        self._began, self._say = began, say
        self._stuck_since: dict[str, float] = {}
        self._ready_since: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._answered: set[str] = set()

    def look(self, seen: Look, now: float) -> str:
        """GOING, DONE or FAILED."""
        pods = [pod for pod in seen.pods if pod.phase != "leaving"]
        skipped = self.skipped = {**seen.no_agent, **self.silent}
        for pod in pods:
            self._note(pod, seen.members or frozenset(), now)
        here = {pod.node for pod in pods if seen.members is not None and pod.ip in seen.members}
        wanted = [pod for pod in pods if pod.node not in here and pod.node not in skipped]
        self.missing = {pod.node or pod.name: _why(pod) for pod in wanted}
        for node, why in skipped.items():
            if node not in here and any(pod.node == node for pod in pods):
                self._tell(node, f"no agent is waited for: {why}")
        if seen.desired is None:
            return GOING
        if self._is_refused(seen, pods, now) or (wanted and all(self._is_stuck(pod, now) for pod in wanted)):
            return FAILED
        needed = seen.desired - len({pod.node for pod in seen.pods} & skipped.keys())  # others are not in `desired`
        there = {pod.node for pod in pods} - skipped.keys()
        updated = {pod.node for pod in pods if pod.uid in seen.updated} - skipped.keys()
        complete = len(updated) >= needed
        if complete:
            self.update = ""
        elif len(there) >= needed:
            self.update = f"{len(updated)} of {needed} nodes have the new version"
            self._tell("update", self.update)
        return DONE if complete and here and not wanted else GOING

    def _is_refused(self, seen: Look, pods: list[Pod], now: float) -> bool:
        """No pod at all, and none to come."""
        if pods:
            self._stuck_since.pop("", None)
            return False
        if seen.desired == 0:
            self.missing = {"": ("no node takes the agents", HINTS["Unschedulable"])}
        elif seen.refused:
            self.missing = {"": (seen.refused, HINTS["FailedCreate"])}
        else:
            return False
        return now - self._stuck_since.setdefault("", now) >= NO_NODES_S

    def _is_stuck(self, pod: Pod, now: float) -> bool:
        since = self._stuck_since.get(pod.uid)
        return since is not None and now - since >= STUCK_S

    def _note(self, pod: Pod, members: frozenset[str], now: float) -> None:
        if pod.ip and pod.ip in members:
            if pod.node not in self.joined:
                self.joined[pod.node] = now - self._began
                self._tell(pod.node, f"joined after {self.joined[pod.node]:.1f} s")
        elif pod.is_stuck:
            self._tell(pod.node or pod.name, str(pod))
        elif now - self._began >= SLOW_S and pod.phase != "ready":
            self._tell(pod.node or pod.name, f"its pod is {pod.phase}")
        if pod.reason in FATAL and pod.ip not in members:
            self._stuck_since.setdefault(pod.uid, now)
        else:
            self._stuck_since.pop(pod.uid, None)
        if pod.phase == "ready" and pod.ip not in members:
            self._ready_since.setdefault(pod.uid, now)
        else:
            self._ready_since.pop(pod.uid, None)

    def _tell(self, node: str, line: str) -> None:
        if self._said.get(node) != line:
            self._said[node] = line
            self._say(f"{node}: {line}")

    # --- pods that are said to be ready, and are not seen ---

    def suspects(self, pods: list[Pod], now: float) -> list[Pod]:
        """Those to be asked themselves."""
        return [
            pod
            for pod in pods
            if pod.uid not in self._answered
            and pod.node not in self.silent
            and now - self._ready_since.get(pod.uid, now) >= SILENT_S
        ]

    def on_asked(self, pod: Pod, why_not: str) -> None:
        """`why_not`: why nobody answered, '' when somebody did."""
        if why_not:
            self.silent[pod.node] = f"its pod is said to be ready, but nobody answers in it ({why_not[:120]})"
        else:
            self._answered.add(pod.uid)


def _why(pod: Pod) -> tuple[str, str]:
    if pod.is_stuck:
        return str(pod), pod.hint
    if pod.runs:
        hint = f"`jupiter k8s logs {pod.node}` shows why: can its pod reach the others on ports 7421 and 7422?"
        return f"its agent runs and the others do not see it ({pod.phase})", hint
    return f"its pod is {pod.phase}", "`jupiter k8s status` shows it, `kubectl describe pod` tells more"
