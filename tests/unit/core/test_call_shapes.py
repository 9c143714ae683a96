"""Calls and answers of the wrong shape are somebody's fault, never a crash."""

from __future__ import annotations

from typing import Any

import pytest

from jupiter_agent.core.call_shapes import check_args, check_body
from jupiter_agent.errors import PeerError, UsageError

SHA = "ab" * 32


@pytest.mark.parametrize(
    "args",
    [
        {"since": "the beginning"}, {"since": None}, {"since": -1}, {"since": 1e300}, {"offset": 1 << 62},
        {"length": []}, {"id": {"a": 1}}, {"job": []}, {"kind": 7}, {"tasks": "x"}, {"tasks": [1]}, {"inputs": 7},
        {"inputs": ["x"]}, {"inputs": [{}]}, {"inputs": [{"name": "x", "sha256": "zz", "size": 1}]},
        {"inputs": [{"name": "x", "sha256": SHA, "size": -1}]}, {"job": "x" * 5000}, {"rename": "perhaps"},
    ],
)  # fmt: skip
def test_arguments_of_the_wrong_type_are_the_callers_fault(args: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="put: "):
        check_args("put", args)


def test_arguments_that_are_right_or_not_known_here_pass() -> None:
    entry = {"name": "x", "sha256": SHA, "size": 3, "data": b"abc", "of-a-later-version": 1}
    check_args("put", {"job": "last", "inputs": [entry], "rename": True, "at": None, "new": {"anything": 1}})
    check_args("token", {})


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("results", None), ("results", {"items": [{"results": [{"sha256": "../x", "size": 1}]}]}),
        ("results", {"items": [{"results": [{"sha256": SHA, "size": -1}]}]}), ("get", []), ("get", {"items": [7]}),
        ("get", {"items": [{"id": [], "name": "", "app": "", "home": "", "submitted_at": 1.0}]}),
        ("considered", {"tasks": [{"task": "a", "candidates": 3}]}), ("considered", {}),
    ],
)  # fmt: skip
def test_answers_of_the_wrong_shape_are_the_peers_fault(verb: str, body: Any) -> None:
    with pytest.raises(PeerError, match=f"answer to {verb}"):
        check_body(verb, body)


def test_answers_as_agents_give_them_pass() -> None:
    row = {"id": "1", "name": "n", "app": "a", "home": "h", "submitted_at": 1.5, "state": "running"}
    check_body("get", {"items": [row]})
    check_body("results", {"items": [{"name": "i", "results": [{"sink": "s", "sha256": SHA, "size": 1}]}]})
    check_body("considered", {"tasks": [{"task": "a", "candidates": [{"node": "x"}], "why": ""}]})
