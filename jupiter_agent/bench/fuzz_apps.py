"""Inputs for fuzzing the parsers of apps: good apps of every contract, and one for each mistake they know."""

from __future__ import annotations

import json

SEPARATOR = b"\n=====\n"
NAMES = ("app_config.yaml", "configuration.txt", "scripts/config.json", "input_node.txt", "app_config.ini", "t.py")

NATIVE, V5 = "def process(inputs, ctx): return None\n", "def task(q, pathin, pathout, task_name): ...\n"
TASK = "{name: a, base_script: t.py}"
FULL = """\
jupiter_config: {task_mapper: heft, wave_weights: {net: 1, cpu: 2.5}}
node_map: {home: master, node1: n0}
application:
  name: x
  port_mappings: ["9000:8000", "7000"]
  params: {a: "b", c: 1}
  max_open: 3
  tasks:
    home: {base_script: null, children: [a]}
    dag_tasks:
      - &a {name: a, base_script: t.py, children: [b, home], timeout_s: 1.5, parallel: 2, retries: 1, node: n-1}
      - {<<: *a, name: b, children: c}
      - {name: c, base_script: t.py, children: }
      - {name: d, command: [./run.sh, -k, "3"], children: [home]}
    nondag_tasks:
"""
HOMES = """\
node_map: {home: n1, home2: n2, home3: n3, node1: n0}
application:
  tasks:
    home: {base_script: u.py, children: [a], params: {k: v}, k8s_host: node1}
    home2: {base_script: u.py, children: [a]}
    home3: {k8s_host: bad_host!}
    dag_tasks:
      - {name: a, base_script: u.py, children: [b, home2, home3], replay: 3, k8s_host: node1}
      - {name: b, base_script: t.py, children: [home], replay: 2, k8s_host: "not a host"}
    nondag_tasks:
      - {name: n, base_script: u.py, children: [a], k8s_host: node1}
      - {name: o, base_script: u.py}
"""

TASKS = [
    "[a]",
    "x",
    "[{name: home, base_script: t.py}]",
    "[{name: 'a b', base_script: t.py}]",
    "[{name: home7, base_script: t.py}]",
    f"[{TASK}, {TASK}]",
    "[{name: a, base_script: t.py, children: [b]}, {name: b, base_script: t.py, children: [a]}]",
    "[{name: a, base_script: t.py, children: [b, b, a, home]}, {name: b, base_script: t.py}, "
    "{name: c, base_script: t.py}]",
    "[{name: a, base_script: t.py, command: [x]}]",
    "[{name: a, command: 'ls | wc'}]",
    "[{name: a, command: './run.sh -k \"3'}]",
    "[{name: a, command: './run.sh -k 3'}]",
    "[{name: a, command: []}]",
    f"[{{name: a, command: [x{', y' * 1100}]}}]",
    "[{name: a, command: [./none.sh]}]",
    "[{name: a, command: [./rum.sh]}]",
    "[{name: a, command: [/bin/true]}]",
    "[{name: a, command: [[x]]}]",
    '[{name: a, command: ["x\\0"]}]',
    "[{name: a, base_script: t.py, node: 'not a node'}]",
    "[{name: a, base_script: t.py, retries: x}]",
    "[{name: a, base_script: t.py, retries: -1}]",
    "[{name: a, base_script: t.py, timeout_s: .nan}]",
    "[{name: a, base_script: t.py, parallel: " + "9" * 5000 + "}]",
    '[{name: "\\ud800", base_script: t.py}]',
    "[{name: a, base_script: none.py}]",
    "[{name: a, base_script: ../t.py}]",
    "[{name: a}]",
    "[{name: a, base_script: t.py, unknown: 1}]",
    "[{name: a, name: b, base_script: t.py}]",
    "[{<<: [1], name: a}]",
    "[{<<: x, name: a}]",
    "[&x {<<: *x, name: a, base_script: t.py}]",
    "[&a {k: 1}, {<<: [" + "*a, " * 150 + "*a], name: a}]",
    "[{name: aa, base_script: t.py, children: [ab]}, {name: b, base_script: t.py}]",
    "[{[a]: b}]",
    "[]",
    "[{name: a, base_script: t.py, children: {a: b}}]",
    "[{name: a, base_script: t.py, children: [a, home, home]}]",
    f"[{{<<: [{', '.join(['{k: 1}'] * 110)}], name: a}}]",
]
WHOLE = [
    "",
    "\n",
    "# nothing\n",
    "- a\n",
    "application: 1\n",
    "[" * 3000,
    'a: "\\UFFFFFFFF"\n',
    "a: {b: [\n",
    "x" * 300_000,
    "\t",
    "a: !!binary x\n",
    f"application: {{name: 'a/b', tasks: {{dag_tasks: [{TASK}]}}}}\n",
    f"application: {{name: [a], tasks: {{dag_tasks: [{TASK}]}}}}\n",
    f"jupiter_config: {{task_mapper: 'a b'}}\napplication: {{tasks: {{dag_tasks: [{TASK}]}}}}\n",
    f"application: {{port_mappings: ['99999:1'], tasks: {{dag_tasks: [{TASK}]}}}}\n",
    f"application: {{port_mappings: [x], tasks: {{dag_tasks: [{TASK}]}}}}\n",
    f"application: {{port_mappings: ['9000:8000', '80'], tasks: {{dag_tasks: [{TASK}]}}}}\n",
    f"application: {{tasks: {{dag_tasks: [{TASK}], nondag_tasks: [{{name: n, command: [x]}}]}}}}\n",
    f"application: {{tasks: {{dag_tasks: [{TASK}], nondag_tasks: [{{name: n, base_script: t.py}}]}}}}\n",
    "application: {tasks: {dag_tasks: [{name: a, base_script: t.py, children: [n]}], "
    "nondag_tasks: [{name: n, base_script: u.py, children: [a]}]}}\n",
    "node_map: {home: n1, home2: n2}\n"
    "application: {tasks: {home2: {}, dag_tasks: [{name: home2, base_script: t.py}]}}\n",
    f"application: {{tasks: {{home: {{base_script: t.py, children: [a]}}, dag_tasks: [{TASK}]}}}}\n",
    f"application: {{tasks: {{home: {{children: [zz]}}, dag_tasks: [{TASK}]}}}}\n",
]
SCRIPTS = [
    "",
    "x = 1\n",
    V5,
    NATIVE + V5,
    "async def process(inputs, ctx): ...\n",
    "def process(): ...\n",
    "def task(a, b): ...\n",
    "def process(a, *, b): ...\n",
    "process = print\n",
    "process: int = 3\n",
    "from x import process\nimport task\n",
    "if x:\n    def process(a, b): ...\nelse:\n    pass\n",
    "try:\n    def process(a, b): ...\nexcept E:\n    x = 1\nfinally:\n    pass\n",
    "for x in y: pass\nwhile 0: pass\nclass process: pass\n",
    "def process(\n",
    "\0",
    "(" * 5000,
    "-" * 100_000 + "1",
    "#" * 1_100_000,
    "\udcff",
]

V4 = "4\na 1 true b c \nb 2 false d\nc 1 ordered d\nd 2 true home\nx 1 false x\n"
V4_MAP = '{"taskname_map": {"a": ["a", true, 1], "b": ["a"], "x": ["a", false]}, "exec_profiler": {"a": false}}'
V4_NODES, V4_INI = "home 10.0.0.1\na node1\nb bad_host! x\nzz n1\n", "[DOCKER_PORT]\nSVC = 5000\nx\n[OTHER]\ny=1\n"
V4_LINES = [
    "\n",
    "0\n",
    "x\na 1 true b\n",
    "2\na 1 true a b b home\nb 1 true\n",
    "2\na 1 true b\nb 1 true a\n",
    "1\na\n",
    "1\na 1 maybe b\n",
    "1\na x true b\n",
    "2\na 1 true b\na 1 true c\n",
    "1\nhome 1 true a\n",
    "1\na 1 true zz\n",
    "9\na 1 true home\n",
    "3\na 1 true x\nb 1 true home\nx 1 true x\n",
    "2\na 1 true home\nx 1 true x\n",
    "1\na 1 true home\nx 1 true\n",
]
V4_MAPS = [
    "",
    "[]",
    "{",
    "[" * 3000,
    '{"a": ' + "9" * 6000 + "}",
    '{"taskname_map": []}',
    '{"taskname_map": {"a": 1}}',
    '{"taskname_map": {"a": []}}',
    json.dumps({"taskname_map": {"a": ["a", True, *["x"] * 1100]}}),
    '{"taskname_map": {"a": ["none", true]}}',
    '{"taskname_map": {"a": [1, true]}}',
    '{"taskname_map": {"a": ["a", false, "/x", 1.5, null, "a.py", "\\ud800"]}}',
    '{"taskname_map": {"a": ["a", false, "b.py", [1], "home"], "x": ["x.sh", false]}}',
    '{"taskname_map": {"a": ["python3 a.py", false], "x": ["run.sh", false, "x"], "zz": ["a", true]}}',
    '{"taskname_map": {"x": ["x", false, "b"], "a": ["a", true]}, "exec_profiler": 3}',
]
V4_SIDES = [
    ("a\n", "KEY = 1\n"),
    ("a n1 n2\n\nb " + "x" * 300 + "\n", "[DOCKER_PORT]\nSVC = 70000\nFLASK_DOCKER = x\n"),
    (
        "home n1\nhome n2\n",
        "[PORT]\nFLASK_SVC = 30000\n[DOCKER_PORT]\nFLASK_DOCKER = 5000\n[DOCKER_PORT]\nA_DOCKER: 1\n",
    ),
    ("\udcff", "\udcff"),
]
V4_PORTS = "[CONFIG]\nFLASK_SVC = 6100\nFLASK_DOCKER = 8888\n[PORT_MAPPINGS]\n6100 = 8888\n"


def apps() -> list[bytes]:
    """Each as its files, in the order of `NAMES`, with `SEPARATOR` between them."""
    listed = [*WHOLE, *(f"application: {{tasks: {{dag_tasks: {tasks}}}}}\n" for tasks in TASKS)]
    made = [_files(config, script=NATIVE) for config in [FULL, HOMES, *listed]]
    made += [_files(FULL.replace("t.py", "u.py"))]
    made += [_files(f"application: {{tasks: {{dag_tasks: [{TASK}]}}}}\n", script=script) for script in SCRIPTS]
    made += [_files("", lines, V4_MAP, V4_NODES, V4_INI) for lines in [V4, *V4_LINES]]
    made += [_files("", V4, table, V4_NODES, V4_PORTS) for table in V4_MAPS]
    made += [_files("", V4, V4_MAP, *sides) for sides in V4_SIDES]
    made += [_files("", V4, V4_MAP, "", "", script) for script in SCRIPTS[1:]]
    return made


def _files(*parts: str, script: str = "") -> bytes:
    texts = [*parts, *[""] * (len(NAMES) - len(parts))]
    texts[-1] = texts[-1] or script
    return SEPARATOR.join(text.encode("utf-8", "surrogateescape") for text in texts)
