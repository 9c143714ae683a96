"""When a deployment is done, and when it never will be: looks at a cluster, with literal times."""

from __future__ import annotations

import pytest

from jupiter_agent.cli.k8s.deploy import Watcher, _incomplete
from jupiter_agent.cli.k8s.pods import NOT_READY, SIMULATED, TEMPLATE_GENERATION, Pod, has_no_agent, of_newest, to_pod
from jupiter_agent.cli.k8s.rollout import DONE, FAILED, GOING, NO_NODES_S, SILENT_S, STUCK_S, Look, Rollout


def pod(node: str, phase: str = "ready", reason: str = "", uid: str = "") -> Pod:
    number = node.removeprefix("n").removeprefix("s")
    return Pod(f"jupiter-agent-{node}", uid or f"u-{node}", node, f"10.0.0.{number}", phase, reason)


def look(*pods: Pod, members: str | None = "", desired: int | None = None, updated: int | None = None, **more) -> Look:
    """`members`: numbers of the nodes whose agents are alive; None: nobody could be asked. `updated`: so many of the
    pods, from the first on, are of the newest kind."""
    hosts = None if members is None else frozenset(f"10.0.0.{number}" for number in members)
    count = len(pods) if desired is None else desired
    return Look(count, frozenset(each.uid for each in pods[:updated]), list(pods), hosts, **more)


def rollout() -> tuple[Rollout, list[str]]:
    said: list[str] = []
    return Rollout(100.0, said.append), said


def test_it_is_done_when_every_nodes_agent_is_seen_and_each_is_said_once():
    it, said = rollout()
    one, two = pod("n1"), pod("n2", "running")
    assert it.look(look(one, two, members=None), 101.0) == GOING
    assert it.look(look(one, two, members="1"), 102.0) == GOING
    assert it.look(look(one, two, members="12"), 103.5) == DONE
    assert it.look(look(one, two, members="12"), 104.0) == DONE
    assert said == ["n1: joined after 2.0 s", "n2: joined after 3.5 s"]


@pytest.mark.parametrize(
    "seen",
    [
        look(pod("n1"), members="1", desired=2),  # the controller has not made the other pod yet
        look(pod("n1"), members="1", updated=0),  # still the old image
        Look(None, frozenset(), [pod("n1")], frozenset({"10.0.0.1"})),  # it has not even counted
    ],
)
def test_pods_that_are_to_come_are_waited_for(seen):
    assert rollout()[0].look(seen, 101.0) == GOING


def test_what_a_slow_pod_is_at_is_said_when_it_changes():
    it, said = rollout()
    for when, phase in ((101.0, "pending"), (109.0, "starting"), (120.0, "starting"), (130.0, "running")):
        it.look(look(pod("n1", phase)), when)
    assert said == ["n1: its pod is starting", "n1: its pod is running"]


def test_how_far_pods_are_replaced_by_new_ones_is_said():
    it, said = rollout()
    pods = [pod("n1"), pod("n2")]
    assert it.look(look(*pods, members="12", updated=1), 102.0) == GOING
    assert it.update == "1 of 2 nodes have the new version"
    assert said[-1] == "update: 1 of 2 nodes have the new version"
    assert it.look(look(*pods, members="12", updated=2), 130.0) == DONE
    assert it.update == ""


@pytest.mark.parametrize(
    ("no_agent", "hint"),
    [
        ({}, "it goes on by itself"),
        ({"s1": SIMULATED}, "it goes on by itself"),
        ({"n2": f"{NOT_READY}: nothing is heard"}, "not ready, and counted among those that are just replaced: n2;"),
    ],
)
def test_a_roll_out_that_a_lost_node_may_hold_up_says_so(no_agent, hint):
    it, _ = rollout()
    it.look(look(pod("n1"), pod("n2"), pod("n3"), members="123", updated=0, no_agent=no_agent), 102.0)
    assert it.update
    assert str(_incomplete(it, "jupiter", 5.0).hint).startswith(hint)


def test_a_pod_that_is_leaving_counts_for_nothing():
    it, _ = rollout()
    assert it.look(look(pod("n1", "leaving", uid="old"), pod("n1"), members="1", desired=1), 101.0) == DONE


def test_nodes_on_which_nothing_is_to_be_expected_are_said_and_not_waited_for():
    it, said = rollout()
    seen = look(pod("n1"), pod("s2"), pod("s3", "pending"), members="1", no_agent={"s2": "simulated", "s3": "lost"})
    assert it.look(seen, 101.0) == DONE
    assert said == [
        "n1: joined after 1.0 s", "s2: no agent is waited for: simulated", "s3: no agent is waited for: lost",
    ]  # fmt: skip


REAL = [pod(f"n{number}") for number in (1, 2, 3)]
FAKES = [pod(f"s{number}") for number in range(10, 60)]
SIMULATED = {each.node: "simulated" for each in FAKES}


@pytest.mark.parametrize(
    ("pods", "desired", "updated"),
    [
        (REAL, 3, 0),  # the simulated nodes are tainted: the DaemonSet does not count them
        (REAL, 3, 2),
        (REAL[:1], 3, 1),  # two pods are not made yet
        (FAKES + REAL, 53, 3),  # the new ones are all on simulated nodes
        (FAKES + REAL, 53, 52),
        (REAL + FAKES[:30], 53, 33),  # some are not made yet: maybe of another real node
    ],
)
def test_beside_simulated_nodes_the_new_version_is_waited_for_on_each_real_one(pods, desired, updated):
    seen = look(*pods, members="123", desired=desired, updated=updated, no_agent=SIMULATED)
    assert rollout()[0].look(seen, 101.0) == GOING


@pytest.mark.parametrize(("pods", "desired"), [(REAL, 3), (REAL + FAKES, 53)])
def test_simulated_nodes_need_no_new_version(pods, desired):
    it, _ = rollout()
    assert it.look(look(*pods, members="123", desired=desired, updated=2, no_agent=SIMULATED), 101.0) == GOING
    assert it.update == "2 of 3 nodes have the new version"
    assert it.look(look(*pods, members="123", desired=desired, updated=3, no_agent=SIMULATED), 102.0) == DONE
    assert it.update == ""


def test_a_pod_that_cannot_leave_a_lost_node_is_not_waited_for():
    seen = look(*REAL, pod("s4", "leaving"), members="123", desired=4, updated=3, no_agent={"s4": "lost"})
    assert rollout()[0].look(seen, 101.0) == DONE


def test_it_is_never_done_without_a_single_agent():
    it, _ = rollout()
    assert it.look(look(pod("s1"), members="", no_agent={"s1": "simulated"}), 101.0) == GOING


def test_a_pod_that_is_said_to_be_ready_and_never_seen_is_asked_itself():
    it, said = rollout()
    pods = [pod("n1"), pod("n2"), pod("n3", "running")]
    it.look(look(*pods, members="1"), 101.0)
    assert it.suspects(pods, 101.0 + SILENT_S - 0.1) == []
    assert it.suspects(pods, 101.0 + SILENT_S) == [pods[1]]
    it.on_asked(pods[1], "nobody listens there")
    assert it.suspects(pods, 120.0) == []
    assert it.look(look(*pods[:2], members="1"), 121.0) == DONE
    assert "nobody answers in it (nobody listens there)" in said[-1]


def test_an_agent_that_answers_and_is_seen_by_nobody_is_waited_for_and_named():
    it, _ = rollout()
    pods = [pod("n1"), pod("n2")]
    it.look(look(*pods, members="1"), 101.0)
    it.on_asked(pods[1], "")
    assert it.suspects(pods, 150.0) == []
    assert it.look(look(*pods, members="1"), 150.0) == GOING
    assert "the others do not see it" in it.missing["n2"][0]


def test_pods_that_are_stuck_for_good_end_the_wait_when_nobody_else_is_missing():
    it, said = rollout()
    stuck = pod("n2", "starting", "ErrImageNeverPull")
    assert it.look(look(pod("n1"), stuck, members=None), 101.0) == GOING
    assert it.look(look(pod("n1"), stuck, members="1"), 101.0 + STUCK_S - 0.1) == GOING
    assert it.look(look(pod("n1"), stuck, members="1"), 101.0 + STUCK_S) == FAILED
    assert said[0] == "n2: ErrImageNeverPull"
    why, hint = it.missing["n2"]
    assert why == "ErrImageNeverPull"
    assert "--pull-policy Never" in hint


def test_while_another_may_still_come_nobody_gives_up():
    it, _ = rollout()
    pods = [pod("n1", "starting", "ImagePullBackOff"), pod("n2", "starting")]
    it.look(look(*pods), 101.0)
    assert it.look(look(*pods), 200.0) == GOING


def test_a_pod_that_gets_over_it_starts_anew():
    it, _ = rollout()
    it.look(look(pod("n1", "starting", "CrashLoopBackOff")), 101.0)
    it.look(look(pod("n1", "running")), 105.0)
    assert it.look(look(pod("n1", "starting", "CrashLoopBackOff")), 112.0) == GOING


def test_a_pod_that_has_no_room_is_waited_for_until_the_time_is_over():
    it, _ = rollout()
    it.look(look(pod("n1", "pending", "Unschedulable")), 101.0)
    assert it.look(look(pod("n1", "pending", "Unschedulable")), 900.0) == GOING
    assert "overlay `edge`" in it.missing["n1"][1]


def test_pods_that_nobody_may_make_are_reported_with_the_reason():
    it, _ = rollout()
    why = 'pods is forbidden: violates PodSecurity "restricted:latest": hostNetwork=true'
    seen = look(desired=3, updated=0, refused=why)
    assert it.look(seen, 101.0) == GOING
    assert it.look(seen, 101.0 + NO_NODES_S) == FAILED
    assert it.missing[""][0] == why
    assert "--overlay restricted" in it.missing[""][1]


def test_a_cluster_where_no_node_takes_agents_is_reported():
    it, _ = rollout()
    it.look(look(desired=0), 101.0)
    assert it.look(look(desired=0), 101.0 + NO_NODES_S) == FAILED
    assert it.missing[""][0] == "no node takes the agents"


# --- which pods are of the newest version ---


def made(node: str, generation: int, revision: str = "", phase: str = "Running") -> Pod:
    labels = {"pod-template-generation": str(generation), "controller-revision-hash": revision}
    meta = {"name": node, "uid": node, "labels": labels}
    return to_pod({"metadata": meta, "spec": {"nodeName": node}, "status": {"phase": phase}})


def daemonset(template: int, updated: int = 0) -> dict:
    """Its own generation is a later one: it also counts what makes no new pods."""
    meta = {"generation": 9, "annotations": {TEMPLATE_GENERATION: str(template)}}
    return {"metadata": meta, "status": {"updatedNumberScheduled": updated}}


@pytest.mark.parametrize(
    ("pods", "template", "updated", "newest"),
    [
        ([made("n1", 1, "a"), made("n2", 1, "a")], 2, 0, ""),
        ([made("n1", 1, "a"), made("n2", 2, "b")], 2, 1, "n2"),
        ([made("n1", 1), made("n2", 2)], 2, 1, "n2"),  # without hashes
        ([made("n1", 1, "a"), made("n2", 2, "b"), made("n3", 3, "a")], 3, 2, "n1 n3"),  # back to what was before
        ([made("n1", 1, "a"), made("n2", 1, "a")], 3, 2, "n1 n2"),  # and no pod had been replaced
    ],
)
def test_pods_of_the_newest_version_are_known_by_their_labels(pods, template, updated, newest):
    assert of_newest(pods, daemonset(template, updated)) == frozenset(newest.split())


def test_without_the_annotation_the_generation_is_the_daemonsets_own():
    found = {"metadata": {"generation": 2}, "status": {"updatedNumberScheduled": 1}}
    assert of_newest([made("n1", 1), made("n2", 2)], found) == {"n2"}


class Cluster:
    """What a Watcher asks: three nodes, one later than the others, and a lost one that had a pod before its taint."""

    def __init__(self) -> None:
        self.time, self.namespace = 0.0, "jupiter"

    @property
    def nodes(self) -> list[str]:
        return ["n1", "n2", "n3"][: 2 + (self.time > 1.0)]

    def get(self, _kind: str, _name: str) -> dict:
        status = {"observedGeneration": 1, "desiredNumberScheduled": 3, "numberMisscheduled": 1}
        return {"metadata": {"generation": 1}, "status": status}

    def listed(self, kind: str, **_query: str) -> list[dict]:
        if kind == "Node":
            ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            return [{"metadata": {"name": "lost"}}, *({"metadata": {"name": name}, **ready} for name in self.nodes)]
        labels = {"pod-template-generation": "1"}
        return [
            {"metadata": {"name": name, "uid": name, "labels": labels}, "spec": {"nodeName": name},
             "status": {"phase": "Running", "podIP": name}}
            for name in (*self.nodes, "lost")
        ]  # fmt: skip

    def poll(self, pods: list[Pod], _now: float) -> frozenset[str]:
        return frozenset(each.ip for each in pods)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_a_pod_left_over_on_a_lost_node_does_not_stand_for_one_that_is_to_come():
    cluster, it = Cluster(), rollout()[0]
    Watcher(cluster, cluster, cluster).wait(it, 60.0)  # type: ignore[arg-type]
    assert set(it.joined) == {"n1", "n2", "n3"}


# --- what a pod's status says ---


def status(phase: str, *states: dict, conditions: dict | None = None, **more) -> dict:
    known = {"PodScheduled": "True", **(conditions or {})}
    return {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": phase,
            "conditions": [{"type": kind, "status": word} for kind, word in known.items()],
            "containerStatuses": [{"name": "agent", **state} for state in states],
            **more,
        },
    }


@pytest.mark.parametrize(
    ("found", "phase", "reason"),
    [
        (status("Pending"), "starting", ""),
        (status("Pending", {"state": {"waiting": {"reason": "ContainerCreating"}}}), "starting", ""),
        (status("Pending", {"state": {"waiting": {"reason": "ErrImagePull"}}}), "starting", "ErrImagePull"),
        (status("Running", {"state": {"running": {}}}), "running", ""),
        (status("Running", {"state": {"running": {}}}, conditions={"Ready": "True"}), "ready", ""),
        (status("Failed", reason="Evicted", message="disk"), "failed", "Evicted"),
        (
            status("Running", {"state": {"waiting": {"reason": "CrashLoopBackOff"}},
                               "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
            "starting", "OOMKilled",
        ),
    ],
)  # fmt: skip
def test_the_phase_and_the_reason_are_read_from_the_status(found, phase, reason):
    seen = to_pod(found)
    assert (seen.phase, seen.reason, seen.is_stuck) == (phase, reason, bool(reason))


def test_a_pod_without_a_node_is_known_by_the_node_it_waits_for():
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n7"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    found = {"metadata": {}, "spec": {"affinity": affinity}, "status": {"phase": "Pending", "conditions": [condition]}}
    seen = to_pod(found)
    assert (seen.node, seen.phase, seen.reason, seen.detail) == ("n7", "pending", "Unschedulable", "0/3 nodes")


def test_a_pod_with_an_empty_status_is_pending():
    assert to_pod({"metadata": {"name": "p"}}).phase == "pending"


def test_an_ended_container_says_how_it_ended():
    state = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
             "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}}  # fmt: skip
    seen = to_pod(status("Running", state))
    assert str(seen) == "CrashLoopBackOff: it ended with 2 (Error); back-off 10s"
    assert "logs n1 --previous" in seen.hint


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ({"metadata": {"annotations": {"kwok.x-k8s.io/node": "fake"}}}, "the node is simulated"),
        ({"metadata": {"labels": {"type": "kwok"}}}, "the node is simulated"),
        (
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting"}]}},
            "the node is not ready: Kubelet stopped posting",
        ),
        ({}, "the node is not ready: nothing is heard of it"),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, ""),
    ],
)
def test_a_node_says_whether_an_agent_can_be_expected_there(node, why):
    assert has_no_agent(node) == why
