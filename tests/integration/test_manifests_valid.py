"""Every overlay against the schemas of Kubernetes, the types of its client, and its own kustomize."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from jupiter_agent.k8s import manifests
from jupiter_agent.k8s.kustomize import containers

BIN = Path(sys.executable).parent
VERSIONS = ("1.32", "1.36")
TOKEN = "jup1.a-token\n"


def rendered(overlay: str) -> list[dict[str, Any]]:
    return manifests.objects(overlay, token=TOKEN)


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_strictly(overlay: str, version: str) -> None:
    for each in rendered(overlay):
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_would_be_found(version: str) -> None:
    broken = copy.deepcopy(rendered("restricted")[-1])
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(broken, version, strict=True)


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_every_object_goes_through_the_clients_types_and_comes_back_whole(overlay: str) -> None:
    """Fields that the API does not have vanish on the way."""
    for each in rendered(overlay):
        assert round_trip(each) == each, each["metadata"]["name"]


def test_a_field_that_the_api_does_not_have_would_vanish() -> None:
    broken = rendered("restricted")[-1]
    broken["spec"]["minReadySecond"] = 1
    assert round_trip(broken) != broken


def round_trip(found: dict[str, Any]) -> Any:
    from kubernetes import client

    api = client.ApiClient()
    group, _, version = found["apiVersion"].rpartition("/")
    kind = f"{version.capitalize()}{found['kind']}"
    assert hasattr(client, kind), (group, kind)

    return api.sanitize_for_serialization(api.deserialize(json.dumps(found), kind, "application/json"))


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_kustomize_renders_the_same_objects(overlay: str, tmp_path: Path) -> None:
    """`kubectl apply -k` and `jupiter k8s up` put the same on a cluster."""
    shutil.copytree(manifests.folder(), tmp_path / "daemonset", ignore=shutil.ignore_patterns("wheels", "token"))
    (tmp_path / "daemonset" / "base" / manifests.TOKEN_KEY).write_text(TOKEN)
    command = [str(BIN / "kubectl"), "kustomize", str(tmp_path / "daemonset" / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "KUBECONFIG": ""})
    assert done.returncode == 0, done.stderr
    theirs = {key(each): each for each in yaml.safe_load_all(done.stdout)}
    assert {key(each): each for each in rendered(overlay)} == theirs


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_the_readmes_way_to_another_image_leaves_none_of_the_old_one(overlay: str) -> None:
    readme = (manifests.folder() / "README.md").read_text()
    (line,) = re.findall(r"kubectl -n jupiter set image ds/jupiter-agent '(\S+)'", readme)
    daemonset = json.dumps(rendered(overlay)[-1])
    command = [str(BIN / "kubectl"), "set", "image", "--local", "-f", "-", line, "-o", "json"]
    env = {**os.environ, "KUBECONFIG": ""}
    done = subprocess.run(command, input=daemonset, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert {each["image"] for each in containers([json.loads(done.stdout)])} == {"jupiter-agent:0.2.0"}


def key(each: dict[str, Any]) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]
