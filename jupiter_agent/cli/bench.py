"""`jupiter bench`: print measured figures beside their bounds, as one JSON object."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from jupiter_agent.cli import comparing
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.output import Format
from jupiter_agent.errors import EXIT_FAILED, EXIT_OK, UsageError

BENCHES = {
    "basics": "jupiter_agent.bench.basics",
    "chaos": "jupiter_agent.bench.chaos",
    "contracts": "jupiter_agent.bench.contracts",
    "drupe": "jupiter_agent.bench.drupe",
    "ep": "jupiter_agent.bench.ep",
    "objects": "jupiter_agent.bench.objects",
    "k8s": "jupiter_agent.bench.k8s",
    "links": "jupiter_agent.bench.links",
    "flow": "jupiter_agent.bench.flow",
    "fleet": "jupiter_agent.bench.fleet",
    "fuzz": "jupiter_agent.bench.fuzz",
    "mapping": "jupiter_agent.bench.mapping",
    "predict": "jupiter_agent.bench.predict",
    "remap": "jupiter_agent.bench.remap",
    "sim": "jupiter_agent.bench.sim",
    "soak": "jupiter_agent.bench.soak",
    "stress": "jupiter_agent.bench.stress",
}
"""Name of a bench -> module with `run(**options) -> list[Figure]`; its parameters are the options it takes."""
FLAGS = {"for_s": "for", "record_to": "record", "folder": "dir", "inputs": "input"}
"""Names of options that are called otherwise in their bench"""
NO_MEASUREMENT = ("stress",)
"""Left out of `--all`"""
_OURS = ("name", "every", "check", "slack", "output")
_OF_COMPARE = ("app", "mappers", "repeat", "inputs", "remap")


def bench(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(BENCHES)}, compare.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every bench, one JSON table.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when a figure misses its bound.")] = False,
    slack: Annotated[float, typer.Option(metavar="X", min=1, help="... by more than this factor.")] = 1.0,
    nodes: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=200, help="fleet, ep, stress: how many nodes.")
    ] = None,
    net: Annotated[str | None, typer.Option(metavar="NET", help="fleet: lan, wan106, manet20, slow.")] = None,
    rows: Annotated[str | None, typer.Option(metavar="ROW,...", help="fleet: only these measurements.")] = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", min=1, help="sim, chaos: how many seeds.")] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="S", min=0, help="sim, chaos: replay this one, with its story.")
    ] = None,
    n: Annotated[int | None, typer.Option("--n", metavar="N", min=10, help="sim: figures of N members.")] = None,
    seconds: Annotated[float | None, typer.Option(metavar="S", min=1, help="fuzz, soak: for so long in all.")] = None,
    mutations: Annotated[bool, typer.Option("--mutations", help="sim, chaos: is each planted bug caught?")] = False,
    short: Annotated[bool, typer.Option("--short", help="mapping: a slice of it, for CI.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="mapping: by real agents, --nodes of them or --net wan8.")
    ] = False,
    data: Annotated[str | None, typer.Option(metavar="FILE", help="predict: replay these runs.")] = None,
    record_to: Annotated[str | None, typer.Option("--record", metavar="FILE", help="predict: keep the runs.")] = None,
    cpu: Annotated[
        float | None, typer.Option(metavar="P", min=1, max=100, help="stress: percent of each core.")
    ] = None,
    for_s: Annotated[float | None, typer.Option("--for", metavar="S", min=1, help="stress: for so long.")] = None,
    folder: Annotated[str | None, typer.Option("--dir", metavar="DIR", help="stress: the local cluster.")] = None,
    virtual: Annotated[bool, typer.Option("--virtual", help="chaos: simulated clusters only.")] = False,
    app: Annotated[list[Path] | None, typer.Option(metavar="APP", help="compare: an app's folder.")] = None,
    mappers: Annotated[str | None, typer.Option(metavar="M,...", help="compare: these, to the first one.")] = None,
    repeat: Annotated[int | None, typer.Option(metavar="N", min=1, help="compare: how often; 10.")] = None,
    inputs: Annotated[list[Path] | None, typer.Option("--input", metavar="PATH", help="compare: not samples.")] = None,
    remap: Annotated[str | None, typer.Option(metavar="MODE", help="compare: active, lazy, off.")] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="compare: table, csv, json, yaml.")] = Format.TABLE,
) -> int:
    """Measure on this machine: real agents on loopback, encryption on."""
    given = {key: value for key, value in ctx.params.items() if key not in _OURS and _is_said(value)}
    if name == "compare":
        if extra := [key for key in given if key not in (*_OF_COMPARE, "net", "nodes", "seed")]:
            raise UsageError(f"bench compare has no --{FLAGS.get(extra[0], extra[0])}", "see `jupiter bench --help`")
        return comparing.run(comparing.settings(given.pop("app", []), given.pop("mappers", ""), **given), output)
    if said := [key for key in given if key in _OF_COMPARE]:
        raise UsageError(f"only `bench compare` has --{FLAGS.get(said[0], said[0])}", "see `jupiter bench --help`")
    if not every and name not in BENCHES:
        raise UsageError(
            f"unknown bench '{name}'" if name else "which bench?", f"one of: {', '.join(BENCHES)}; or --all"
        )
    wanted = [each for each in BENCHES if each not in NO_MEASUREMENT] if every else [name]
    tables, missed = _measured(wanted, every, given, slack)
    print(json.dumps({"apiVersion": "jupiter/v1", "kind": "Bench", "benches": tables}, indent=1))
    return EXIT_FAILED if missed and check else EXIT_OK


def _is_said(value: Any) -> bool:
    """Of an option: 0 is said, too."""
    return value is not None and value is not False and value not in ([], ())


def _measured(
    wanted: list[str], every: bool, options: dict[str, Any], slack: float
) -> tuple[dict[str, list[dict[str, object]]], int]:
    """(rows of each bench, how many figures miss their bound by more than the slack)."""
    tables, missed = {}, 0
    for each in wanted:
        module = importlib.import_module(BENCHES[each])
        figures = module.run(**(_accepted(module, options) if every else _checked(each, module, options)))
        tables[each] = [figure.row() for figure in figures]
        for figure in figures:
            missed += not figure.within(slack)
            say(f"{'ok  ' if figure.ok else 'MISS'} {figure.name}: {figure.value:.4g} {figure.unit}")
    return tables, missed


def _accepted(module: ModuleType, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that this bench has."""
    known = inspect.signature(module.run).parameters
    return {key: value for key, value in options.items() if key in known}


def _checked(name: str, module: ModuleType, options: dict[str, Any]) -> dict[str, Any]:
    """The same; UsageError when it has not all of them."""
    if foreign := sorted(set(options) - set(_accepted(module, options))):
        raise UsageError(f"bench {name} has no --{FLAGS.get(foreign[0], foreign[0])}", "see `jupiter bench --help`")
    return options
