"""`jupiter k8s up`: objects onto a cluster, and waiting until the agents are there."""

from __future__ import annotations

from jupiter_agent.cli.ctl.session import Clock
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.k8s.access import Object, RefusedError
from jupiter_agent.cli.k8s.members import Members
from jupiter_agent.cli.k8s.objects import CREATED, REMOVED, SAME, THERE, Objects, metadata, title
from jupiter_agent.cli.k8s.pods import NOT_READY, Pod, of_newest, state_folder
from jupiter_agent.cli.k8s.reaching import agent_pods, nodes_without
from jupiter_agent.cli.k8s.rollout import DONE, FAILED, Look, Rollout
from jupiter_agent.errors import EXIT_TIMEOUT, JupiterError
from jupiter_agent.k8s.manifests import DAEMONSET

POLL_S, POLL_EACH_S = 0.3, 0.01
"""Between looks; and more of it for each pod"""
NODES_S = 5.0
NAMESPACE_S = 120.0
"""How long a namespace of this name that is just going away is waited for"""

# --- objects ---------------------------------------------------------------------------------------------------------


def put(objects: Objects, wanted: list[Object]) -> dict[str, str]:
    """Make what is missing, change what differs, take rights back that are not wanted any more: title -> what was done.
    What is in a Secret stays. When it fails, what it made is removed."""
    done: dict[str, str] = {}
    before = objects.get("DaemonSet", DAEMONSET) or {}
    try:
        for each in wanted:
            done[title(each)] = objects.ensure(each, keep=each["kind"] == "Secret")
    except BaseException:
        if objects.made:
            say(f"removing again: {', '.join(title(each) for each in objects.made)}")
            _unmake(objects)
        raise
    titles = {title(each) for each in wanted}
    for each in objects.ours(["ClusterRoleBinding", "ClusterRole"]):  # of another overlay: rights do not outlive it
        if title(each) not in titles and objects.delete(each):
            done[title(each)] = REMOVED
    if (disk := _disk(before)) and not any(map(_disk, wanted)):
        say(f"the state of the agents that were there stays on their nodes' disks, with the cluster's keys: {disk}")
    return done


def _disk(found: Object) -> str:
    return state_folder((found.get("spec") or {}).get("template") or {})[1]


def _unmake(objects: Objects) -> None:
    for each in reversed(objects.made):
        try:
            objects.delete(each)
        except JupiterError as error:
            say(f"{title(each)} is left: {error.message}")


def await_namespace(objects: Objects, clock: Clock) -> None:
    """A namespace that is being deleted takes nothing: wait until it is gone. What is in it till then, a token too, is
    that of a deployment that ends."""
    until, said = clock.now() + NAMESPACE_S, False
    while True:
        try:
            found = objects.get("Namespace", objects.namespace)
        except RefusedError as error:
            if error.status == 403:
                return
            raise
        if not metadata(found or {}).get("deletionTimestamp"):
            return
        if clock.now() >= until:
            hint = f"`kubectl get namespace {objects.namespace} -o yaml` shows what holds it"
            raise JupiterError(f"the namespace {objects.namespace} is still being deleted", hint, EXIT_TIMEOUT)
        if not said:
            say(f"the namespace {objects.namespace} is still being deleted; waiting")
            said = True
        clock.sleep(POLL_S)


def summary(done: dict[str, str]) -> str:
    """In words, most telling first."""
    counts = {word: sum(each == word for each in done.values()) for word in (CREATED, "changed", SAME, REMOVED)}
    text = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return text + ("; the namespace was there before and is used" if THERE in done.values() else "")


# --- waiting for the agents ------------------------------------------------------------------------------------------


class Watcher:
    """Looks at one deployment until it is done."""

    def __init__(self, objects: Objects, members: Members, clock: Clock) -> None:
        self._objects, self._members, self._clock = objects, members, clock
        self._no_agent: dict[str, str] = {}
        self._nodes_at = 0.0
        self.pods: list[Pod] = []

    def wait(self, rollout: Rollout, timeout_s: float) -> None:
        """JupiterError with the nodes that lack an agent, why, and what to do."""
        until = self._clock.now() + timeout_s
        while True:
            now = self._clock.now()
            verdict = rollout.look(self._look(now), now)
            for pod in rollout.suspects(self.pods, now):
                if (why_not := self._members.ask(pod, now)) is not None:
                    rollout.on_asked(pod, why_not)
            if verdict == DONE:
                return
            if verdict == FAILED or now >= until:
                raise _incomplete(rollout, self._objects.namespace, 0.0 if verdict == FAILED else timeout_s)
            self._clock.sleep(POLL_S + POLL_EACH_S * len(self.pods))

    def _look(self, now: float) -> Look:
        found = self._objects.get("DaemonSet", DAEMONSET)
        if found is None:
            raise JupiterError("the DaemonSet was removed meanwhile", "`jupiter k8s up` makes it again")
        status = found.get("status") or {}
        counted = status.get("observedGeneration", 0) >= metadata(found).get("generation", 0) > 0
        desired = sum(int(status.get(key) or 0) for key in ("desiredNumberScheduled", "numberMisscheduled"))
        self.pods = agent_pods(self._objects)
        if now >= self._nodes_at:
            self._nodes_at = now + NODES_S
            self._no_agent = nodes_without(self._objects)
        expected = [pod for pod in self.pods if pod.node not in self._no_agent]
        return Look(
            desired=desired if counted else None,
            updated=of_newest(self.pods, found),
            pods=self.pods,
            members=self._members.poll(expected or self.pods, now),
            no_agent=self._no_agent,
            refused="" if self.pods else self._refusal(),
        )

    def _refusal(self) -> str:
        """Why the controller makes no pods: it says so in an event."""
        try:
            events = self._objects.listed("Event", fieldSelector=f"involvedObject.name={DAEMONSET}")
        except RefusedError:
            return ""
        failed = [each for each in events if each.get("reason") == "FailedCreate"]
        return str(failed[-1].get("message") or "") if failed else ""


def _incomplete(rollout: Rollout, namespace: str, timeout_s: float) -> JupiterError:
    lines = [f"{node}: {why}" if node else why for node, (why, _) in sorted(rollout.missing.items())]
    hints = list(dict.fromkeys(hint for _, hint in rollout.missing.values()))[:3]
    if not lines and rollout.update:
        hint = "it goes on by itself, one node in ten at a time; `up` again, or a longer --timeout, waits for it"
        if lost := sorted(node for node, why in rollout.skipped.items() if why.startswith(NOT_READY)):
            hint = (
                f"not ready, and counted among those that are just replaced: {', '.join(lost[:5])}; it may stand still "
                "until they are back or taken out: `kubectl delete node`"
            )
        return JupiterError(f"not done after {timeout_s:g} s (--timeout): {rollout.update}", hint, EXIT_TIMEOUT)
    if not lines:
        lines, hints = ["no agent could be asked who is there"], ["`jupiter k8s status` shows the pods"]
    late = f" after {timeout_s:g} s (--timeout)" if timeout_s else ""
    count = f"{len(rollout.joined)} agents have joined, {len(lines)} nodes lack one{late}:"
    hints.append(f"what was made is left to be looked at; `jupiter k8s down --namespace {namespace}` removes it")
    return JupiterError("\n".join([count, *lines]), "\n".join(hints), EXIT_TIMEOUT if timeout_s else None)
