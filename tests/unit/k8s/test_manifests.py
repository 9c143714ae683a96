"""The objects of every overlay: what is made, in which order, under which names and labels."""

from __future__ import annotations

import base64
import re
import tomllib
from pathlib import Path

import pytest

from jupiter_agent import __version__
from jupiter_agent.cli.k8s.pods import state_folder
from jupiter_agent.cli.k8s.wipe import wiper
from jupiter_agent.errors import UsageError
from jupiter_agent.k8s import kustomize, manifests

ROOT = Path(__file__).parents[3]


def rendered(overlay="restricted", **kwargs):
    return manifests.objects(overlay, token="jup1.token\n", **kwargs)


def one(kind, name="", **kwargs):
    (found,) = [each for each in rendered(**kwargs) if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    return found


def pod(**kwargs):
    return one("DaemonSet", **kwargs)["spec"]["template"]["spec"]


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_what_others_need_is_made_before_them_and_the_agents_last(overlay):
    kinds = [each["kind"] for each in rendered(overlay)]
    assert kinds[0] == "Namespace"
    assert kinds[-1] == "DaemonSet"
    assert kinds == sorted(kinds, key=manifests.ORDER.index)


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_every_object_says_that_it_is_ours(overlay):
    for each in rendered(overlay):
        assert manifests.MANAGED.items() <= each["metadata"]["labels"].items(), each["metadata"]["name"]
    template = one("DaemonSet", overlay=overlay)["spec"]["template"]
    assert (manifests.MANAGED | manifests.SELECTOR).items() <= template["metadata"]["labels"].items()


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_in_another_namespace_nothing_bears_the_name_of_the_first(overlay):
    """Two deployments on one cluster share no object, also of those that belong to no namespace."""

    def names(namespace):
        found = rendered(overlay, namespace=namespace)
        return {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in found}

    assert names("jupiter") & names("mars") == set()
    for each in rendered(overlay, namespace="mars"):
        for subject in each.get("subjects", ()):
            assert subject["namespace"] == "mars"
        if each["kind"] == "ClusterRoleBinding":
            assert each["roleRef"]["name"] == "mars-agent-nodes"


def test_the_token_is_in_the_secret_and_nowhere_else():
    secret = one("Secret", manifests.TOKEN_SECRET)
    assert base64.b64decode(secret["data"][manifests.TOKEN_KEY]) == b"jup1.token\n"
    assert sum("jup1" in str(each) for each in rendered()) == 0  # base64 hides it in the Secret, too


def test_the_image_is_this_version_unless_another_is_named():
    assert pod()["containers"][0]["image"] == f"jupiter-agent:{__version__}"
    edge = pod(overlay="edge", image="registry:5000/me/agent:7", pull_policy="Never")
    used = [(each["image"], each["imagePullPolicy"]) for each in edge["initContainers"] + edge["containers"]]
    assert used == [("registry:5000/me/agent:7", "Never")] * 2


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_every_container_of_every_overlay_runs_the_image_of_this_version(overlay):
    """Also those that a patch adds: images are set where no patch comes after."""
    used = {each["image"] for each in kustomize.containers(rendered(overlay))}
    assert used == {f"jupiter-agent:{__version__}"}


def test_what_is_of_the_whole_cluster_is_known_by_its_exact_name():
    names = {("ClusterRole", "a-agent-nodes"), ("ClusterRoleBinding", "a-agent-nodes"), ("Namespace", "a")}
    assert manifests.cluster_names("a") == names
    assert manifests.cluster_names("a-agent-b") & names == set()


def test_after_a_rotation_the_readme_keeps_the_issuers_key_in_the_secret():
    text = (ROOT / "daemonset" / "README.md").read_text()
    assert "token --namespace jupiter --replace newer" in text
    assert "create secret" not in text  # a plain token would found nothing and issue nothing


def test_an_agent_may_only_see_who_its_peers_are():
    assert [(each["rules"]) for each in rendered() if "rules" in each] == [
        [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]
    ]
    assert one("ClusterRole", overlay="edge")["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    ]


def test_agents_are_found_before_they_are_ready_and_asked_only_after():
    peers, service = one("Service", manifests.PEERS_SERVICE), one("Service", manifests.SERVICE)
    assert peers["spec"]["clusterIP"] == "None"
    assert peers["spec"]["publishNotReadyAddresses"] is True
    assert "publishNotReadyAddresses" not in service["spec"]


def test_nobody_but_agents_reaches_the_port_of_the_probes():
    """Probes come from the node, which no policy keeps out."""
    rules = one("NetworkPolicy")["spec"]["ingress"]
    agents = {"matchLabels": manifests.SELECTOR}
    assert [rule for rule in rules if "from" not in rule] == []
    for rule in rules:
        open_to_all_ports = [each["podSelector"] for each in rule["from"] if "ports" not in rule]
        assert open_to_all_ports in ([], [agents])
        assert "health" not in [each["port"] for each in rule.get("ports", ())]


def test_ports_are_the_ones_that_the_environment_names():
    container = pod()["containers"][0]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    env = {each["name"]: each.get("value", "") for each in container["env"]}
    assert ports == {
        "agent": manifests.AGENT_PORT, "join": manifests.JOIN_PORT, "health": manifests.HEALTH_PORT
    }  # fmt: skip
    assert env["JUPITER_BIND"].endswith(f":{ports['agent']}")
    assert env["JUPITER_HTTP"].endswith(f":{ports['health']}")
    assert env["JUPITER_JOIN"] == f"{manifests.PEERS_SERVICE}:{ports['agent']}"


def test_a_drain_ends_before_the_pod_is_killed():
    env = {each["name"]: each.get("value", "") for each in pod()["containers"][0]["env"]}
    assert float(env["JUPITER_DRAIN_S"]) + 5 < pod()["terminationGracePeriodSeconds"] == 120
    assert one("DaemonSet")["spec"]["minReadySeconds"] >= 10


def test_every_volume_that_is_mounted_exists_and_every_one_is_mounted():
    for overlay in manifests.OVERLAYS:
        spec = pod(overlay=overlay)
        used = {
            mount["name"]
            for each in spec["containers"] + spec.get("initContainers", [])
            for mount in each["volumeMounts"]
        }
        assert used == {volume["name"] for volume in spec["volumes"]}


def test_what_goes_from_a_nodes_disk_is_the_agents_state_and_no_other_folder_that_its_pod_has():
    spec = pod(overlay="edge")
    spec["volumes"].insert(0, {"name": "camera", "hostPath": {"path": "/data"}})
    spec["containers"][0]["volumeMounts"].insert(0, {"name": "camera", "mountPath": "/data"})
    assert state_folder({"spec": spec}) == ("/var/lib/jupiter/agent", "/var/lib/jupiter/agent")
    sent = wiper("jupiter", "n1", {"spec": spec}, "f00d")["spec"]
    assert [each["name"] for each in sent["volumes"]] == ["state"]
    assert sent["containers"][0]["command"][-2:] == ["/var/lib/jupiter/agent", "f00d"]
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] != "state"] + [
        {"name": "state", "emptyDir": {}}
    ]
    assert state_folder({"spec": spec})[1] == ""
    assert state_folder({"spec": pod()})[1] == ""


def test_the_edge_overlay_keeps_state_on_the_node_and_runs_on_every_node():
    spec = pod(overlay="edge")
    state = next(each for each in spec["volumes"] if each["name"] == "state")
    assert state == {"name": "state", "hostPath": {"path": "/var/lib/jupiter", "type": "DirectoryOrCreate"}}
    assert spec["hostNetwork"] is True
    assert spec["tolerations"] == [{"operator": "Exists"}]


def test_every_manifest_is_packaged_and_a_token_beside_them_is_not():
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "daemonset").rglob("*.yaml")}
    assert set(rules["force-include"]) == sources
    assert all(target == f"jupiter_agent/k8s/{source}" for source, target in rules["force-include"].items())


def test_what_the_renderer_does_not_know_is_refused(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: []\ncomponents: [x]\n")
    with pytest.raises(UsageError, match="components: not known here"):
        kustomize.render(tmp_path, {})


def test_a_patch_for_an_object_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("patches: [{path: p.yaml}]\n")
    (tmp_path / "p.yaml").write_text("kind: Service\nmetadata: {name: x}\n")
    with pytest.raises(UsageError, match=re.escape("Service x: there are 0")):
        kustomize.render(tmp_path, {})


@pytest.mark.parametrize(
    ("change", "merged"),
    [
        ({"a": None}, {"l": [1], "env": [{"name": "x", "value": "1"}]}),
        ({"a": {"c": 2}}, {"a": {"b": 1, "c": 2}, "l": [1], "env": [{"name": "x", "value": "1"}]}),
        ({"l": [2]}, {"a": {"b": 1}, "l": [2], "env": [{"name": "x", "value": "1"}]}),
        (
            {"env": [{"name": "y", "value": "2"}, {"name": "x", "value": "3"}]},
            {"a": {"b": 1}, "l": [1], "env": [{"name": "y", "value": "2"}, {"name": "x", "value": "3"}]},
        ),
    ],
)
def test_a_patch_deletes_with_null_merges_mappings_and_keyed_lists_and_replaces_others(change, merged):
    base = {"a": {"b": 1}, "l": [1], "env": [{"name": "x", "value": "1"}]}
    kustomize.merge(base, change)
    assert base == merged


@pytest.mark.parametrize(
    ("image", "replaced"),
    [("jupiter-agent", True), ("jupiter-agent:1", True), ("r:5000/jupiter-agent:1", False), ("other", False)],
)
def test_an_image_is_replaced_by_its_name_whatever_its_tag(image, replaced):
    spec = {"containers": [{"image": image}]}
    kustomize.set_image([{"spec": {"template": {"spec": spec}}}], "jupiter-agent", "x:2")
    assert (spec["containers"][0]["image"] == "x:2") is replaced
