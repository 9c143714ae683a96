"""Whatever stands in an app's files, the parser answers with an AppSpec or a UsageError that names the line."""

import json
import random
import re

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from jupiter_agent.core.app import AppSpec, parse_app
from jupiter_agent.core.app_script import contract
from jupiter_agent.core.dag import Dag
from jupiter_agent.core.ids import is_node_name
from jupiter_agent.errors import UsageError

SEED = b"""\
jupiter_config: {task_mapper: heft, wave_weights: {net: 1, cpu: 2.5}}
node_map: {home: master, node1: n0}
application:
  name: x
  params: {a: "b", c: 1}
  max_open: 3
  tasks:
    home: {base_script: null, children: [a]}
    dag_tasks:
      - &a {name: a, base_script: t.py, children: [b, home], timeout_s: 1.5, parallel: 2, retries: 1, node: n-1}
      - {<<: *a, name: b, children: c}
      - {name: c, base_script: t.py, children: }
    nondag_tasks:
"""
BITS = [
    b"~",
    b"[",
    b"]",
    b"{",
    b"}",
    b": ",
    b"- ",
    b"*a",
    b"&a ",
    b"<<: *a",
    b"!!int ",
    b"!!binary x",
    b'"\\x00"',
    b"|\n",
]
BITS += [
    b"\n",
    b"\t",
    b"  ",
    b"#",
    b"1e999",
    b".nan",
    b"-1",
    b"home",
    b"b",
    b"\xff",
    b"\xc3\xa4",
    b"? ",
    b"0x10",
    b"'",
    b'"',
]
SCRIPT = b"def process(inputs, ctx):\n    return None\n"


V5 = b"def task(q, pathin, pathout, task_name): ...\n"
V4_SEED = b"4\na 1 true b c \nb 2 false d\nc 1 ordered d\nd 2 true home\nx 1 false x\n"
V4_JSON = b'{"taskname_map": {"a": ["a", true, 1], "b": ["a"], "x": ["a", false]}, "exec_profiler": {"a": false}}'


def check(config: bytes, script: bytes = SCRIPT) -> None:
    check_files({"app_config.yaml": config, "t.py": script, "u.py": V5, "samples/s": b""}, r"app_config\.yaml")


def check_v4(config: bytes, taskmap: bytes = V4_JSON, nodes: bytes = b"", ini: bytes = b"") -> None:
    files = {
        "configuration.txt": config,
        "scripts/config.json": taskmap,
        "input_node.txt": nodes,
        "app_config.ini": ini,
    }
    scripts = {f"scripts/{name}.py": b"def task(f, i, o): ..." for name in "abcdx"}
    check_files({**files, **scripts}, r"configuration\.txt|scripts/config\.json|input_node\.txt|app_config\.ini")


def check_files(files: dict[str, bytes], named: str) -> None:
    try:
        app = parse_app("folder", files, files.__getitem__)
    except UsageError as error:
        refusal = error.message
    else:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(app), type=AppSpec) == app
        dag = Dag(app.tasks, app.entries, app.fed)
        assert [t.parents for t in app.tasks] == [dag.parents(t.name) for t in app.tasks]
        assert app.entries
        assert all(is_node_name(host) for host in app.placements.values())
        assert all(warning.isprintable() for warning in app.warnings)
        return
    assert re.match(rf"(?:{named}):[0-9]+: .", refusal)
    assert refusal.isprintable()
    assert len(refusal) < 600


def test_the_seed_itself_is_an_app() -> None:
    files = {"app_config.yaml": SEED, "t.py": SCRIPT}
    assert [t.children for t in parse_app("x", files, files.__getitem__).tasks] == [["b", "home"], ["c"], []]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_an_app_or_a_usage_error(config: bytes) -> None:
    check(config)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_text_is_an_app_or_a_usage_error(config: str) -> None:
    check(config.encode("utf-8", "surrogatepass"))


def test_a_thousand_mutations_of_a_good_app_are_apps_or_usage_errors() -> None:
    rng = random.Random(5)
    for _ in range(1000):
        config = bytearray(SEED)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(config))
            config[at : at + rng.choice([0, 0, 1, 1, 5, 20])] = rng.choice(BITS)
        check(bytes(config))


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["a", "home", "t.py", "u.py"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_keys = ["name", "base_script", "command", "children", "timeout_s", "parallel", "retries", "node", "params", "odd"]
_keys += ["replay", "k8s_host"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(_keys), _values, max_size=8), max_size=3), _values, _values)
def test_any_value_under_any_key_is_an_app_or_a_usage_error(tasks: list, home: object, option: object) -> None:
    application = {"params": option, "max_open": option, "port_mappings": option} if option else {}
    listed = [{"name": "a", "base_script": "t.py", **t} for t in tasks]
    application["tasks"] = {"dag_tasks": listed[:1], "home": home, "nondag_tasks": listed[1:]}
    check(msgspec.json.encode({"application": application, "node_map": home}))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda s: s.encode("utf-8", "surrogatepass")))
def test_any_script_has_a_contract_or_is_a_usage_error(source: bytes) -> None:
    try:
        said = contract(source, "t.py")
    except UsageError as error:
        said = error.message
    assert re.match(r"native\Z|v5\Z|t\.py:[0-9]+: .", said)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda s: s.encode("utf-8", "surrogatepass")))
def test_a_garbage_configuration_is_a_v4_app_or_a_usage_error(config: bytes) -> None:
    check_v4(config)


_words = st.sampled_from(
    [*"abcdxy0129", "true", "false", "home", "scheduler", "-1", "a_b", "\t", "\n", "\r\n", "\x0c", "\x1f"]
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 6), st.lists(st.lists(_words, max_size=6), max_size=6))
def test_lines_of_plausible_words_are_a_v4_app_or_a_usage_error(count: int, lines: list[list[str]]) -> None:
    check_v4("\n".join([str(count), *(" ".join(line) for line in lines)]).encode())


def test_a_thousand_mutations_of_a_v4_folder_are_apps_or_usage_errors() -> None:
    rng = random.Random(6)
    bits = [*BITS, b" ", b"\n", b"home", b"2 true", b"a", b"null", b"false", b"[]", b"{}"]
    for _ in range(1000):
        files = [
            bytearray(seed) for seed in (V4_SEED, V4_JSON, b"task node\na n1\nb n2 n3\n", b"[SVC_PORT]\na = 1:2\n")
        ]
        for _ in range(rng.randint(1, 4)):
            content = rng.choice(files)
            at = rng.randrange(len(content))
            content[at : at + rng.choice([0, 0, 1, 1, 5, 20])] = rng.choice(bits)
        check_v4(*map(bytes, files))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "taskname_map", "exec_profiler"]), _values, max_size=3), _values)
def test_any_value_in_config_json_is_an_app_or_a_usage_error(taskmap: dict, profiler: object) -> None:
    check_v4(V4_SEED, json.dumps({"taskname_map": taskmap, "exec_profiler": profiler, **taskmap}).encode())
