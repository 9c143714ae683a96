"""Jupiter v4 folders: every file that counts, what was common in the wild, and what mistakes are answered with."""

import json

import pytest

from jupiter_agent.core.app import AppSpec, parse_app
from jupiter_agent.errors import UsageError

SCRIPT = b"import os\ndef task(onefile, pathin, pathout):\n    return []\ndef main(): ...\n"
LINES = """\
5
split 1 true left right \t
left 1 false join

right 1 ordered join
join 2 true home   \r
feed 1 false feed
"""
CONFIG = {
    "taskname_map": {
        "split": ["cut", True, "a", 2, 0.5, None, ["x"], 2**70],
        "left": ["side", True],
        "right": "side.py",
        "feed": ["feed", False, "split"],
    },
    "exec_profiler": {"left": False, "split": "True"},
    "threshold": 3,
}


def parse(lines: str = LINES, config: object = CONFIG, *more: str, **content: bytes) -> AppSpec:
    files = {f"scripts/{name}.py": SCRIPT for name in ("cut", "side", "join", "feed")}
    files["configuration.txt"] = lines.encode()
    if config is not None:
        files["scripts/config.json"] = config if isinstance(config, bytes) else json.dumps(config, indent=1).encode()
    files |= dict.fromkeys(more, b"") | {name.replace("__", "/"): data for name, data in content.items()}
    return parse_app("old", files.keys(), files.__getitem__)


def refusal(lines: str = LINES, config: object = CONFIG, **content: bytes) -> str:
    with pytest.raises(UsageError) as caught:
        parse(lines, config, **content)
    assert caught.value.hint
    return caught.value.message


def test_a_v4_folder_is_read_whole() -> None:
    spec = parse(LINES, CONFIG, "sample_input/1botnet.ipsum", "name_convert.txt", "requirements.txt")
    assert [(t.name, t.script, t.contract, t.children, t.parents) for t in spec.tasks] == [
        ("split", "scripts/cut.py", "v4", ["left", "right"], []),
        ("left", "scripts/side.py", "v4", ["join"], ["split"]),
        ("right", "scripts/side.py", "v4", ["join"], ["split"]),
        ("join", "scripts/join.py", "v4", ["home"], ["left", "right"]),
    ]
    args = ["a", 2, 0.5, None, '["x"]', str(2**70)]
    assert [t.extra for t in spec.tasks] == [
        {"inputs": 1, "flag": "true", "args": args, "profile_at_home": False},
        {"inputs": 1, "flag": "false", "args": [], "profile_at_home": True},
        {"inputs": 1, "flag": "false", "args": [], "profile_at_home": False},
        {"inputs": 2, "flag": "true", "args": [], "profile_at_home": False},
    ]
    (feed,) = spec.nondag
    assert (feed.name, feed.contract, feed.children, feed.script) == ("feed", "v4", [], "scripts/feed.py")
    assert feed.extra == {
        "inputs": 1, "flag": "false", "args": ["split"], "profile_at_home": False, "role": "nondag", "host": "",
        "main": True,
    }  # fmt: skip
    assert (spec.name, spec.contract, spec.requirements, spec.mapper) == ("old", "v4", True, "")
    assert (spec.entries, spec.fed, spec.item_files) == (["split"], [], {"split": 1})
    assert spec.samples == ["sample_input/1botnet.ipsum"]
    assert spec.warnings == []
    assert spec.home_task is None


@pytest.mark.parametrize("name", ["configuration.txt", "DAG.txt", "dag.txt"])
@pytest.mark.parametrize("home", ["home", "scheduler", ""])
def test_the_oldest_folders_are_read_too(name: str, home: str) -> None:
    files = {name: f"1\na 3 true {home}\n".encode(), "scripts/a.py": SCRIPT}
    spec = parse_app("old", files.keys(), files.__getitem__)
    assert [t.children for t in spec.tasks] == [[home and "home"] if home else []]
    assert spec.item_files == {"a": 3}


def test_a_folder_with_an_app_config_yaml_is_no_v4_folder() -> None:
    config = b"application: {tasks: {dag_tasks: [{name: n, base_script: n.py}]}}"
    spec = parse(**{"app_config.yaml": config, "n.py": b"def process(inputs, ctx): ..."})
    assert [t.contract for t in spec.tasks] == ["native"]


def test_a_task_called_scheduler_is_that_task() -> None:
    spec = parse(
        "2\ncut 1 true scheduler\nscheduler 1 true home", None, "scripts/x", **{"scripts__scheduler.py": SCRIPT}
    )
    assert spec.tasks[0].children == ["scheduler"]


def test_a_process_function_beside_task_means_nothing_in_a_v4_folder() -> None:
    both = SCRIPT + b"def process(x): ...\n"
    assert parse("1\ncut 1 true home", None, **{"scripts__cut.py": both}).tasks[0].contract == "v4"


def test_a_task_beside_the_dag_may_feed_it() -> None:
    config = {"taskname_map": {"feed": ["feed", False], "lone": ["side", False], "gone": ["side", True]}}
    spec = parse("2\nfeed 1 false join feed\njoin 2 true home", config)
    assert [(t.name, t.children) for t in spec.nondag] == [("feed", ["join"])]
    assert (spec.fed, spec.entries) == (["join"], ["join"])
    assert spec.warnings == [
        "scripts/config.json:7: task 'lone' has no line in the DAG's file; ignored",
        "scripts/config.json:11: task 'gone' has no line in the DAG's file; ignored",
    ]


@pytest.mark.parametrize(
    ("scripts", "is_dag", "script", "main"),
    [
        ({"side.py": SCRIPT}, True, "scripts/side.py", False),
        ({"side.py": SCRIPT}, False, "scripts/side.py", True),
        ({"side.py": b"import sys\nprint(sys.argv)\n"}, True, "scripts/side.py", True),
        ({"watch.sh": b"#!/bin/sh\n"}, False, "scripts/watch.sh", True),
    ],
)
def test_a_task_beside_the_dag_may_be_a_program(
    scripts: dict[str, bytes], is_dag: bool, script: str, main: bool
) -> None:
    config = {"taskname_map": {"x": [script[8:-3], is_dag, "-p", 80]}}
    files = {f"scripts__{name}": source for name, source in scripts.items()}
    (task,) = parse("2\ncut 1 true home\nx 1 false x", config, **files).nondag
    assert (task.script, task.extra["main"], task.extra["args"]) == (script, main, ["-p", 80])


def test_a_task_of_the_dag_is_no_shell_script() -> None:
    assert "no script 'watch' in scripts/" in refusal(
        "1\nx 1 true", {"taskname_map": {"x": ["watch", True]}}, **{"scripts__watch.sh": b""}
    )


def test_lines_beyond_the_number_in_line_1_are_ignored_and_said() -> None:
    spec = parse("1\ncut 1 true home\n\nside 1 true home", None)
    assert [t.name for t in spec.tasks] == ["cut"]
    assert spec.warnings == ["configuration.txt:4: line 1 says 1 lines follow; what comes after them is ignored"]
    spec = parse("7\ncut 1 true home", None)
    assert spec.warnings == ["configuration.txt:1: line 1 says 7 lines follow, there are 1"]


def test_what_counts_for_nothing_is_warned_about() -> None:
    spec = parse("2\ncut 0 True feed side side\nside 1 FALSE\nfeed 1 false feed".replace("2\n", "3\n"), None)
    assert [t.extra["flag"] for t in spec.tasks] == ["true", "false"]
    assert spec.tasks[0].children == ["side"]
    assert [w.split(": ", 1) for w in spec.warnings] == [
        ["configuration.txt:2", "NUM_INPUTS of 'cut' is 0; it is taken as 1"],
        ["configuration.txt:2", "task 'cut' names the non-DAG task 'feed', which is sent nothing; ignored"],
        ["configuration.txt:2", "task 'cut' names the child 'side' twice; once counts"],
    ]


def test_placements_are_wishes_and_unknown_tasks_only_warned_about() -> None:
    content = {"input_node.txt": b"task node\nsplit node2 node3\n\nleft n_1\nnobody node1\nright\nfeed node4 \n"}
    spec = parse(**content)
    assert spec.placements == {"split": "node2", "feed": "node4"}
    assert [w.split(":")[1] for w in spec.warnings] == ["4", "5", "6"]
    assert "'nobody' is no task of the app" in spec.warnings[1]


@pytest.mark.parametrize(
    ("ini", "ports", "warnings"),
    [
        (b"[DOCKER_PORT]\n    A = 57021\n[SVC_PORT]\n    A = 57030\n", ["57030:57021"], 0),
        (b"[DOCKER_PORTS]\nA=5\nB=x\n[OTHER]\nk: v\n", ["5:5"], 1),
        (b"[OTHER]\n", [], 0),
        (b"no section\n", [], 1),
        (b"[A]\n[[[\n= 3\n; c\n", [], 2),
    ],
)
def test_ports_come_from_the_ini_file(ini: bytes, ports: list[str], warnings: int) -> None:
    spec = parse(**{"app_config.ini": ini})
    assert (spec.ports, len(spec.warnings)) == (ports, warnings)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("", "configuration.txt:1: the file is empty"),
        ("\n\n", "configuration.txt:1: the file is empty"),
        ("0\n", "configuration.txt:1: the app has no tasks"),
        ("\ncut 1 true home\n", "configuration.txt:2: line 1 must be the number of lines that follow, not 'cut 1"),
        ("1\ncut\n", "configuration.txt:2: task 'cut' lacks NUM_INPUTS and FLAG"),
        ("1\ncut 1\n", "configuration.txt:2: task 'cut' lacks its FLAG"),
        ("1\ncut true 1 home\n", "configuration.txt:2: NUM_INPUTS of 'cut' must be a whole number, not 'true'"),
        ("1\ncut -1 true home\n", "configuration.txt:2: NUM_INPUTS of 'cut' must be a whole number"),
        ("1\ncut 9999999 true home\n", "configuration.txt:2: NUM_INPUTS of 'cut' must be a whole number"),
        ("1\nc_t 1 true home\n", "configuration.txt:2: 'c_t' is no task name"),
        ("1\nhome 1 true home\n", "configuration.txt:2: 'home' means the job's home"),
        ("2\ncut 1 true\n\ncut 1 true\n", "configuration.txt:4: a second task 'cut' (the first: configuration.txt:2)"),
        ("1\ncut 1 true cat\n", "configuration.txt:2: task 'cut' names the unknown child 'cat'"),
        ("2\ncut 1 true side\nside 1 true cut\n", "configuration.txt:3: the tasks form a cycle: cut -> side -> cut"),
        ("1\ncut 1 false cut\n", "configuration.txt:1: the app has no tasks in its DAG"),
        ("1\nnone 1 true home\n", "configuration.txt:2: task 'none' is not in taskname_map of scripts/config.json"),
    ],
)
def test_a_mistake_in_a_line_is_refused_with_its_number(lines: str, what: str) -> None:
    assert refusal(lines, None).startswith(what)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (b'{\n"a": 1,\n}', "scripts/config.json:3: not JSON"),
        (b"[" * 100_000, "scripts/config.json:1: not JSON that can be read"),
        (b"[]", "scripts/config.json:1: the file must be an object"),
        (b"\n\xff", "scripts/config.json:2: not UTF-8"),
        ({"taskname_map": []}, "scripts/config.json:2: taskname_map must be an object"),
        ({"exec_profiler": 3}, "scripts/config.json:2: exec_profiler must be an object"),
        ({"taskname_map": {"cut": 3}}, "scripts/config.json:3: taskname_map of 'cut' must be a list"),
        ({"taskname_map": {"cut": []}}, "scripts/config.json:3: taskname_map of 'cut' must be a list"),
        ({"taskname_map": {"cut": ["gone", True]}}, "scripts/config.json:3: no script 'gone' in scripts/"),
        ({"taskname_map": {"cut": ["../cut", True]}}, "scripts/config.json:3: no script '../cut'"),
    ],
)
def test_a_mistake_in_config_json_is_refused_with_its_line(config: object, what: str) -> None:
    assert refusal("1\ncut 1 true home", config).startswith(what)


def test_arguments_that_could_not_travel_are_refused() -> None:
    with pytest.raises(UsageError, match="holds half a character"):
        parse("1\ncut 1 true home", b'{"taskname_map": {"cut": ["cut", true, "\\ud800"]}}')


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (b"def run(): ...", "scripts/cut.py:1: the script defines no 'task'"),
        (b"print 'old'", "scripts/cut.py:1: not Python"),
        (b"def task(q, pathin, pathout, task_name): ...", "scripts/cut.py:1: 'task' must take three arguments"),
    ],
)
def test_a_script_without_the_v4_contract_is_refused(script: bytes, what: str) -> None:
    assert refusal("1\ncut 1 true home", None, **{"scripts__cut.py": script}).startswith(f"configuration.txt:2: {what}")


def test_a_child_called_home2_is_another_home_where_no_task_has_the_name():
    spec = parse(LINES.replace("join 2 true home ", "join 2 false home home2 "))
    [end] = [task for task in spec.tasks if task.contract == "sink"]
    assert (end.name, end.parents, end.children) == ("home2", ["join"], ["home"])
    assert next(task for task in spec.tasks if task.name == "join").children == ["home", "home2"]
    assert (spec.contract, spec.warnings) == ("v4", parse().warnings)
