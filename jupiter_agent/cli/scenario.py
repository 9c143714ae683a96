"""The scenario files of `jupiter simulate` (cli/simulate.py has the format): read, checked, made into a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from jupiter_agent.adapters.bundle import check_folder
from jupiter_agent.cli.ctl.planning import RATES, TIMES
from jupiter_agent.core.submit_args import REMAPS, mapper_name
from jupiter_agent.errors import UsageError
from jupiter_agent.netlab import topology as netlab
from jupiter_agent.sim.rehearsal import LAN_DELAY_S, LAN_RATE, WORDS, Fault, Link, Plan, TaskModel, changed

MOST_BYTES = 64 << 20
"""An object that is simulated is held in memory"""
NODES = 8


class NodeModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    speed: Annotated[float, msgspec.Meta(ge=1e-3, le=1e3)] = 1.0


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.1
    bytes: Annotated[int, msgspec.Meta(ge=1, le=MOST_BYTES)] = 1000
    noise: Annotated[float, msgspec.Meta(ge=0, le=3)] = 0.0


class Submit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: str = ""
    mapper: str = ""
    remap: str = "off"
    items: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    every_s: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    bytes: Annotated[int, msgspec.Meta(ge=8, le=MOST_BYTES)] = 1000
    replicas: Annotated[int, msgspec.Meta(ge=0, le=16)] = 1


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    app: str
    topology: str | dict[str, Any] = msgspec.field(default_factory=lambda: {"nodes": NODES})
    nodes: dict[str, NodeModel] = {}
    tasks: dict[str, Run] = {}
    submit: Submit = Submit()
    events: list[str] = []
    until_s: Annotated[float, msgspec.Meta(gt=0, le=1e7)] = 3600.0
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 1


def read(path: Path, changes: dict[str, Any] | None = None) -> Scenario:
    """`changes`: seed, mapper, remap instead of those in the file. UsageError that names the key that is wrong."""
    import yaml

    try:
        found = msgspec.convert(yaml.safe_load(path.read_text("utf-8")), Scenario)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {error}") from error
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}", "the format: `jupiter simulate --format`") from None
    given = changes or {}
    submit = {key: value for key, value in given.items() if key != "seed"}
    replace = msgspec.structs.replace
    return replace(found, submit=replace(found.submit, **submit), seed=given.get("seed", found.seed))


def to_plan(scenario: Scenario, folder: Path) -> Plan:
    """The scenario with its app and topology read. UsageError for what does not fit together."""
    app = check_folder(folder / scenario.app)
    if unknown := sorted(set(scenario.tasks) - {task.name for task in app.tasks} - {"default"}):
        raise UsageError(f"the app has no task '{unknown[0]}'", f"tasks: {', '.join(t.name for t in app.tasks)}")
    names, links, default, profile = _network(scenario, folder)
    wrong = sorted({*scenario.nodes, *([scenario.submit.at] if scenario.submit.at else [])} - set(names))
    if wrong:
        raise UsageError(f"the topology has no node '{wrong[0]}'", f"nodes: {', '.join(names)}")
    if scenario.submit.remap not in REMAPS:
        raise UsageError(f"remap: '{scenario.submit.remap}'", f"one of: {', '.join(REMAPS)}")
    models = {name: TaskModel(run.seconds, run.bytes, run.noise) for name, run in scenario.tasks.items()}
    submit = {"remap": scenario.submit.remap, "replicas": scenario.submit.replicas}
    return Plan(
        app=app, nodes={name: scenario.nodes.get(name, NodeModel()).speed for name in names}, links=links,
        default=default, tasks=models, usual=models.get("default", TaskModel()), at=scenario.submit.at,
        submit={**submit, "mapper": mapper_name(scenario.submit.mapper or app.mapper)},
        items=scenario.submit.items, every_s=scenario.submit.every_s, input_bytes=scenario.submit.bytes,
        faults=[Fault(*_event(line, names)) for line in scenario.events], until_s=scenario.until_s, profile=profile,
        seed=scenario.seed,
    )  # fmt: skip


def _network(scenario: Scenario, folder: Path) -> tuple[list[str], dict[tuple[str, str], Link], Link, str]:
    """Names of the nodes, links between them, the link of all others, and the profile of membership."""
    given = scenario.topology
    if isinstance(given, dict) and set(given) == {"nodes"} and not isinstance(given["nodes"], list):
        given = netlab.lan(_count(given["nodes"]))
    elif isinstance(given, str):
        given = netlab.load(str(folder / given) if given.endswith(".json") else given)
    if not isinstance(given, dict) or "nodes" not in given or "radio" in given:
        raise UsageError("this topology cannot be simulated", "a wired one: a name, a JSON file, or {nodes: N}")
    nodes = netlab.expanded(given)
    if not nodes:
        raise UsageError("topology: it has no nodes", "at least 1")

    def link(found: dict[str, Any]) -> Link:
        rate = float(found["rate_mbps"]) * 125e3
        return Link(float(found["delay_ms"]) / 1000 or LAN_DELAY_S, rate or LAN_RATE)

    links = {(a["name"], b["name"]): link(netlab.site_link(given, a, b)) for a in nodes for b in nodes if a is not b}
    for item in given.get("links", []):
        base = {**netlab.LINK, **given.get("link", {}), **item}
        for ends in [(item["a"], item["b"])] + [(item["b"], item["a"])] * (not item.get("oneway", False)):
            links[ends] = link(base)
    return [node["name"] for node in nodes], links, Link(), str(given.get("profile", "lan"))


def _count(given: object) -> int:
    """N of `topology: {nodes: N}`."""
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= netlab.MAX_NODES:
        raise UsageError(f"topology: nodes: {given!r}", f"a whole number from 1 to {netlab.MAX_NODES}")
    return given


def _event(line: str, names: list[str]) -> tuple[float, list[str]]:
    """`at SECONDS VERB WORDS...`; UsageError for one that cannot happen."""
    words = line.split()
    try:
        at, (verb, *rest) = float(words[1]), words[2:]
        if words[0] != "at" or at < 0:
            raise ValueError
    except (ValueError, IndexError):
        raise UsageError(f"event {line!r}: not `at SECONDS VERB ...`", f"verbs: {', '.join(WORDS)}") from None
    if verb not in WORDS or not WORDS[verb][0] <= len(rest) <= WORDS[verb][1]:
        raise UsageError(f"event {line!r}: no such event", f"verbs: {', '.join(WORDS)}")
    nodes = {"slow": 1, "link": 2, "heal": 0}.get(verb, len(rest))
    if wrong := sorted(set(rest[:nodes]) - set(names)):
        raise UsageError(f"event {line!r}: there is no node '{wrong[0]}'", f"nodes: {', '.join(names)}")
    try:
        if verb == "slow" and not 1e-3 <= float(rest[1]) <= 1e3:
            raise ValueError(rest[1])
        if verb == "link":
            rest[2:] = [_plain(word) for word in rest[2:]]
            changed(Link(), rest[2:])
    except ValueError:
        raise UsageError(f"event {line!r}: a number or unit that is none", "slow N 4; link A B rate=5mbit") from None
    return at, [verb, *rest]


def _plain(word: str) -> str:
    """`rate=5mbit` in bytes per second, `delay=20ms` in seconds."""
    key, _, value = word.partition("=")
    for unit, factor in sorted({**RATES, **TIMES}.items(), key=lambda each: -len(each[0])):
        if value.endswith(unit):
            return f"{key}={float(value.removesuffix(unit)) * factor}"
    return f"{key}={float(value)}"
