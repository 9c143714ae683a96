"""What goes into the image: everything that an agent needs, of versions that are fixed, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "daemonset" / "Dockerfile").read_text()


def pins() -> dict[str, Version]:
    lines = (ROOT / "daemonset" / "requirements.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


def test_every_dependency_is_pinned_to_a_version_that_the_project_allows():
    wanted = [
        Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    assert len(wanted) > 5
    found = pins()
    for each in wanted:
        assert found[each.name.lower()] in each.specifier, each.name


def test_the_client_of_kubernetes_is_not_in_the_image():
    assert "kubernetes" not in pins()


def test_the_image_is_run_by_a_user_without_rights_and_its_base_can_be_replaced():
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.M) == ["10421:10421"]
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) == ["${BASE}", "${BASE}"]
    base = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE, re.M)
    assert base is not None
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base[1]), "pinned"


@pytest.mark.parametrize("path", ["tests", ".git", ".venv", "app_specific_files", ".jupiter"])
def test_what_is_not_named_does_not_reach_the_build(path):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    assert f"!{path}" not in lines


def test_a_token_beside_the_manifests_does_not_reach_the_build():
    assert (ROOT / ".dockerignore").read_text().splitlines()[-1] == "daemonset/base/token"
