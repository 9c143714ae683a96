"""Jupiter v5 folders, and folders that mix contracts: what becomes of home, non-DAG tasks, hosts and ports."""

import re

import pytest

from jupiter_agent.compat.jupiter_utils.app_config_parser import AppConfig
from jupiter_agent.core.app import AppSpec, parse_app
from jupiter_agent.core.app_parse import mapper_name, mapper_options
from jupiter_agent.errors import UsageError

V5 = b"def task(q, pathin, pathout, task_name): ...\n"
NATIVE = b"def process(inputs, ctx): ...\n"

DEMO = """\
jupiter_config:
  namespace_prefix: demo
  docker_registry: anrg
  task_mapper: heft_duplicate
  circe: original
node_map: {home: master, node1: n0, node2: n1}
application:
  port_mappings: ["9000:8000", 57021]
  tasks:
    home:
      base_script: home.py
      children: [task0]
    dag_tasks:
      - {name: task0, base_script: task.py, children: [task1, task2]}
      - {name: task1, base_script: task.py, children: task2}
      - {name: task2, base_script: task.py, children: master}
    nondag_tasks:
      - {name: custom, base_script: custom.py, k8s_host: node2, children: [task0, task2]}
"""


def parse(config: str, *more: str, **content: bytes) -> AppSpec:
    files = {"app_config.yaml": config.encode(), "home.py": V5, "task.py": V5, "custom.py": V5, "native.py": NATIVE}
    files |= dict.fromkeys(more, b"") | content
    return parse_app("demo", files.keys(), files.__getitem__)


def app(home: str, *tasks: str, nondag: str = "", head: str = "") -> AppSpec:
    """Tasks stand one a line, the first in line 5 (plus the lines of `head`)."""
    lines = "".join(f"      - {task}\n" for task in tasks)
    return parse(f"{head}application:\n  tasks:\n    home: {home}\n    dag_tasks:\n{lines}    nondag_tasks: {nondag}\n")


def task(name: str, children: str = "") -> str:
    return f"{{name: {name}, base_script: task.py, children: {children}}}"


def test_a_v5_folder_is_read_whole() -> None:
    spec = parse(DEMO, "sample_inputs/one.txt", "requirements.txt")
    assert [(t.name, t.contract, t.children, t.parents) for t in spec.tasks] == [
        ("task0", "v5", ["task1", "task2"], []),
        ("task1", "v5", ["task2"], ["task0"]),
        ("task2", "v5", ["home"], ["task0", "task1"]),
    ]
    assert [t.extra for t in spec.tasks] == [{}, {}, {"aliases": {"master": "home"}}]
    assert spec.home_task is not None
    assert (spec.home_task.name, spec.home_task.script, spec.home_task.children) == ("home", "home.py", ["task0"])
    assert (spec.home_task.contract, spec.home_task.extra) == ("v5", {"role": "home"})
    (custom,) = spec.nondag
    assert (custom.name, custom.script, custom.contract, custom.children) == (
        "custom",
        "custom.py",
        "v5",
        ["task0", "task2"],
    )
    assert custom.extra == {"role": "nondag", "host": "n1"}
    assert (spec.entries, spec.fed) == (["task0"], ["task0", "task2"])
    assert spec.placements == {"custom": "n1"}
    assert spec.node_map == {"home": "master", "node1": "n0", "node2": "n1"}
    assert spec.ports == ["9000:8000", "57021:57021"]
    assert (spec.mapper, spec.namespace_prefix, spec.requirements, spec.contract) == ("heft", "demo", True, "v5")
    assert spec.samples == ["sample_inputs/one.txt"]
    assert spec.warnings == []


@pytest.mark.parametrize("home", ["", "{}", "{children: }", "{base_script: home.py}", "{children: []}"])
def test_without_children_of_home_items_enter_where_nobody_else_feeds(home: str) -> None:
    spec = app(home, task("a", "c"), task("b", "c"), task("c", "home"))
    assert (spec.entries, spec.fed, spec.warnings) == (["a", "b"], [], [])


def test_home_may_feed_tasks_that_have_parents() -> None:
    spec = app("{children: [c, a]}", task("a", "c"), task("c"))
    assert spec.entries == ["a", "c"]
    assert spec.tasks[1].parents == ["a"]


def test_a_task_that_nothing_can_reach_is_warned_about_with_its_line() -> None:
    spec = app("{children: [b]}", task("a", "b"), task("b"))
    assert spec.warnings == [
        "app_config.yaml:5: task 'a' can never get an item: no task names it as a child, nor does home "
        "(add it to home's children, or to a task's)"
    ]


def test_a_task_fed_from_beside_the_dag_is_reachable() -> None:
    nondag = "[{name: x, base_script: custom.py, children: [a, home]}]"
    spec = app("{children: [b]}", task("a", "b"), task("b"), nondag=nondag)
    assert (spec.entries, spec.fed, spec.warnings) == (["b"], ["a"], [])
    assert spec.nondag[0].children == ["a", "home"]


def test_edges_into_tasks_beside_the_dag_are_ignored_with_a_warning() -> None:
    nondag = "[{name: x, base_script: custom.py, children: [x, y, a]}, {name: y, base_script: custom.py}]"
    spec = app("{children: [a, y, home]}", task("a", "[x, home]"), nondag=nondag)
    assert spec.tasks[0].children == ["home"]
    assert [t.children for t in spec.nondag] == [["a"], []]
    assert spec.entries == ["a"]
    assert [w.split(": ", 1)[1].split(",")[0] for w in spec.warnings] == [
        "task 'a' names the non-DAG task 'x'",
        "task 'x' names the non-DAG task 'x'",
        "task 'x' names the non-DAG task 'y'",
        "home names the non-DAG task 'y'",
        "home names itself as a child; ignored",
    ]


def test_contracts_may_differ_from_task_to_task() -> None:
    spec = app(
        "{base_script: home.py}",
        task("a", "[b, c]"),
        "{name: b, base_script: native.py, children: d}",
        "{name: c, command: [sort, -u], timeout_s: 3, parallel: 2, children: d}",
        "{name: d, command: cat}",
    )
    assert [(t.contract, t.script, t.command) for t in spec.tasks] == [
        ("v5", "task.py", []),
        ("native", "native.py", []),
        ("command", "", ["sort", "-u"]),
        ("command", "", ["cat"]),
    ]
    assert (spec.contract, spec.tasks[2].timeout_s, spec.tasks[2].parallel) == ("mixed", 3.0, 2)


def test_a_command_may_be_a_file_of_the_app() -> None:
    config = "application: {tasks: {dag_tasks: [{name: a, command: [./bin/run, --k, 3]}]}}"
    assert parse(config, "bin/run").tasks[0].command == ["./bin/run", "--k", "3"]


def test_replay_is_for_v5_tasks() -> None:
    spec = app("", "{name: a, base_script: task.py, replay: 3}", "{name: b, base_script: native.py, replay: 3}")
    assert [t.extra for t in spec.tasks] == [{"replay": 3}, {}]
    assert spec.warnings == ["app_config.yaml:6: replay is for v5 tasks: others keep nothing across items; ignored"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{memory: 2 GiB, disk: 500MB}", {"memory": 2 << 30, "disk": 500_000_000}),
        ("{memory: 1.5g, processes: 64, files: 100, cpus: 2}",
         {"memory": 1_500_000_000, "processes": 64, "files": 100, "cpus": 2}),
        ("{memory: 1048576}", {"memory": 1 << 20}),
        ("{}", None),
    ],
)  # fmt: skip
def test_limits_are_sizes_and_counts(written: str, meant: dict[str, int] | None) -> None:
    spec = app("", f"{{name: a, base_script: task.py, limits: {written}}}")
    assert spec.tasks[0].extra.get("limits") == meant


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{memory: much}", "memory must be a size of 1 MiB or more, not 'much'"),
        ("{disk: 3}", "disk must be a size of 1 MiB or more, not '3'"),
        ("{memory: -1G}", "memory must be a size"),
        ("{memory: 99999999999999T}", "memory must be a size"),
        ("{cpus: 0}", "cpus must be a whole number from 1"),
        ("3", "limits must be a mapping"),
    ],
)
def test_what_is_no_limit_is_refused_with_its_line(written: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        app("", f"{{name: a, base_script: task.py, limits: {written}}}")
    assert refused.value.message.startswith("app_config.yaml:5: ")


def test_home_scripts_and_tasks_beside_the_dag_have_limits_too() -> None:
    home = "{base_script: task.py, children: [a], limits: {memory: 1G}}"
    spec = app(home, "{name: a, base_script: task.py}", nondag="[{name: b, base_script: task.py, limits: {cpus: 1}}]")
    found = {task.name: task.extra.get("limits") for task in (spec.home_task, *spec.tasks, *spec.nondag) if task}
    assert found == {"home": {"memory": 1_000_000_000}, "a": None, "b": {"cpus": 1}}


def test_wished_hosts_are_translated_by_node_map_and_impossible_ones_ignored() -> None:
    spec = app(
        "",
        "{name: a, base_script: task.py, k8s_host: n}",
        "{name: b, base_script: task.py, k8s_host: other.site}",
        "{name: c, base_script: task.py, k8s_host: 'no node'}",
        head="node_map: {n: [h1, h2], empty: }\n",
    )
    assert spec.placements == {"a": "h1", "b": "other.site"}
    assert spec.node_map == {"n": "h1"}
    assert spec.warnings == ["app_config.yaml:8: k8s_host 'no node' cannot be a node's name; ignored"]


@pytest.mark.parametrize("ports", ["['0:80']", "['80:65536']", "[http]", "['80:90:100']", "['80 : 90']", "{80: 90}"])
def test_ports_that_are_none_are_refused_with_their_line(ports: str) -> None:
    with pytest.raises(UsageError, match=r"app_config.yaml:8: .*port") as caught:
        parse(DEMO.replace('["9000:8000", 57021]', ports))
    assert caught.value.hint


def test_mapper_names_keep_what_they_say_about_communication() -> None:
    assert mapper_name("heft_dup_no_comm_cost") == "heft"
    assert mapper_options("heft_dup_no_comm_cost") == {"rank_comm": False}
    assert mapper_options("heft_duplicate") == {}
    assert parse(DEMO.replace("heft_duplicate", "heft_dup_no_comm_cost")).mapper_options == {"rank_comm": False}


def test_scripts_of_several_homes_learn_their_children_from_jupiter_utils(tmp_path):
    (tmp_path / "app_config.yaml").write_text(
        "application: {tasks: {home: {children: a}, home2: {base_script: h.py, children: [b]}, "
        "dag_tasks: [{name: a, children: [home2]}, {name: b, children: [home, home2]}]}}"
    )
    app = AppConfig(str(tmp_path))
    assert (app.child_tasks("home"), app.child_tasks("home2"), app.child_tasks("home2-script")) == (["a"], ["b"], ["b"])
    assert (app.child_tasks("b"), app.base_script("home2")) == (["home", "home2"], "h.py")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{cpus: 4, gpus: 1}", {"cpus": 4.0, "gpus": 1}),
        ("{memory: 2 GiB}", {"memory": 2 << 30}),
        ("{labels: {zone: a, rack: 7}}", {"labels": {"zone": "a", "rack": "7"}}),
        ("{}", None),
    ],
)
def test_needs_are_what_a_node_must_have(written: str, meant: dict[str, object] | None) -> None:
    spec = app("", f"{{name: a, base_script: task.py, needs: {written}}}")
    assert spec.tasks[0].extra.get("needs") == meant


@pytest.mark.parametrize("written", ["3", "{cpus: -1}", "{memory: lots}", "{gpus: 1.5}", "{labels: [a]}"])
def test_needs_that_no_node_can_meet_are_refused(written: str) -> None:
    with pytest.raises(UsageError):
        app("", f"{{name: a, base_script: task.py, needs: {written}}}")
