"""`jupiter simulate`: scenario files, what is wrong with them, and a small one rehearsed."""

import json
from pathlib import Path

import pytest

from jupiter_agent.cli.main import main
from jupiter_agent.cli.scenario import read, to_plan
from jupiter_agent.errors import UsageError

ROOT = Path(__file__).parents[3]

APP = """
application:
  tasks:
    dag_tasks:
      - {name: first, base_script: work.py, children: [second]}
      - {name: second, base_script: work.py, children: [home]}
"""
SCENARIO = """
app: app
topology: {nodes: 3}
tasks: {default: {seconds: 0.05, bytes: 100}, second: {seconds: 0.1}}
submit: {mapper: wave-greedy, items: 10}
events: ["at 1 slow node2 4", "at 2 link node1 node2 rate=5mbit delay=20ms"]
"""


@pytest.fixture
def scenario(tmp_path: Path):
    """A function that writes a scenario with some lines changed, and gives its path."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "app_config.yaml").write_text(APP)
    (tmp_path / "app" / "work.py").write_text("def process(inputs, ctx):\n    return b'x'\n")

    def write(**changes: object) -> Path:
        lines = [line for line in SCENARIO.strip().splitlines() if line.partition(":")[0] not in changes]
        lines += [f"{key}: {json.dumps(value)}" for key, value in changes.items() if value is not None]
        path = tmp_path / "scenario.yaml"
        path.write_text("\n".join(lines))
        return path

    return write


def test_a_scenario_is_rehearsed_and_the_same_seed_gives_the_same_outcome(scenario, capsys):
    outcomes = []
    for _ in range(2):
        assert main(["simulate", str(scenario()), "-o", "json"]) == 0
        outcomes.append(json.loads(capsys.readouterr().out))
    first = outcomes[0]
    assert outcomes[0] == outcomes[1]
    assert (first["kind"], first["state"], first["items_done"]) == ("simulation", "completed", 10)
    assert (first["runs"], first["mapper"], sorted(first["mapping"])) == (20, "wave-greedy", ["first", "second"])
    assert 10 * 0.1 <= first["makespan_s"] < 10
    assert main(["simulate", str(scenario()), "--seed", "7", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) != first


def test_the_table_tells_the_story_and_the_figures(scenario, capsys):
    assert main(["simulate", str(scenario(events=["at 0.5 slow node2 4"])), "--mapper", "heft"]) == 0
    out = capsys.readouterr().out
    assert "0.50 s  slow node2 4" in out
    assert "completed: 10 of 10 items" in out
    assert "mapper heft" in out


def test_a_job_that_does_not_end_in_time_is_unfinished_and_exits_1(scenario, capsys):
    path = scenario(until_s=1, tasks={"default": {"seconds": 60}})
    assert main(["simulate", str(path), "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "unfinished"


def test_the_format_is_printed_and_the_example_in_the_gallery_can_be_read(capsys):
    assert main(["simulate", "--format"]) == 0
    assert "topology: wan8" in capsys.readouterr().out
    path = ROOT / "app_specific_files" / "slow-node.yaml"
    plan = to_plan(read(path), path.parent)
    assert len(plan.nodes) == 8
    assert plan.links["fra", "ams"].delay_s == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"app": "nowhere"}, "nowhere"),
        ({"colour": "red"}, "colour"),
        ({"topology": "mars"}, "no topology 'mars'"),
        ({"topology": "manet20"}, "cannot be simulated"),
        ({"topology": {"nodes": 0}}, "topology: nodes: 0"),
        ({"topology": {"nodes": -1}}, "topology: nodes: -1"),
        ({"topology": {"nodes": 1001}}, "topology: nodes: 1001"),
        ({"topology": {"nodes": True}}, "topology: nodes: True"),
        ({"topology": {"nodes": "abc"}}, "topology: nodes: 'abc'"),
        ({"topology": {"nodes": []}}, "topology: it has no nodes"),
        ({"nodes": {"node9": {"speed": 2}}}, "no node 'node9'"),
        ({"nodes": {"node1": {"speed": -1}}}, "speed"),
        ({"tasks": {"third": {"seconds": 1}}}, "no task 'third'"),
        ({"tasks": {"first": {"seconds": -1}}}, "seconds"),
        ({"submit": {"at": "node9"}}, "no node 'node9'"),
        ({"submit": {"mapper": "hft"}}, "unknown mapper"),
        ({"submit": {"remap": "always"}}, "remap"),
        ({"submit": {"items": 0}}, "items"),
        ({"events": ["kill node1"]}, "not `at SECONDS"),
        ({"events": ["at x kill node1"]}, "not `at SECONDS"),
        ({"events": ["at 1 explode node1"]}, "no such event"),
        ({"events": ["at 1 kill node9"]}, "no node 'node9'"),
        ({"events": ["at 1 slow node1 fast"]}, "a number or unit"),
        ({"events": ["at 1 link node1 node2 rate=fast"]}, "a number or unit"),
        ({"events": ["at 1 link node1 node2 colour=1"]}, "no 'colour'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_scenario_is_named(scenario, changes, said):
    path = scenario(**changes)
    with pytest.raises(UsageError, match=said):
        to_plan(read(path), path.parent)


def test_a_number_of_nodes_out_of_range_is_told_the_range(scenario, capsys):
    for nodes in (0, -1):
        assert main(["simulate", str(scenario(topology={"nodes": nodes}))]) == 2
        assert f"error: topology: nodes: {nodes}\nhint: a whole number from 1 to 1000" in capsys.readouterr().err


@pytest.mark.parametrize("mapper", ["wave-greedy", "heft"])
@pytest.mark.parametrize(
    ("wish", "said"),
    [("needs: {gpus: 2}", "no node can run task 'second'"), ("node: node9", "task 'second' wants node 'node9'")],
)
def test_an_app_that_cannot_be_placed_is_refused_as_by_agents(scenario, capsys, mapper, wish, said):
    path = scenario(submit={"mapper": mapper})
    (path.parent / "app" / "app_config.yaml").write_text(APP.replace("children: [home]", f"children: [home], {wish}"))
    assert main(["simulate", str(path)]) == 3
    assert f"error: not placeable: {said}" in capsys.readouterr().err


@pytest.mark.parametrize("event", ["at 0 kill node1", "at 0 unplug node1"])
def test_a_node_that_is_dead_when_the_app_is_submitted_is_named(scenario, capsys, event):
    assert main(["simulate", str(scenario(events=[event]))]) == 2
    said = capsys.readouterr().err
    assert "error: node1 is dead when the app is submitted\nhint: let events come after" in said


def test_a_node_that_is_cut_off_when_the_app_is_submitted_does_not_answer(scenario, capsys):
    assert main(["simulate", str(scenario(events=["at 0 cut node1"]))]) == 4
    assert "error: node1 does not answer submit" in capsys.readouterr().err


def test_items_for_a_cluster_of_which_nobody_lives_end_the_rehearsal(scenario, capsys):
    path = scenario(
        topology={"nodes": 2}, submit={"items": 9, "every_s": 1}, events=["at 3 kill node1", "at 3 kill node2"]
    )
    assert main(["simulate", str(path)]) == 1
    assert "error: no node is alive to take items" in capsys.readouterr().err


def test_a_file_that_is_no_yaml_or_not_there_is_a_usage_error(tmp_path, capsys):
    (tmp_path / "x.yaml").write_text("app: [")
    assert main(["simulate", str(tmp_path / "x.yaml")]) == 2
    assert main(["simulate", str(tmp_path / "y.yaml")]) == 2
    assert main(["simulate"]) == 2
    assert "error: which scenario?" in capsys.readouterr().err
