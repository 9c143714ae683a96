"""`jupiter simulate SCENARIO`: a job on a network that does not exist, in virtual time, by the code of the agents.

A scenario is a YAML file; only `app` must be there:

    app: example                 a folder, from the file on; only its DAG counts, its code does not run
    topology: wan8               a known one, a JSON file, or {nodes: 8} for a fast local network
    nodes:                       speeds, 1 where nothing is said
      fra: {speed: 2}
    tasks:                       what a run takes at speed 1, and puts out; `default` for those not named
      default: {seconds: 0.2, bytes: 10000, noise: 0.3}
      scan: {seconds: 1.5, bytes: 2000000}
    submit: {at: fra, mapper: heft, remap: active, items: 60, every_s: 0.5, bytes: 100000, replicas: 1}
    events:                      seconds after submit
      - at 10 slow fra 4         runs that begin take 4 times as long; `slow fra 1` ends it
      - at 20 link sfo fra rate=5mbit delay=200ms
      - at 25 kill nyc           start nyc; unplug nyc (silent, as a power cut)
      - at 30 cut blr sin        from all others; heal
    until_s: 3600                virtual seconds, at most
    seed: 1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jupiter_agent.cli import units
from jupiter_agent.cli.output import Format, Output
from jupiter_agent.errors import EXIT_OK, UsageError

LINE = 150


def simulate(
    scenario: Annotated[Path | None, typer.Argument(metavar="SCENARIO", help="A YAML file.")] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")] = Format.TABLE,
    mapper: Annotated[str | None, typer.Option(metavar="M", help="Instead of the scenario's.")] = None,
    remap: Annotated[str | None, typer.Option(metavar="active|lazy|off", help="Instead of the scenario's.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", min=0, help="Instead of the scenario's.")] = None,
    show_format: Annotated[bool, typer.Option("--format", help="Print what a scenario file looks like.")] = False,
) -> int:
    """Rehearse a job on a network that does not exist: topology, app and events from a file, no agent needed."""
    if show_format:
        print(__doc__)
        return EXIT_OK
    if scenario is None:
        raise UsageError("which scenario?", "a YAML file; `jupiter simulate --format` shows what it looks like")
    from jupiter_agent.cli.scenario import read, to_plan
    from jupiter_agent.sim.rehearsal import rehearse

    changes = {"mapper": mapper, "remap": remap, "seed": seed}
    found = read(scenario, {key: value for key, value in changes.items() if value is not None})
    outcome = rehearse(to_plan(found, scenario.parent))
    shown = Output(output)
    if shown.is_data:
        shown.fields("simulation", outcome)
    else:
        print("\n".join(summary(outcome)))
    return int(outcome["exit_code"])


def summary(outcome: dict[str, Any]) -> list[str]:
    """The outcome for people: the story, then the figures."""
    story = [f"{entry['at_s']:9.2f} s  {_short(units.text(entry['what']))}" for entry in outcome["story"]]
    rate = outcome["throughput_hz"]
    return [
        *story,
        "",
        f"{outcome['state']}: {outcome['items_done']} of {outcome['items_in']} items in "
        f"{units.seconds(outcome['makespan_s'])}" + (f", {rate:.3g} items/s" if rate else ""),
        f"mapper {outcome['mapper']}, mapped after {units.seconds(outcome['mapping_s'])}; remap {outcome['remap']}, "
        f"{units.count(outcome['moves'], 'move')}; {units.count(outcome['runs'], 'run')}",
        f"{units.size(outcome['moved_bytes'])} of objects between nodes",
        *(f"  {task} on {node}" for task, node in outcome["mapping"].items()),
    ]


def _short(text: str) -> str:
    """A line of the story; all of it is in `-o json`."""
    return text if len(text) <= LINE else text[: LINE - 3] + "..."
