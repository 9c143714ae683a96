"""Renders a kustomization: the part of kustomize that the manifests in `daemonset/` use, so that nobody needs the tool.

Resources (files and folders), strategic merge patches, labels, images, namespace and generated Secrets. What it does
not know is a UsageError and never left out: `kubectl kustomize` must make the same objects, and a test compares them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupiter_agent.errors import UsageError

Object = dict[str, Any]

KNOWN = frozenset(
    {"apiVersion", "kind", "namespace", "labels", "resources", "patches", "images", "generatorOptions"}
    | {"secretGenerator"}
)

MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath",
    "ports": "containerPort",
}  # fmt: skip
"""A list of these is merged by this key of its elements, any other list is replaced"""

CLUSTER_KINDS = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding"})


def render(folder: Path, files: Mapping[str, bytes]) -> list[Object]:
    """The objects of a folder's kustomization.yaml. `files`: what generators read, by name, in place of the disk."""
    (kustomization,) = load(folder / "kustomization.yaml")
    if unknown := set(kustomization) - KNOWN:
        raise UsageError(f"{folder}/kustomization.yaml: {', '.join(sorted(unknown))}: not known here")
    objects: list[Object] = []
    for name in kustomization.get("resources", ()):
        path = folder / name
        objects += render(path, files) if path.is_dir() else load(path)
    objects += [_secret(each, files) for each in kustomization.get("secretGenerator", ())]
    for patch in kustomization.get("patches", ()):
        for change in load(folder / patch["path"]):
            _apply(change, objects)
    for each in kustomization.get("labels", ()):
        for found in objects:
            _label(found, each)
    for image in kustomization.get("images", ()):
        set_image(objects, image["name"], f"{image.get('newName', image['name'])}:{image['newTag']}")
    if namespace := kustomization.get("namespace"):
        set_namespace(objects, namespace)
    return objects


def load(path: Path) -> list[Object]:
    """The objects of one file."""
    import yaml  # here: every `jupiter` command loads this module

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(path.read_text(), loader) if each]


def merge(into: Object, change: Object) -> None:
    """Strategic merge: null deletes, mappings merge, lists merge by their key where they have one."""
    for key, value in change.items():
        old = into.get(key)
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(old, dict):
            merge(old, value)
        elif key in MERGE_KEYS and isinstance(old, list):
            into[key] = _merged_list(old, value, MERGE_KEYS[key])
        else:
            into[key] = value


def _merged_list(old: list[Object], changes: list[Object], key: str) -> list[Object]:
    """New elements come first, as kustomize has it."""
    found = {each.get(key): each for each in old}
    for change in changes:
        if change.get(key) in found:
            merge(found[change.get(key)], change)
    return [change for change in changes if change.get(key) not in found] + old


def _apply(change: Object, objects: list[Object]) -> None:
    wanted = (change["kind"], change["metadata"]["name"])
    targets = [each for each in objects if (each["kind"], each["metadata"]["name"]) == wanted]
    if len(targets) != 1:
        raise UsageError(f"a patch is for {wanted[0]} {wanted[1]}: there are {len(targets)}")
    merge(targets[0], change)


def _label(found: Object, rule: Object) -> None:
    places = [found["metadata"]]
    if rule.get("includeTemplates") and "template" in found.get("spec", {}):
        places.append(found["spec"]["template"].setdefault("metadata", {}))
    for place in places:
        place["labels"] = {**place.get("labels", {}), **rule["pairs"]}


def set_image(objects: list[Object], name: str, image: str) -> None:
    """Containers of the image `name`, whatever its tag, run `image`."""
    for container in containers(objects):
        if _without_tag(container["image"]) == name:
            container["image"] = image


def containers(objects: list[Object]) -> list[Object]:
    """All containers of all pod templates."""
    specs = [each["spec"]["template"]["spec"] for each in objects if "template" in each.get("spec", {})]
    return [each for spec in specs for kind in ("initContainers", "containers") for each in spec.get(kind, ())]


def _without_tag(image: str) -> str:
    head, slash, tail = image.rpartition("/")
    return head + slash + tail.partition(":")[0]


def set_namespace(objects: list[Object], namespace: str) -> None:
    """Everything that is of a namespace is of this one; so are the accounts that roles are bound to."""
    for found in objects:
        metadata = found["metadata"]
        if found["kind"] == "Namespace":
            metadata["name"] = namespace
        elif found["kind"] not in CLUSTER_KINDS:
            metadata["namespace"] = namespace
        for subject in found.get("subjects", ()):
            if subject["kind"] == "ServiceAccount":
                subject["namespace"] = namespace


def _secret(rule: Object, files: Mapping[str, bytes]) -> Object:
    data = {name: base64.b64encode(files[name]).decode() for name in rule["files"]}
    metadata = {"name": rule["name"]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
