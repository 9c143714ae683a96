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


def entries(file: str) -> dict[str, list[str]]:
    """`name==version ; marker` -> digests, of a file that `scripts/pin` wrote"""
    text = "".join(line for line in (ROOT / "daemonset" / file).read_text().splitlines(True) if line[0] != "#")
    found = [line.split("--hash=") for line in text.replace("\\\n", "").splitlines()]
    return {head.strip(): [digest.strip() for digest in digests] for head, *digests in found}


def pins(file: str = "requirements.txt") -> dict[str, Version]:
    pairs = [head.partition(";")[0].split("==") for head in entries(file)]
    return {name: Version(version) for name, version in pairs}


def test_every_dependency_is_pinned_to_a_version_that_the_project_allows():
    wanted = [
        Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    assert len(wanted) > 5
    found = pins()
    for each in wanted:
        assert found[each.name.lower()] in each.specifier, each.name


def test_what_builds_our_wheel_is_pinned_to_a_version_that_the_project_allows():
    (wanted,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    backend = Requirement(wanted)
    assert pins("build.txt")[backend.name] in backend.specifier
    assert "pip wheel -q --no-deps --no-index --no-build-isolation" in DOCKERFILE, "it fetches no other one"


@pytest.mark.parametrize("file", ["requirements.txt", "build.txt"])
def test_every_file_that_is_fetched_for_the_image_is_known_by_its_digest(file):
    for name, digests in entries(file).items():
        assert digests, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in digests), name
    (installs,) = [line for line in DOCKERFILE.splitlines() if "--require-hashes" in line]
    assert "--only-binary :all:" in installs
    fetching = [line for line in DOCKERFILE.splitlines() if "pip install" in line and "--no-index" not in line]
    assert len([line for line in fetching if '"$@" -r daemonset/' in line]) == len(fetching) == 2


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
