"""`jupiter k8s` and the objects of a cluster: what it makes, in which order, what it leaves alone, what it says."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jupiter_agent.adapters.keys import Token, decode_token, encode_token
from jupiter_agent.bench.kube.store import TYPES, Type
from jupiter_agent.k8s.manifests import ORDER

sys.path.insert(0, str(Path(__file__).parents[1]))
from k8s_standin import Make, Rig, rigs, validate


@pytest.fixture
def make(tmp_path: Path, monkeypatch: Any, capsys: Any) -> Iterator[Make]:
    """No real agents unless asked for: simulated nodes, whose pods do nothing."""
    yield from rigs(tmp_path, monkeypatch, capsys)


def foreign(kind: str, name: str, namespace: str = "jupiter") -> tuple[tuple[str, str, str], dict[str, Any]]:
    """Key and body of an object that somebody else made."""
    plural = {"ServiceAccount": "serviceaccounts", "ConfigMap": "configmaps", "Namespace": "namespaces"}[kind]
    place = "" if kind == "Namespace" else namespace
    return (plural, place, name), {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


def test_everything_passes_strict_validation_and_comes_after_what_it_needs(make):
    rig = make(simulated=2)
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert code == 0
    assert "10 created" in said
    made = [path for method, path in rig.cluster.server.requests if method == "POST"]
    plurals = [path.rsplit("/", 1)[1] for path in made]
    order = [kind.lower() for kind in ORDER]
    kinds = [next(kind for kind in order if plural.rstrip("es").startswith(kind.rstrip("cyes"))) for plural in plurals]
    assert kinds == sorted(kinds, key=order.index)
    assert all(rig.cluster.rights.asked[0].user == "somebody" for _ in made)


def test_a_second_up_changes_nothing_and_keeps_the_token(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    versions = {key: each["metadata"]["resourceVersion"] for key, each in _ours(rig)}
    token = rig.store.get("secrets", "jupiter", "jupiter-token")["data"]["token"]
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert code == 0
    assert "10 unchanged" in said
    assert "created" not in said
    after = {key: each["metadata"]["resourceVersion"] for key, each in _ours(rig)}
    changed = {key for key, version in versions.items() if after[key] != version}
    assert changed <= {("daemonsets", "jupiter-agent")}  # its status
    assert rig.store.get("secrets", "jupiter", "jupiter-token")["data"]["token"] == token


def _ours(rig: Rig) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    plurals = ("namespaces", "serviceaccounts", "roles", "rolebindings", "configmaps", "secrets", "services",
               "networkpolicies", "daemonsets")  # fmt: skip
    return [
        ((plural, each["metadata"]["name"]), each)
        for plural in plurals
        for each in rig.store.listed(plural)
        if (each["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == "jupiter"
    ]


def test_another_image_changes_the_daemonset_and_nothing_else(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    _, _, said = rig.run("k8s", "up", "--timeout", "0", "--image", "here/jupiter:2", "--pull-policy", "Never")
    assert "1 changed, 9 unchanged" in said
    container = rig.store.get("daemonsets", "jupiter", "jupiter-agent")["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("here/jupiter:2", "Never")


def test_down_leaves_nothing_behind_and_may_be_repeated(make):
    rig = make(simulated=3)
    rig.run("k8s", "up", "--timeout", "0")
    assert len(rig.cluster.left()) > 10
    code, _, said = rig.run("k8s", "down")
    assert code == 0
    assert "nothing is left of 10 objects" in said
    assert rig.cluster.left() == []
    code, _, said = rig.run("k8s", "down")
    assert (code, "there is nothing of jupiter's" in said) == (0, True)


def test_the_objects_of_the_whole_cluster_go_too_and_only_those_of_this_namespace(make):
    rig = make(simulated=1)
    for namespace in ("one", "two"):
        rig.run("k8s", "up", "--timeout", "0", "--overlay", "edge", "--namespace", namespace)
    assert len(rig.store.listed("clusterroles")) == 2
    rig.run("k8s", "down", "--namespace", "one")
    assert [each["metadata"]["name"] for each in rig.store.listed("clusterroles")] == ["two-agent-nodes"]
    rig.run("k8s", "down", "--namespace", "two")
    assert rig.cluster.left() == []


def test_a_namespace_whose_name_begins_like_ours_keeps_what_is_its_own(make):
    rig = make(simulated=1)
    for namespace in ("jupiter", "jupiter-agent-test"):
        rig.run("k8s", "up", "--timeout", "0", "--overlay", "edge", "--namespace", namespace)
    code, _, _ = rig.run("k8s", "down", "--namespace", "jupiter")
    assert code == 0
    for plural in ("clusterroles", "clusterrolebindings"):
        assert [each["metadata"]["name"] for each in rig.store.listed(plural)] == ["jupiter-agent-test-agent-nodes"]
    rig.run("k8s", "down", "--namespace", "jupiter-agent-test")
    assert rig.cluster.left() == []


DEPLOYMENTS, DISCOVERY = "/namespaces/jupiter/deployments", "/apis/discovery.k8s.io/v1"


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        (DEPLOYMENTS, 403, "Deployment"),
        (DEPLOYMENTS, 429, "Deployment"),
        (DEPLOYMENTS, 503, "Deployment"),
        (DISCOVERY, 403, DISCOVERY),
        (DISCOVERY, 503, DISCOVERY),
    ],
)
def test_a_namespace_of_which_not_all_can_be_listed_is_left(make, path, status, named):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    rig.cluster.server.fail("GET", path, status, "No", "not now", times=9)
    code, _, said = rig.run("k8s", "down")
    assert code == 1
    assert f"error: the namespace jupiter is left: not all in it can be listed: {named} (" in said
    assert "not now" in said
    assert rig.cluster.left() == [("namespaces", "jupiter")]


@pytest.mark.parametrize("path", [DEPLOYMENTS, DISCOVERY])
@pytest.mark.parametrize("status", [404, 405])
def test_a_kind_that_is_not_there_or_has_no_list_holds_no_namespace(make, path, status):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    rig.cluster.server.fail("GET", path, status, "No", "not now", times=9)
    rig.done("k8s", "down")
    assert rig.cluster.left() == []


def test_a_namespace_that_was_there_before_is_used_and_stays(make):
    rig = make(simulated=1)
    rig.store.create(*foreign("Namespace", "jupiter"))
    _, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert "9 created; the namespace was there before and is used" in said
    assert "labels" not in rig.store.get("namespaces", "", "jupiter")["metadata"]
    rig.run("k8s", "down")
    assert rig.cluster.left() == [("namespaces", "jupiter")]


def test_a_namespace_of_ours_that_holds_somebody_elses_things_stays_with_them(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    rig.store.create(*foreign("ConfigMap", "precious"))
    code, _, said = rig.run("k8s", "down")
    assert code == 1
    assert "9 objects are removed" in said
    assert "error: the namespace jupiter is left: it holds ConfigMap precious" in said
    assert "hint: what is not jupiter's stays; `kubectl delete namespace jupiter`" in said
    assert rig.cluster.left() == [("namespaces", "jupiter"), ("configmaps", "precious")]


def test_what_istio_and_openshift_put_into_every_namespace_holds_none(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    for kind, name in (
        ("ConfigMap", "istio-ca-root-cert"), ("ConfigMap", "openshift-service-ca.crt"), ("ServiceAccount", "builder"),
    ):  # fmt: skip
        rig.store.create(*foreign(kind, name))
    of_account = {"name": "default-dockercfg-x1", "annotations": {"kubernetes.io/service-account.name": "default"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockercfg", "metadata": of_account}
    rig.store.create(("secrets", "jupiter", "default-dockercfg-x1"), secret)
    rig.done("k8s", "down")
    assert rig.cluster.left() == []


def test_a_secret_that_somebody_made_holds_the_namespace(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockercfg", "metadata": {"name": "mine"}}
    rig.store.create(("secrets", "jupiter", "mine"), secret)
    code, _, said = rig.run("k8s", "down")
    assert (code, "it holds Secret mine" in said) == (1, True), said


@pytest.mark.parametrize(("nodes", "goes_on"), [(10, False), (11, True)])
def test_of_more_than_ten_nodes_a_lost_one_does_not_hold_up_a_roll_out(make, nodes, goes_on):
    rig = make(simulated=nodes)
    rig.run("k8s", "up", "--timeout", "0")

    def pods() -> list[dict[str, Any]]:
        return list(rig.store.listed("pods", "jupiter"))

    def of_new_image() -> set[str]:
        return {each["spec"]["nodeName"] for each in pods() if each["spec"]["containers"][0]["image"] == "jupiter:2"}

    rig.wait(lambda: [each["status"]["phase"] for each in pods()] == ["Running"] * nodes)
    rig.cluster._simulated._names.discard("s1")
    (lost,) = [each for each in pods() if each["spec"]["nodeName"] == "s1"]
    rig.store.delete(("pods", "jupiter", lost["metadata"]["name"]))
    rig.run("k8s", "up", "--timeout", "0", "--image", "jupiter:2")
    if goes_on:
        rig.wait(lambda: len(of_new_image()) == nodes - 1)
    else:
        time.sleep(2.0)
        assert of_new_image() == set()


def test_a_namespace_has_some_seconds_to_end_also_when_the_time_of_down_is_over(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    rig.cluster.controllers.namespace_s = 4.0
    rig.done("k8s", "down", "--timeout", "1")
    assert rig.cluster.left() == []


def test_a_kind_that_is_served_in_an_older_version_only_holds_the_namespace_too(make, monkeypatch):
    for plural, version in (("gadgets", "v1"), ("widgets", "v1beta1")):
        monkeypatch.setitem(TYPES, plural, Type(plural.title()[:-1], plural, f"example.org/{version}"))
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    widget = {"apiVersion": "example.org/v1beta1", "kind": "Widget", "metadata": {"name": "precious"}}
    rig.store.create(("widgets", "jupiter", "precious"), widget)
    code, _, said = rig.run("k8s", "down")
    assert (code, "it holds Widget precious" in said) == (1, True)
    assert rig.store.find("widgets", "jupiter", "precious") is not None


def test_rights_of_one_overlay_do_not_outlive_it(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0", "--overlay", "edge", "--namespace", "other")
    rig.run("k8s", "up", "--timeout", "0", "--overlay", "edge")
    theirs = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {
        "name": "theirs", "labels": {"app.kubernetes.io/managed-by": "jupiter"}}}  # fmt: skip
    rig.store.create(("clusterroles", "", "theirs"), theirs)
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert (code, "2 removed" in said) == (0, True), said
    left = {plural: [each["metadata"]["name"] for each in rig.store.listed(plural)]
            for plural in ("clusterroles", "clusterrolebindings")}  # fmt: skip
    assert left == {"clusterroles": ["other-agent-nodes", "theirs"], "clusterrolebindings": ["other-agent-nodes"]}
    assert "removed" not in rig.run("k8s", "up", "--timeout", "0")[2]


def test_an_object_of_our_name_that_is_not_ours_is_not_touched_and_what_was_made_is_taken_back(make):
    rig = make(simulated=1)
    rig.store.create(*foreign("Namespace", "jupiter"))
    rig.store.create(*foreign("ConfigMap", "jupiter-agent"))
    before = rig.cluster.left()
    code, _, said = rig.run("k8s", "up")
    assert code == 2
    assert "ConfigMap jupiter-agent in namespace jupiter is not jupiter's" in said
    assert "removing again: " in said
    assert rig.cluster.left() == before
    rig.run("k8s", "down")
    assert rig.cluster.left() == before


def test_somebody_who_makes_an_object_at_the_same_moment_wins(make):
    rig = make(simulated=1)
    rig.store.create(*foreign("Namespace", "jupiter"))
    rig.store.create(*foreign("ConfigMap", "jupiter-agent"))
    rig.cluster.server.fail("GET", "configmaps/jupiter-agent", 404, "NotFound", "not found")  # it came just after
    code, _, said = rig.run("k8s", "up")
    assert (code, "is not jupiter's" in said) == (2, True)
    assert ("POST", "configmaps") in rig.writes()
    there = rig.store.get("configmaps", "jupiter", "jupiter-agent")
    assert ("labels" in there["metadata"], "data" in there) == (False, False)


def test_one_of_ours_that_another_up_made_at_the_same_moment_is_used(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    rig.cluster.server.fail("GET", "configmaps/jupiter-agent", 404, "NotFound", "not found")
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert (code, "10 unchanged" in said) == (0, True), said


def test_what_a_controller_writes_just_after_an_object_was_made_is_waited_out(make):
    rig = make(simulated=1)
    rig.cluster.server.fail("PATCH", "daemonsets/", 409, "Conflict", "the object has been modified")
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert (code, "10 created" in said) == (0, True), said
    rig.run("k8s", "up", "--timeout", "0")
    holders = {each["manager"] for each in _daemonset(rig)["metadata"]["managedFields"]}
    assert holders == {"jupiter"}


def test_another_overlay_leaves_nothing_of_the_one_before_in_the_daemonset(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0", "--overlay", "edge")
    assert _daemonset(rig)["spec"]["template"]["spec"]["hostNetwork"] is True
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert (code, "stays on their nodes' disks, with the cluster's keys: /var/lib/jupiter/agent" in said) == (0, True)
    spec = _daemonset(rig)["spec"]["template"]["spec"]
    assert not {"hostNetwork", "initContainers", "tolerations", "dnsPolicy"} & spec.keys()
    assert next(each for each in spec["volumes"] if each["name"] == "state") == {"name": "state", "emptyDir": {}}


def test_what_others_changed_in_ours_is_put_right_and_what_they_added_stays(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")

    def change(after: dict[str, Any]) -> None:
        after["data"] = {"agent.toml": 'profile = "manet"\n', "notes": "mine"}
        after["metadata"]["labels"]["team"] = "field"

    rig.store.update(("configmaps", "jupiter", "jupiter-agent"), change, manager="kubectl-edit")
    _, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert "1 changed, 9 unchanged" in said
    found = rig.store.get("configmaps", "jupiter", "jupiter-agent")
    assert 'profile = "lan"' in found["data"]["agent.toml"]
    assert (found["data"]["notes"], found["metadata"]["labels"]["team"]) == ("mine", "field")


def _token(rig: Rig) -> Any:
    return rig.store.get("secrets", "jupiter", "jupiter-token")["data"]["token"]


def test_a_token_that_another_up_made_at_the_same_moment_stays_and_is_used(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    token = _token(rig)
    rig.cluster.server.fail("GET", "secrets/jupiter-token", 404, "NotFound", "not found", times=2)  # it came just after
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert (code, "10 unchanged" in said) == (0, True), said
    assert _token(rig) == token


def test_a_cluster_in_a_namespace_that_just_went_away_does_not_inherit_its_token(make, monkeypatch):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    token = _token(rig)
    rig.cluster.controllers.namespace_s = 2.0  # so long the Secret is still there to be read
    rig.store.delete(("namespaces", "", "jupiter"))
    rig.done("k8s", "up", "--timeout", "0")
    assert _token(rig) != token


def _daemonset(rig: Rig) -> dict[str, Any]:
    return dict(rig.store.get("daemonsets", "jupiter", "jupiter-agent"))


def test_up_waits_for_a_namespace_that_is_just_going_away(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    rig.store.delete(("namespaces", "", "jupiter"))
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert code == 0
    assert "10 created" in said


def test_what_may_not_be_made_is_said_with_the_servers_words_and_taken_back(make):
    rig = make(simulated=1)
    rig.cluster.server.fail("POST", "/roles", 403, "Forbidden", 'roles is forbidden: User "somebody" cannot create')
    code, _, said = rig.run("k8s", "up")
    assert code == 5
    assert 'error: the cluster forbids it: roles is forbidden: User "somebody" cannot create' in said
    assert "hint: ask the cluster's administrator" in said
    rig.wait(lambda: rig.cluster.left() == [])


def test_who_may_not_look_at_namespaces_can_still_use_one(make):
    rig = make(simulated=1)
    rig.store.create(*foreign("Namespace", "jupiter"))
    rig.cluster.rights.forbidden |= {("get", "namespaces"), ("list", "nodes")}
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert code == 0
    assert "9 created; the namespace was there before and is used" in said
    code, _, _ = rig.run("k8s", "down")
    assert code == 0
    assert rig.cluster.left() == [("namespaces", "jupiter")]


@pytest.mark.parametrize(
    ("status", "reason", "code", "words"),
    [
        (401, "Unauthorized", 5, "the cluster does not know you"),
        (500, "InternalError", 1, "etcd is away"),
    ],
)
def test_refusals_end_the_command_with_a_hint_and_no_traceback(make, status, reason, code, words):
    rig = make(simulated=1)
    rig.cluster.server.fail("", "/", status, reason, "etcd is away", times=100)
    got, _, said = rig.run("k8s", "up")
    assert (got, words in said, "hint: " in said, "Traceback" in said) == (code, True, True, False)


def test_an_object_that_was_made_anew_meanwhile_is_not_deleted(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    from jupiter_agent.cli.k8s.objects import Objects

    objects = Objects(rig.access(), "jupiter")
    (old,) = objects.ours(["ConfigMap"])
    rig.store.remove(("configmaps", "jupiter", "jupiter-agent"))
    rig.store.create(*foreign("ConfigMap", "jupiter-agent"))
    assert objects.delete(old) is False
    assert rig.store.find("configmaps", "jupiter", "jupiter-agent") is not None


def test_what_was_made_and_then_refused_is_taken_back_too(make):
    rig = make(simulated=1)
    rig.cluster.server.fail("PATCH", "daemonsets/", 403, "Forbidden", "no patch for you", times=9)
    code, _, said = rig.run("k8s", "up")
    assert (code, "removing again: " in said, "DaemonSet jupiter-agent" in said) == (5, True, True)
    rig.wait(lambda: rig.cluster.left() == [])


def test_a_selector_that_cannot_be_changed_says_to_start_over(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    rig.cluster.server.fail("PATCH", "daemonsets/", 422, "Invalid", "spec.selector: field is immutable")
    code, _, said = rig.run("k8s", "up", "--timeout", "0")
    assert (code, "`jupiter k8s down`, then `up` again" in said) == (2, True)


def test_a_dry_run_prints_valid_objects_and_asks_nobody(make):
    rig = make()
    code, out, said = rig.run("k8s", "up", "--dry-run", "-o", "yaml", "--namespace", "field", "--image", "a/b:1")
    assert code == 0
    assert "keep what is printed to yourself" in said
    found = list(yaml.safe_load_all(out))
    assert [each["kind"] for each in found][:2] == ["Namespace", "ServiceAccount"]
    for each in found:
        validate(each)
        assert each["metadata"].get("namespace", "field") == "field"
    secret = next(each for each in found if each["kind"] == "Secret")
    assert decode_token(base64.b64decode(secret["data"]["token"]).decode()).issuer_secret
    assert "&id" not in out
    assert rig.cluster.server.requests == []


def test_the_namespace_is_the_apps_prefix_when_an_app_is_named(make, tmp_path):
    rig = make()
    app = tmp_path / "app"
    app.mkdir()
    (app / "t.py").write_text("def process(inputs, ctx):\n    return None\n")
    (app / "app_config.yaml").write_text(
        "jupiter_config: {namespace_prefix: demo}\napplication:\n  tasks:\n    dag_tasks:\n"
        "      - {name: t, base_script: t.py}\n"
    )
    _, out, _ = rig.run("k8s", "up", "--dry-run", "-o", "yaml", "--app", str(app))
    assert next(yaml.safe_load_all(out))["metadata"]["name"] == "demo-jupiter"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--overlay", "restrict"), "did you mean restricted?"),
        (("--pull-policy", "never"), "did you mean Never?"),
        (("--namespace", "Not_A_Name"), "cannot be a namespace"),
        (("--app", "/nowhere"), "no such folder"),
        (("--context", "other"), "known: stand-in"),
    ],
)
def test_wrong_words_are_usage_errors_before_anything_is_made(make, arguments, words):
    rig = make()
    code, _, said = rig.run("k8s", "up", *arguments)
    assert (code, words in said) == (2, True)
    assert rig.writes() == []


@pytest.mark.smoke
def test_without_a_kubeconfig_the_user_is_told_what_to_point_to(make, monkeypatch, tmp_path):
    rig = make()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    code, _, said = rig.run("k8s", "status")
    assert (code, "no kubeconfig" in said, "KUBECONFIG" in said) == (2, True, True)
    (tmp_path / "missing").write_text("{]")
    code, _, said = rig.run("k8s", "status")
    assert (code, "cannot be used" in said) == (2, True)


def test_a_server_that_is_away_is_not_reached(make, monkeypatch):
    rig = make()
    rig.cluster.stop()
    code, _, said = rig.run("k8s", "status")
    assert (code, "is not reached" in said, "kubectl cluster-info" in said) == (4, True, True)
    rig.cluster.stop = lambda: None


def test_the_token_that_is_printed_holds_no_issuers_key_and_a_new_one_needs_no_cluster(make):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")
    inside = decode_token(
        base64.b64decode(rig.store.get("secrets", "jupiter", "jupiter-token")["data"]["token"]).decode()
    )
    _, out, _ = rig.run("k8s", "token")
    printed = decode_token(out)
    assert inside.issuer_secret
    assert (printed.join_secret, printed.issuer_secret) == (inside.join_secret, b"")
    _, out, _ = rig.run("k8s", "token", "--new")
    assert decode_token(out).fingerprint != inside.fingerprint
    code, _, said = rig.run("k8s", "token", "--namespace", "empty")
    assert (code, "k8s up --namespace empty" in said) == (4, True)


def test_after_a_rotation_the_secret_takes_the_newer_token_and_keeps_the_issuers_key(make, tmp_path):
    rig = make(simulated=1)
    rig.run("k8s", "up", "--timeout", "0")

    def inside() -> Token:
        secret = rig.store.get("secrets", "jupiter", "jupiter-token")["data"]["token"]
        return decode_token(base64.b64decode(secret).decode())

    old = inside()
    newer = tmp_path / "newer"
    newer.write_text(encode_token(Token(old.fingerprint, b"n" * 32, ("10.0.0.1:7421",))))
    code, _, said = rig.run("k8s", "token", "--replace", str(newer))
    assert (code, "new pods start with it" in said) == (0, True), said
    assert inside() == Token(old.fingerprint, b"n" * 32, issuer_secret=old.issuer_secret)
    rig.run("k8s", "up", "--timeout", "0")
    assert inside().join_secret == b"n" * 32
    newer.write_text(encode_token(Token(b"f" * 16, b"n" * 32)))
    code, _, said = rig.run("k8s", "token", "--replace", str(newer))
    assert (code, "no token of this cluster's own" in said) == (2, True)


def test_who_may_not_read_the_secret_is_told_how_to_go_on(make):
    rig = make(simulated=1)
    rig.cluster.rights.forbidden.add(("get", "secrets"))
    code, _, said = rig.run("ctl", "--namespace", "jupiter", "get", "nodes")
    assert (code, "then use --token-file" in said) == (5, True)
    code, _, said = rig.run("k8s", "status")
    assert (code, "whom the agents see is not known" in said) == (0, True)
