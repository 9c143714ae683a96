"""`jupiter app generate`: a drawn shape as a ready app, with samples and the results they must give.

Every task waits (or spins) for its seconds and makes, for each child, as many bytes as the edge prescribes. The bytes
are a function of the task, the child and the digests of all inputs, so one wrong byte anywhere shows in the result.
`expected/` is computed by the emitted script itself, run here without its waiting.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from jupiter_agent.apps.shape import Graph, Shape, draw, read_shape

RESULT_BYTES = 1024
SAMPLE_BYTES = 4096
Outputs: TypeAlias = Callable[[str, dict[str, bytes]], dict[str, bytes]]


class App(NamedTuple):
    """`files`: path -> content; `facts`: what `generate` prints."""

    files: dict[str, bytes]
    facts: dict[str, Any]


def generated(shape: Shape, name: str) -> App:
    """The app of a shape: the same bytes for the same shape and name. UsageError as `shape.draw`."""
    graph = draw(shape)
    plan = _plan(shape, graph)
    scripts = "scripts/" if shape.contract == "v4" else ""
    script = _COMMON + _WRAPPERS[shape.contract]
    samples = {f"item{i}.bin": _bytes(f"sample {shape.seed} {i}", SAMPLE_BYTES) for i in range(shape.items)}
    texts = {
        f"{scripts}task.py": script,
        f"{scripts}plan.json": "{\n"
        + ",\n".join(f"{json.dumps(t)}: {json.dumps(p)}" for t, p in plan.items())
        + "\n}\n",
        **(_v4_files(plan) if shape.contract == "v4" else _yaml_file(plan, name)),
        "README.md": _readme(shape, graph, name),
    }
    files = {path: text.encode() for path, text in texts.items()}
    files |= {f"{_SAMPLES[shape.contract]}/{item}": data for item, data in samples.items()}
    outputs = _load(script, plan)
    for item, data in samples.items():
        for sink, result in _evaluate(outputs, plan, data).items():
            files[f"expected/{_result_path(shape.contract, item, sink)}"] = result
    return App(files, _facts(shape, graph))


def _plan(shape: Shape, graph: Graph) -> dict[str, dict[str, Any]]:
    """Task -> how long it works, who feeds it, and bytes per child."""
    name = [f"task{i}" for i in range(len(graph.seconds))]
    plan: dict[str, dict[str, Any]] = {
        name[i]: {"seconds": s, "work": shape.work, "parents": [], "out": {}} for i, s in enumerate(graph.seconds)
    }
    for (u, v), size in graph.edges.items():
        plan[name[u]]["out"][name[v]] = size
        plan[name[v]]["parents"].append(name[u])
    for task in plan.values():
        task["out"] = task["out"] or {"home": RESULT_BYTES}
        task["parents"] = task["parents"] or ["input"]
    return plan


def _load(script: str, plan: dict[str, Any]) -> Outputs:
    """`outputs` of the emitted script, with its plan in place of the file."""
    line = next(line for line in script.splitlines() if line.startswith("PLAN = "))
    space: dict[str, Any] = {"__name__": "generated", "PLAN": plan}
    exec(compile(script.replace(line, ""), "task.py", "exec"), space)
    outputs: Outputs = space["outputs"]
    return outputs


def _evaluate(outputs: Outputs, plan: dict[str, Any], sample: bytes) -> dict[str, bytes]:
    """Sink -> its result for one item; tasks stand in the plan after their parents."""
    arrived: dict[str, dict[str, bytes]] = {task: {} for task in plan}
    results = {}
    for task, entry in plan.items():
        inputs = {"input": sample} if entry["parents"] == ["input"] else arrived.pop(task)
        for child, data in outputs(task, inputs).items():
            if child == "home":
                results[task] = data
            else:
                arrived[child][task] = data
    return results


def _result_path(contract: str, item: str, sink: str) -> str:
    """Where `--results` puts it: <item>/<sink>/<file name>."""
    if contract == "native":
        return f"{item}/{sink}/{sink}"
    if contract == "v5":
        return f"{item}/{sink}/{item}"
    key = item.partition(".")[0]
    return f"{key}/{sink}/{key}_{sink}_home"


def _yaml_file(plan: dict[str, Any], name: str) -> dict[str, str]:
    lines = ["application:", f"  name: {json.dumps(name)}", "  tasks:", "    dag_tasks:"]
    for task, entry in plan.items():
        lines.append(f"      - {{name: {task}, base_script: task.py, children: [{', '.join(entry['out'])}]}}")
    return {"app_config.yaml": "\n".join(lines) + "\n"}


def _v4_files(plan: dict[str, Any]) -> dict[str, str]:
    lines = [str(len(plan))]
    for task, entry in plan.items():
        flag = "true" if len(entry["out"]) == 1 else "false"
        lines.append(f"{task} {len(entry['parents'])} {flag} {' '.join(entry['out'])}")
    taskmap = ",\n".join(f'    "{task}": ["task", true]' for task in plan)
    return {
        "configuration.txt": "\n".join(lines) + "\n",
        "scripts/config.json": '{\n  "taskname_map": {\n' + taskmap + "\n  }\n}\n",
        "name_convert.txt": "".join(f"{task} {task} {task}\n" for task in plan),
    }


def _facts(shape: Shape, graph: Graph) -> dict[str, Any]:
    total = sum(graph.edges.values())
    return {
        "contract": shape.contract, "seed": shape.seed, "tasks": len(graph.seconds), "edges": len(graph.edges),
        "depth": len(graph.levels), "width": max(map(len, graph.levels)), "ccr": graph.ccr(shape.rate),
        "compute_s": sum(graph.seconds), "transfer_s": total / shape.rate, "bytes": total,
    }  # fmt: skip


def _readme(shape: Shape, graph: Graph, name: str) -> str:
    facts = _facts(shape, graph)
    asked = " ".join(f"{key}={value}" for key, value in shape._asdict().items() if value is not None)
    return f"""\
# {name}

A dummy application by `jupiter app generate`, contract {shape.contract}:
{facts["tasks"]} tasks in {facts["depth"]} levels, {facts["edges"]} edges. Asked for:

    {asked}

| of one item | |
|---|---|
| compute of all tasks | {facts["compute_s"]:.6f} s ({shape.work}) |
| bytes on the edges between tasks | {facts["bytes"]} |
| their transfer at the reference rate of {shape.rate:g} bytes/s | {facts["transfer_s"]:.6f} s |
| CCR: that transfer over that compute | {facts["ccr"]:.4f} (asked for: {shape.ccr:g}) |

The way from home to the entry ({SAMPLE_BYTES} bytes) and of the result ({RESULT_BYTES} bytes) is not counted.
What a task sends depends on every byte it got. `expected/` holds what the samples must give, as `--results` writes it:

    jupiter ctl submit {name} --samples --wait --results out && diff -r out {name}/expected
"""


def _bytes(seed: str, size: int) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


_SAMPLES = {"native": "samples", "v5": "sample_inputs", "v4": "sample_input"}

_COMMON = '''\
"""A dummy task: works for its seconds, then makes bytes of the prescribed sizes out of what it got."""

import hashlib
import json
import os
import time

PLAN = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "plan.json")))


def work(task):
    """Seconds on the clock (sleep), or of one core (spin)."""
    seconds = PLAN[task]["seconds"]
    if PLAN[task]["work"] == "sleep":
        time.sleep(seconds)
        return
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        hashlib.sha256(bytes(4096)).digest()


def outputs(task, inputs):
    """{child: bytes}, from {parent: bytes}."""
    digests = [f"{parent} {hashlib.sha256(data).hexdigest()}" for parent, data in sorted(inputs.items())]
    seed = " ".join([task, *digests])
    sizes = PLAN[task]["out"]
    return {child: hashlib.shake_128(f"{seed} to {child}".encode()).digest(size) for child, size in sizes.items()}


'''

_WRAPPERS = {
    "native": """\
def process(inputs, ctx):
    work(ctx.task)
    return outputs(ctx.task, inputs)
""",
    "v5": """\
def task(q, pathin, pathout, task_name):
    arrived = {}  # item -> parent -> bytes
    while True:
        name = q.get()
        src, _, item = name.split("_", 2)
        with open(os.path.join(pathin, name), "rb") as file:
            arrived.setdefault(item, {})["input" if src == "home" else src] = file.read()
        if len(arrived[item]) == len(PLAN[task_name]["parents"]):
            work(task_name)
            for child, data in outputs(task_name, arrived.pop(item)).items():
                with open(os.path.join(pathout, f"{task_name}_{child}_{item}"), "wb") as file:
                    file.write(data)
        q.task_done()
""",
    "v4": '''\
def task(files, pathin, pathout):
    """Files are named <key>_<task>_<child>; what was injected has another form."""
    name = os.environ["TASK"]
    files = [files] if isinstance(files, str) else files
    inputs = {}
    for file in files:
        parts = file.split("_")
        with open(os.path.join(pathin, file), "rb") as content:
            inputs[parts[1] if len(parts) == 3 else "input"] = content.read()
    key = files[0].split("_")[0] if "_" in files[0] else files[0].split(".")[0]
    work(name)
    written = []
    for child, data in outputs(name, inputs).items():
        written.append(os.path.join(pathout, f"{key}_{name}_{child}"))
        with open(written[-1], "wb") as file:
            file.write(data)
    return written
''',
}

__all__ = ["App", "Shape", "generated", "read_shape"]
