from typing import Any

import pytest

from jupiter_agent.core.listing import app_of, chosen_rows, link_of, missing
from jupiter_agent.errors import UsageError

NODES = [{"name": "node1", "id": "aa11"}, {"name": "node2", "id": "ab22"}]
LINKS = [{"src": "node1", "dst": "node2", "latency_s": 0.1}, {"src": "node2", "dst": "node1", "latency_s": 0.2}]


def job(id: str, app: str, bundle: str) -> dict[str, Any]:
    return {"id": id, "name": app, "app": app, "bundle": bundle, "size": 1}


def test_a_link_is_named_by_its_ends_with_either_sign():
    assert link_of(LINKS, "node2>node1")["latency_s"] == 0.2
    assert link_of(LINKS, "node2:node1")["latency_s"] == 0.2


def test_a_link_that_is_not_there_is_refused_with_one_that_is():
    with pytest.raises(UsageError, match="no link 'node1:node3'") as error:
        link_of(LINKS, "node1:node3")
    assert "did you mean 'node1:node2'?" in error.value.hint


def test_a_node_is_named_by_name_or_beginning_of_its_id():
    assert chosen_rows(NODES, "node2", "nodes") == [NODES[1]]
    assert chosen_rows(NODES, "aa", "nodes") == [NODES[0]]


def test_a_misspelt_node_is_refused_with_the_closest_name():
    with pytest.raises(UsageError) as error:
        chosen_rows(NODES, "nod1", "nodes")
    assert error.value.hint == "did you mean 'node1'? list them with: jupiter ctl get nodes"


def test_an_app_is_described_with_its_jobs_and_its_newest_bundle():
    jobs = [job("j1", "a", "b1"), job("j2", "b", "b2"), job("j3", "a", "b3")]
    assert app_of(jobs, "a") == {"name": "a", "bundle": "b3", "size": 1, "jobs": ["j1", "j3"]}


def test_an_unknown_app_and_none_at_all_are_refused():
    for ref in ("x", ""):
        with pytest.raises(UsageError, match="no app"):
            app_of([job("j1", "a", "b1")], ref)


def test_what_is_like_nothing_gets_no_guess():
    assert missing("living node", "zzz", ["node1"]).hint == "list them with: jupiter ctl get nodes"
