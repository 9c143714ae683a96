"""The rights that `jupiter k8s` uses are those that the table in `daemonset/README.md` names: no more, and no fewer."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from k8s_standin import Rig

from jupiter_agent.bench.kube.store import TYPES

Rights = set[tuple[str, str]]
"""(verb, resource)"""
WHERE_GIVEN = {("list", "nodes"), ("list", "events")}
OPTIONAL = WHERE_GIVEN | {("list", "clusterroles"), ("list", "clusterrolebindings")}
"""as the text below the table says"""
COMES_AND_GOES = {"events", "endpointslices"}
EVERY_KIND = {("list", each.plural) for each in TYPES.values() if each.in_namespace} - {
    ("list", plural) for plural in COMES_AND_GOES
}


def table() -> dict[str, Rights]:
    """Row -> rights: `VERB, VERB and VERB of RESOURCE, RESOURCE and RESOURCE; ...`, remarks in parentheses apart. A row
    that begins with `...` is of the command above it."""
    text = (Path(__file__).parents[2] / "daemonset" / "README.md").read_text()
    rows, command = dict[str, Rights](), ""
    for line in text.partition("## What its user needs")[2].partition("## Overlays")[0].splitlines():
        first, _, rights = line.strip("| ").partition(" | ")
        if rights and first != "command":
            command = command if first.startswith("...") else first
            rows[f"{command} {first}" if first.startswith("...") else first] = set(_rights(rights))
    return rows


def _rights(text: str) -> Iterator[tuple[str, str]]:
    text = re.sub(r" *\([^)]*\)", "", text).replace(", in the whole cluster", "")
    for clause in text.split("; "):
        verbs, _, resources = clause.partition(" of ")
        assert resources, f"{clause}: this says no right"
        for resource in re.split(", | and ", resources):
            for verb in re.split(", | and ", verbs):
                yield from EVERY_KIND if resource.startswith("every kind") else {(verb, resource)}


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: Any, capsys: Any) -> Iterator[Rig]:
    found = Rig(tmp_path, monkeypatch, capsys, nodes=1)
    yield found
    found.cluster.stop()


def used(rig: Rig) -> Rights:
    """Since it was asked last."""
    found = {(ask.verb, ask.resource) for ask in rig.cluster.rights.asked if ask.user == "somebody"}
    rig.cluster.rights.asked.clear()
    return found


def test_the_table_is_read_as_it_is_meant():
    rows = table()
    assert rows["`k8s logs`"] == {("list", "pods"), ("get", "pods/log")}
    assert ("create", "pods") in rows["`k8s down` ... after `--overlay edge`"]
    assert len(rows["`k8s up`"]) == 8 * 4 + 3


def test_up_and_down_use_the_rights_of_their_rows(rig):
    rows = table()
    up = rows["`k8s up`"] | rows["`k8s up` ... a new namespace"] | rows["`k8s up` ... `--overlay edge`"]
    down = (
        rows["`k8s down`"] | rows["`k8s down` ... a namespace of ours"] | rows["`k8s down` ... after `--overlay edge`"]
    )
    rig.cluster.server.fail("PATCH", "daemonsets/", 403, "Forbidden", "no", times=1)
    assert rig.run("k8s", "up", "--overlay", "edge")[0] == 5  # what it made it removes
    rig.wait(lambda: rig.cluster.left() == [])
    rig.done("k8s", "up", "--overlay", "edge", "--timeout", "60")
    assert used(rig) - WHERE_GIVEN == up
    rig.done("k8s", "down")
    assert used(rig) - {("list", "nodes")} == down


def test_in_a_namespace_that_was_there_before_up_and_down_use_less(rig):
    rows = table()
    rig.store.create(("namespaces", "", "jupiter"), {"apiVersion": "v1", "kind": "Namespace",
                                                     "metadata": {"name": "jupiter"}})  # fmt: skip
    look = {("get", "namespaces")}
    rig.cluster.server.fail("PATCH", "daemonsets/", 403, "Forbidden", "no", times=1)
    assert rig.run("k8s", "up")[0] == 5
    rig.done("k8s", "up", "--timeout", "60")
    assert used(rig) - OPTIONAL == rows["`k8s up`"] | look
    rig.done("k8s", "down")
    assert used(rig) - OPTIONAL == rows["`k8s down`"]


def test_the_other_commands_use_the_rights_of_their_rows(rig, tmp_path):
    rows = table()
    rig.done("k8s", "up", "--timeout", "60")
    used(rig)
    looks = "`k8s status`, `ctl --context`, `ctl --namespace`"
    for row, arguments in (
        (looks, ("k8s", "status")),
        (looks, ("ctl", "--namespace", "jupiter", "get", "nodes")),
        ("`k8s logs`", ("k8s", "logs")),
        ("`k8s token`", ("k8s", "token")),
    ):
        rig.done(*arguments)
        assert used(rig) - OPTIONAL == rows[row], row
    _, token, _ = rig.run("k8s", "token")
    (tmp_path / "newer").write_text(token)
    rig.done("k8s", "token", "--replace", str(tmp_path / "newer"))
    assert used(rig) == rows["`k8s token`"] | rows["`k8s token` ... `--replace`"]
