"""`jupiter bench`: print measured figures beside their bounds, as one JSON object."""

from __future__ import annotations

import importlib
import json
from typing import Annotated

import typer

from jupiter_agent.cli.guard import say
from jupiter_agent.errors import EXIT_FAILED, EXIT_OK, UsageError

BENCHES = {"basics": "jupiter_agent.bench.basics", "contracts": "jupiter_agent.bench.contracts"}
"""Name of a bench -> module with `run() -> list[Figure]`."""


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(BENCHES)}.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every bench, one JSON table.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when a figure misses its bound.")] = False,
    slack: Annotated[float, typer.Option(metavar="X", min=1, help="... by more than this factor.")] = 1.0,
) -> int:
    """Measure on this machine: real agents on loopback, encryption on."""
    wanted = list(BENCHES) if every else [name]
    if not every and name not in BENCHES:
        raise UsageError(
            f"unknown bench '{name}'" if name else "which bench?", f"one of: {', '.join(BENCHES)}; or --all"
        )
    tables = {}
    missed = 0
    for each in wanted:
        figures = importlib.import_module(BENCHES[each]).run()
        tables[each] = [figure.row() for figure in figures]
        for figure in figures:
            missed += not figure.within(slack)
            say(f"{'ok  ' if figure.ok else 'MISS'} {figure.name}: {figure.value:.4g} {figure.unit}")
    print(json.dumps({"apiVersion": "jupiter/v1", "kind": "Bench", "benches": tables}, indent=1))
    return EXIT_FAILED if missed and check else EXIT_OK
