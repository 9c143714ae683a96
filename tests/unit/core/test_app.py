"""What an author writes, what comes out, and what every mistake is answered with."""

import sys
import time
from subprocess import run

import msgspec
import pytest
import yaml

from jupiter_agent.core import app_yaml
from jupiter_agent.core.app import AppSpec, parse_app
from jupiter_agent.core.app_parse import mapper_name
from jupiter_agent.core.app_script import contract
from jupiter_agent.errors import UsageError

SCRIPT = b"def process(inputs, ctx):\n    return None\n"

GOOD = """\
jupiter_config:
  namespace_prefix: demo
  task_mapper: heft
application:
  tasks:
    dag_tasks:
      - {name: split, base_script: t.py, children: [left, right]}
      - name: left
        base_script: t.py
        children: join
        timeout_s: 1.5
        parallel: 2
        retries: 0
        node: node2.site
        params: {k: 3, on: yes}
      - {name: right, base_script: t.py, children: [join, home]}
      - {name: join, base_script: t.py, children: null}
"""


def parse(config: str, **files: bytes) -> AppSpec:
    content = {
        "app_config.yaml": config.encode(),
        "t.py": SCRIPT,
        **{k.replace("__", "/"): v for k, v in files.items()},
    }
    return parse_app("demo", content.keys(), content.__getitem__)


def tasks(*lines: str, **files: bytes) -> AppSpec:
    """Tasks stand from line 3 on."""
    return parse("application: {tasks: {dag_tasks: [\n\n" + ",\n".join(lines) + "]}}\n", **files)


def refusal(config: str, **files: bytes) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        parse(config, **files)
    return caught.value.message, caught.value.hint


def tasks_refusal(*lines: str, **files: bytes) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        tasks(*lines, **files)
    return caught.value.message, caught.value.hint


def test_a_good_app_is_read_whole() -> None:
    app = parse(GOOD, samples__b=b"", samples__a=b"", sample_input__c=b"", samples__dot=b"")
    assert (app.name, app.mapper, app.warnings, app.max_open) == ("demo", "heft", [], 64)
    assert app.samples == ["sample_input/c", "samples/a", "samples/b", "samples/dot"]
    split, left, right, join = app.tasks
    assert (split.children, split.parents, split.timeout_s, split.parallel, split.retries) == (
        ["left", "right"],
        [],
        None,
        1,
        2,
    )
    assert (left.children, left.timeout_s, left.parallel, left.retries, left.node) == (
        ["join"],
        1.5,
        2,
        0,
        "node2.site",
    )
    assert left.params == {"k": "3", "on": "yes"}
    assert right.children == ["join", "home"]
    assert (join.children, join.parents, join.script, join.contract) == ([], ["left", "right"], "t.py", "native")


def test_the_spec_survives_message_pack() -> None:
    app = parse(GOOD)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(app), type=AppSpec) == app


def test_children_may_be_null_missing_or_a_bare_string() -> None:
    app = tasks(
        "{name: a, base_script: t.py, children: b}",
        "{name: b, base_script: t.py, children: }",
        "{name: c, base_script: t.py}",
    )
    assert [t.children for t in app.tasks] == [["b"], [], []]


def test_names_that_yaml_takes_for_numbers_or_truth_are_names() -> None:
    app = tasks("{name: 1, base_script: t.py, children: [no]}", "{name: no, base_script: t.py}")
    assert [t.name for t in app.tasks] == ["1", "no"]


@pytest.mark.parametrize(
    ("node_map", "child"), [("{home: master}", "master"), ("{home: h1}", "h1"), ("{master: h2}", "master")]
)
def test_what_node_map_calls_home_means_home_as_a_child(node_map: str, child: str) -> None:
    task = f"{{name: a, base_script: t.py, children: {child}}}"
    app = parse(f"node_map: {node_map}\napplication: {{tasks: {{dag_tasks: [{task}]}}}}")
    assert app.tasks[0].children == ["home"]


def test_a_task_named_like_homes_host_is_that_task() -> None:
    app = parse(
        "node_map: {home: b}\napplication: {tasks: {dag_tasks: "
        "[{name: a, base_script: t.py, children: b}, {name: b, base_script: t.py}]}}"
    )
    assert app.tasks[1].parents == ["a"]


def test_home_without_a_script_and_with_the_entries_as_children_is_fine() -> None:
    config = GOOD.replace(
        "  tasks:\n", "  tasks:\n    home: {base_script: null, children: [split]}\n    nondag_tasks:\n"
    )
    assert parse(config).tasks == parse(GOOD).tasks


def test_options_stand_in_either_section_and_the_application_wins() -> None:
    config = GOOD.replace("application:\n", "application:\n  name: other\n  task_mapper: wave\n  max_open: 5\n")
    config = config.replace("  task_mapper: heft\n", "  task_mapper: heft\n  wave_weights: {net: 2, cpu: 0.5}\n")
    app = parse(config + "  params: {mode: fast, empty: }\n")
    assert (app.name, app.mapper, app.max_open) == ("other", "wave-greedy", 5)
    assert (app.weights, app.params) == ({"net": 2.0, "cpu": 0.5}, {"mode": "fast"})


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("heft", "heft"),
        ("heft_duplicate", "heft"),
        ("heft_dup_no_comm_cost", "heft"),
        ("heft_balance", "heft-balanced"),
        ("heft_balanced", "heft-balanced"),
        ("heft_modified", "heft-balanced"),
        ("wave", "wave-greedy"),
        ("wave_random", "wave-random"),
        ("WAVE_greedy", "wave-greedy"),
        ("tp-heft", "tp-heft"),
    ],
)
def test_mappers_of_the_original_get_our_names(theirs: str, ours: str) -> None:
    assert mapper_name(theirs) == ours


def test_unknown_keys_are_warned_about_with_their_line_and_the_nearest_known_one() -> None:
    app = parse(GOOD.replace("timeout_s", "timeout"))
    assert (
        app.warnings[0] == "app_config.yaml:11: unknown key 'timeout' in a task is ignored (did you mean 'timeout_s'?)"
    )


def test_a_key_given_twice_is_warned_about_and_the_last_counts() -> None:
    app = tasks("{name: a, base_script: t.py, retries: 1, retries: 3}")
    assert app.tasks[0].retries == 3
    assert "'retries' is given twice" in app.warnings[0]


def test_merge_keys_fill_what_a_task_does_not_say_itself() -> None:
    app = tasks(
        "&base {name: a, base_script: t.py, retries: 7}",
        "{<<: *base, name: b}",
        "{<<: [*base, {parallel: 3}], name: c, retries: 1}",
    )
    assert [(t.name, t.retries, t.parallel) for t in app.tasks] == [("a", 7, 1), ("b", 7, 1), ("c", 1, 3)]


# --- refusals: line, what, hint ------------------------------------------------------------------------------


def test_a_missing_config_names_what_is_there_instead() -> None:
    for files, hint in (({"x.py"}, "jupiter app init"), ({"app.yml"}, "app.yml")):
        with pytest.raises(UsageError, match=r"app_config.yaml:1: missing in demo") as caught:
            parse_app("demo", files, lambda name: b"")
        assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("a: 1\nb: [1,\n", 3),
        ("a:\n\tb: 1\n", 2),
        ("a: 1\n b: 2\n", 2),
        ('a: "x\n', 2),
        ("a: *nobody\n", 1),
        ("a: 1\n---\nb: 1\n", 2),
        ("a: 1\nb: \x07\n", 2),
        ("[" * 5000, 1),
        ('a: "\\UFFFFFFFF"', 1),
        ("", 1),
        ("# nothing\n", 1),
        ("a" * 300_000, 1),
    ],
)
def test_broken_yaml_is_refused_with_its_line(config: str, line: int) -> None:
    assert refusal(config)[0].startswith(f"app_config.yaml:{line}: ")


def test_text_that_is_not_utf8_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"app_config.yaml:2: not UTF-8"):
        parse_app("demo", {"app_config.yaml"}, lambda name: b"a: 1\nb: \xff\n")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("just words", "app_config.yaml:1: the file must be a mapping"),
        ("name: x\napplication:\n  name: y\n", "app_config.yaml:3: the app has no tasks"),
        ("name: x\n", "app_config.yaml:1: the app has no tasks"),
        ("application:\n  tasks:\n    dag_tasks: []\n", "app_config.yaml:3: the app has no tasks"),
        ("application:\n  tasks:\n    dag_tasks: {a: 1}\n", "app_config.yaml:3: dag_tasks must be a list"),
        ("application:\n  tasks: [a]\n", "app_config.yaml:2: tasks must be a mapping"),
    ],
)
def test_an_app_without_tasks_is_refused(config: str, message: str) -> None:
    assert refusal(config)[0].startswith(message)


@pytest.mark.parametrize("name", ["a_b", "a/b", "a b", "a.b", "-a", "home", "''", "x" * 64, "ä", '"\\e[31m"'])
def test_a_task_name_that_could_not_travel_is_refused(name: str) -> None:
    message, hint = tasks_refusal(f"{{name: {name}, base_script: t.py}}")
    assert message.startswith("app_config.yaml:3: '")
    assert hint
    assert message.isprintable()


def test_the_hint_for_an_underscore_is_the_name_without_it() -> None:
    assert tasks_refusal("{name: a_b, base_script: t.py}")[1].endswith("write 'a-b'")


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("{base_script: t.py}", "a task without a name", "name:"),
        ("[a]", "a task must be a mapping", ""),
        ("a", "a task must be a mapping", "{name:"),
        ("{name: [a], base_script: t.py}", "name must be a plain value", ""),
        ("{name: a}", "task 'a' has no base_script", "base_script: a.py"),
        ("{name: a, base_script: T.py}", "no script 'T.py'", "did you mean 't.py'?"),
        ("{name: a, base_script: ../t.py}", "no script '../t.py'", ""),
        ("{name: a, base_script: /t.py}", "no script '/t.py'", ""),
        ("{name: a, base_script: t.py, timeout_s: 0}", "timeout_s must be a number above 0", ""),
        ("{name: a, base_script: t.py, timeout_s: -1}", "timeout_s must be a number above 0", ""),
        ("{name: a, base_script: t.py, timeout_s: .nan}", "timeout_s must be a number", ""),
        ("{name: a, base_script: t.py, timeout_s: nan}", "timeout_s must be a number", ""),
        ("{name: a, base_script: t.py, timeout_s: inf}", "timeout_s must be a number", ""),
        ("{name: a, base_script: t.py, timeout_s: true}", "timeout_s must be a number", ""),
        ("{name: a, base_script: t.py, timeout_s: [1]}", "timeout_s must be a plain value", ""),
        ("{name: a, base_script: t.py, parallel: 0}", "parallel must be a whole number from 1", ""),
        ("{name: a, base_script: t.py, parallel: 1.5}", "parallel must be a whole number", ""),
        ("{name: a, base_script: t.py, parallel: yes}", "parallel must be a whole number", ""),
        ("{name: a, base_script: t.py, retries: -1}", "retries must be a whole number from 0", ""),
        ("{name: a, base_script: t.py, retries: many}", "retries must be a whole number", ""),
        ("{name: a, base_script: t.py, node: my_node}", "'my_node' cannot be a node's name", "get nodes"),
        ("{name: a, base_script: t.py, children: {b: c}}", "children must be a list", ""),
        ("{name: a, base_script: t.py, children: [[b]]}", "a child must be a plain value", ""),
        ("{name: a, base_script: t.py, params: [b]}", "params must be a mapping", ""),
        ("{name: a, base_script: t.py, params: {k: [b]}}", "param k must be a plain value", ""),
        ("{name: a, command: ./t.py --k 3}", "the command of 'a' is a shell line", "command: [./t.py, --k, 3]"),
        ('{name: a, command: "cat x | wc"}', "the command of 'a' is a shell line", "[./script.sh]"),
        ('{name: a, command: "echo \'x"}', "the command of 'a' is a shell line", "command: [echo, 'x]"),
        ("{name: a, command: []}", "the command of 'a' is empty", "[./program"),
        ("{name: a, command: ['']}", "the command of 'a' is empty", "[./program"),
        ('{name: a, command: [t, "\\0"]}', "the command of 'a' cannot be run", ""),
        ("{name: a, command: {run: x}}", "command must be a list", ""),
        ("{name: a, command: [t.py], base_script: t.py}", "task 'a' has both a command and a base_script", ""),
        ("{name: a, command: [./t.px, --k]}", "task 'a' runs './t.px', no file of", "did you mean 't.py'?"),
        ("{name: a, command: [../t.py]}", "task 'a' runs '../t.py', no file of", "build it"),
        ("{name: a, base_script: t.py, replay: -1}", "replay must be a whole number from 0", ""),
        ("{<<: 3, name: a}", "'<<' merges mappings only", ""),
        ("{[a]: 3, name: a}", "a key must be a plain word", ""),
    ],
)
def test_a_bad_task_is_refused_with_line_and_hint(line: str, what: str, hint: str) -> None:
    message, given = tasks_refusal(line)
    assert message.startswith(f"app_config.yaml:3: {what}")
    assert hint in given


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
def test_what_both_loaders_of_pyyaml_refuse(loader: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may have been built without libyaml."""
    monkeypatch.setattr(app_yaml, "_Loader", loader)
    half, _ = tasks_refusal('{name: a, base_script: t.py, params: {k: "\\uD800"}}')
    assert half.startswith("app_config.yaml:3: ")
    assert "character" in half
    deep, _ = tasks_refusal("[" * 50_000)
    assert deep == "app_config.yaml:1: not YAML that can be read: RecursionError"
    control, _ = tasks_refusal("{name: ä, base_script: t.py, sinks: ä}", "{name: a\x01, base_script: t.py}")
    assert control.startswith("app_config.yaml:4: not YAML: ")
    assert "allowed" in control


def test_a_duplicate_name_points_at_both_tasks() -> None:
    message, _ = tasks_refusal("{name: a, base_script: t.py}", "{name: a, base_script: t.py}")
    assert message == "app_config.yaml:4: a second task 'a' (the first: app_config.yaml:3)"


def test_an_unknown_child_is_answered_with_the_nearest_name() -> None:
    message, hint = tasks_refusal(
        "{name: detect1, base_script: t.py, children: [detect2, detetc3]}",
        "{name: detect2, base_script: t.py}",
        "{name: detect3, base_script: t.py}",
    )
    assert message == "app_config.yaml:3: task 'detect1' names the unknown child 'detetc3'"
    assert hint == "did you mean 'detect3'?"


def test_a_cycle_is_printed_with_the_line_of_the_edge_that_closes_it() -> None:
    message, hint = tasks_refusal(
        "{name: a, base_script: t.py, children: b}",
        "{name: b, base_script: t.py, children: c}",
        "{name: c, base_script: t.py, children: [home, b]}",
    )
    assert message == "app_config.yaml:5: the tasks form a cycle: b -> c -> b"
    assert "take 'b' out of the children of 'c'" in hint


def test_a_child_named_twice_is_warned_about() -> None:
    app = tasks("{name: a, base_script: t.py, children: [b, b]}", "{name: b, base_script: t.py}")
    assert app.tasks[0].children == ["b"]
    assert "'b' twice" in app.warnings[0]


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ("home: {base_script: home.py, children: [a]}", "no script 'home.py'"),
        ("home: {base_script: t.py, children: [a]}", "'t.py' defines 'process', and home is not run by items"),
        ("nondag_tasks: [{name: x, base_script: t.py}]", "'t.py' defines 'process', and a non-DAG task is not run"),
        ("nondag_tasks: [{name: x, command: [ls]}]", "the non-DAG task 'x' runs a command"),
        ("nondag_tasks: [{name: x}]", "task 'x' has no base_script"),
        ("nondag_tasks: [{name: a, base_script: u.py}]", "a second task 'a'"),
        ("nondag_tasks: [{name: x, base_script: u.py, children: [y]}]", "task 'x' names the unknown child 'y'"),
        ("home: {children: [x]}", "home names the unknown child 'x'"),
        ("home: home.py", "home must be a mapping"),
    ],
)
def test_what_home_cannot_do_is_refused_and_not_ignored(section: str, what: str) -> None:
    names = "".join(
        f"  - {{name: {n}, base_script: t.py, children: {c}}}\n" for n, c in (("a", "b"), ("b", ""), ("c", ""))
    )
    v5 = b"def task(q, pathin, pathout, task_name): ..."
    message, hint = refusal("application:\n tasks:\n  " + section + "\n  dag_tasks:\n" + names, **{"u.py": v5})
    assert what in message
    assert message.startswith("app_config.yaml:")
    assert hint


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("max_open: 0", "max_open must be a whole number"),
        ("task_mapper: [heft]", "task_mapper must be a plain value"),
        ("task_mapper: ../x", "'../x' cannot be a mapper's name"),
        ("wave_weights: {net: -1}", "net must be a number"),
        ("wave_weights: 3", "wave_weights must be a mapping"),
        ("name: a/b", "'a/b' cannot be an app's name"),
        ("name: ..", "'..' cannot be an app's name"),
    ],
)
def test_a_bad_option_is_refused(option: str, what: str) -> None:
    message, hint = refusal(GOOD + f"  {option}\n")
    assert message.startswith(f"app_config.yaml:18: {what}")
    assert hint


# --- contracts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "def process(inputs, ctx): ...",
        "def process(inputs, ctx, extra=1): ...",
        "def process(*args): ...",
        "from mine import process",
        "import mine as process",
        "process = make()",
        "process: object = make()",
        "try:\n    from fast import process\nexcept ImportError:\n    def process(i, c): ...",
        "if True:\n    pass\nelse:\n    def process(i, c): ...",
        "def helper():\n    def task(): ...\ndef process(i, c): ...",
        "x = '\\d'\ndef process(i, c): ...",
    ],
)
def test_a_script_that_binds_process_is_native(source: str) -> None:
    assert contract(source.encode(), "t.py") == "native"


@pytest.mark.parametrize("source", ["def task(q, pathin, pathout, name): ...", "import jupiter_utils\ntask = 1"])
def test_a_script_that_binds_task_is_v5(source: str) -> None:
    assert contract(source.encode(), "t.py") == "v5"
    app = tasks("{name: a, base_script: u.py}", **{"u.py": source.encode()})
    assert (app.tasks[0].contract, app.contract) == ("v5", "v5")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (b"def run(): ...", "u.py:1: the script defines no 'process'"),
        (b"", "u.py:1: the script defines no 'process'"),
        (b"class X:\n def process(self, i, c): ...", "u.py:1: the script defines no 'process'"),
        (b"def process(i, c): ...\ndef task(): ...", "u.py:2: the script defines both 'process' and 'task'"),
        (b"x = 1\nasync def process(i, c): ...", "u.py:2: 'process' must not be async"),
        (b"def process(i): ...", "u.py:1: 'process' must take two arguments"),
        (b"def process(i, c, d): ...", "u.py:1: 'process' must take two arguments"),
        (b"def process(i, c, *, d): ...", "u.py:1: 'process' must take two arguments"),
        (b"def task(onefile, pathin, pathout): ...", "u.py:1: 'task' must take four arguments: q, pathin"),
        (b"async def task(q, i, o, n): ...", "u.py:1: 'task' must not be async"),
        (b"x = 1\ndef process(i, c:", "u.py:2: not Python"),
        (b"\xff\xfe", "u.py:1: not Python"),
        (b"a\x00b", "u.py:1: not Python"),
        (b"(" * 100_000, "u.py:1: not Python"),
        (b"-" * 100_000 + b"1", "u.py:1: not Python"),
        (b"#" * 2_000_000, "u.py:1: the script has 2000000 bytes"),
    ],
)
def test_a_script_without_a_clear_contract_is_refused(source: bytes, what: str) -> None:
    message, _ = tasks_refusal("{name: a, base_script: u.py}", **{"u.py": source})
    assert message.startswith(f"app_config.yaml:3: {what}")


# --- cost -----------------------------------------------------------------------------------------------------


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a0: &a0 {x: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(30))
    merge = "".join(f"b{i + 1}: &b{i + 1} {{<<: [{', '.join([f'*b{i}'] * 9)}]}}\n" for i in range(30))
    start = time.perf_counter()
    assert "no tasks" in refusal(bomb)[0]
    assert "no tasks" in refusal("b0: &b0 {x: 1}\n" + merge + "application: {<<: *b30}\n")[0]
    assert time.perf_counter() - start < 1


def test_a_mapping_merged_into_itself_ends() -> None:
    assert "no tasks" in refusal("application: &a {<<: *a}\n")[0]


def test_a_long_chain_of_merges_is_refused() -> None:
    chain = "b0: &b0 {x: 1}\n" + "".join(f"b{i + 1}: &b{i + 1} {{<<: *b{i}}}\n" for i in range(3000))
    assert "more than 100 mappings" in refusal(chain + "application: *b3000\n")[0]


def test_an_idle_agent_does_not_import_yaml() -> None:
    code = "import sys, jupiter_agent.core.events, jupiter_agent.core.dag; sys.exit('yaml' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


HOMES = """\
node_map: {home: master, home2: n3}
application:
  tasks:
    home: {children: [a]}
    home2: {children: [b]}
    home3: {node: n5}
    dag_tasks:
      - {name: a, base_script: t.py, children: [c, home2]}
      - {name: b, base_script: t.py, children: [c]}
      - {name: c, base_script: t.py, children: [home, home2, home3]}
"""


def test_several_homes_are_sources_with_entries_of_their_own_and_sinks_that_results_name():
    app = parse(HOMES)
    assert app.warnings == []
    assert (app.entries, app.sources) == (["a", "b"], {"home": ["a"], "home2": ["b"]})
    ends = {task.name: task for task in app.tasks if task.contract == "sink"}
    assert {name: (task.parents, task.children, task.node) for name, task in ends.items()} == {
        "home2": (["a", "c"], ["home"], ""),
        "home3": (["c"], ["home"], "n5"),
    }
    assert next(task for task in app.tasks if task.name == "c").children == ["home", "home2", "home3"]
    assert (app.placements, app.contract) == ({"home2": "n3"}, "native")


def test_home_without_children_gets_the_entries_that_no_other_home_has():
    app = parse(HOMES.replace("home: {children: [a]}", "home:"))
    assert app.sources == {"home": ["a"], "home2": ["b"]}


def test_a_home_that_nobody_sends_to_is_a_source_only():
    app = parse(HOMES.replace(", home2]", "]").replace(", home2, home3]", "]"))
    assert [task.name for task in app.tasks] == ["a", "b", "c"]
    assert (app.sources, app.placements) == ({"home": ["a"], "home2": ["b"]}, {})


def test_a_home_of_a_name_that_is_not_declared_is_an_unknown_child():
    with pytest.raises(UsageError, match="unknown child 'home4'"):
        parse(HOMES.replace("home3]", "home4]"))


def test_a_dag_task_may_be_called_home2_where_no_home_is():
    app = parse(
        GOOD.replace("name: join", "name: home2")
        .replace("children: join", "children: home2")
        .replace("[join,", "[home2,")
    )
    assert [task.contract for task in app.tasks] == ["native"] * 4
    assert app.sources == {}


def test_a_home_and_a_task_of_one_name_are_refused():
    with pytest.raises(UsageError, match="'home2' is a home and a task"):
        parse(HOMES.replace("name: b", "name: home2"))


def test_the_script_of_a_further_home_makes_items_beside_the_dag():
    script = b"def task(q, pathin, pathout, task_name):\n    pass\n"
    app = parse(HOMES.replace("home2: {children", "home2: {base_script: h.py, children"), **{"h.py": script})
    [beside] = app.nondag
    assert (beside.name, beside.children, beside.extra) == ("home2-script", ["b"], {"role": "nondag", "host": "n3"})
    assert (app.fed, app.entries) == (["b"], ["a", "b"])
    assert "is not handed the results" in app.warnings[0]
