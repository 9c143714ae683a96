"""Whatever stands in an app's files, the parser answers with an AppSpec or a UsageError that names the line."""

import random
import re

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from jupiter_agent.core.app import AppSpec, parse_app
from jupiter_agent.core.app_script import contract
from jupiter_agent.core.dag import Dag
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


def check(config: bytes, script: bytes = SCRIPT) -> None:
    files = {"app_config.yaml": config, "t.py": script, "samples/s": b""}
    try:
        app = parse_app("folder", files, files.__getitem__)
    except UsageError as error:
        refusal = error.message
    else:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(app), type=AppSpec) == app
        assert [t.parents for t in app.tasks] == [Dag(app.tasks).parents(t.name) for t in app.tasks]
        return
    assert re.match(r"app_config\.yaml:[0-9]+: .", refusal)
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
    | st.sampled_from(["a", "home", "t.py"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_keys = ["name", "base_script", "command", "children", "timeout_s", "parallel", "retries", "node", "params", "odd"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(_keys), _values, max_size=8), max_size=3), _values, _values)
def test_any_value_under_any_key_is_an_app_or_a_usage_error(tasks: list, home: object, option: object) -> None:
    application = {"params": option, "max_open": option} if option else {}
    application["tasks"] = {"dag_tasks": [{"name": "a", "base_script": "t.py", **t} for t in tasks], "home": home}
    check(msgspec.json.encode({"application": application, "node_map": home}))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda s: s.encode("utf-8", "surrogatepass")))
def test_any_script_has_a_contract_or_is_a_usage_error(source: bytes) -> None:
    try:
        said = contract(source, "t.py")
    except UsageError as error:
        said = error.message
    assert re.match(r"native\Z|v5\Z|t\.py:[0-9]+: .", said)
