"""`jupiter app`: write an app, check it, make dummy ones (DESIGN 10)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jupiter_agent.cli.guard import say
from jupiter_agent.cli.output import Format, Output
from jupiter_agent.cli.units import count
from jupiter_agent.errors import EXIT_OK, EXIT_USAGE, UsageError

if TYPE_CHECKING:
    from jupiter_agent.apps.lint import Finding

app = typer.Typer(rich_markup_mode=None, help="Write an app, check it, make dummy ones.")

MAX_APPS = 10_000


class Shown(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Out = Annotated[Shown, typer.Option("--output", "-o", help="What stdout shows.")]


class Contract(StrEnum):
    NATIVE = "native"
    COMMAND = "command"
    V5 = "v5"
    V4 = "v4"


class Generated(StrEnum):
    NATIVE = "native"
    V5 = "v5"
    V4 = "v4"


class Work(StrEnum):
    SLEEP = "sleep"
    SPIN = "spin"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    contract: Annotated[Contract, typer.Option(help="What the tasks are.")] = Contract.NATIVE,
    name: Annotated[str, typer.Option(metavar="NAME", help="The app's name; else the folder's.")] = "",
    output: Out = Shown.TABLE,
) -> int:
    """Write a small app, with samples, ready to run."""
    from jupiter_agent.apps.templates import template, write_app

    called = folder.resolve().name
    if name and contract is Contract.V4 and name != called:
        raise UsageError("a v4 app is named by its folder", f"call the folder {name}, or leave --name out")
    files = template(contract.value, name or called)
    write_app(folder, files)
    shown = Output(Format(output))
    if shown.is_data or output is Shown.NAME:
        row = {"name": name or called, "folder": str(folder), "contract": contract.value, "files": sorted(files)}
        shown.fields("App", row, str(folder))
        return EXIT_OK
    print(folder)
    say(f"{len(files)} files; try: jupiter ctl submit {folder} --samples --wait --results out")
    return EXIT_OK


@app.command()
def lint(
    folder: Annotated[Path, typer.Argument(metavar="APP", help="The app's folder.")],
    offline: Annotated[bool, typer.Option("--offline", help="The nodes reach no package index.")] = False,
    output: Out = Shown.TABLE,
) -> int:
    """Check an app: exit 2 for errors, 0 for none; warnings may stand."""
    from jupiter_agent.apps.lint import lint as findings_of

    findings = findings_of(folder, offline)
    errors = sum(finding.level == "error" for finding in findings)
    shown = Output(Format(output))
    if shown.is_data:
        items = [finding._asdict() for finding in findings]
        counts = {"errors": errors, "warnings": len(findings) - errors}
        shown.fields("Lint", {"app": folder.resolve().name, "ok": not errors, **counts, "items": items})
    else:
        _print_findings(findings, output is Shown.NAME)
        say(f"{count(errors, 'error')}, {count(len(findings) - errors, 'warning')}")
    return EXIT_USAGE if errors else EXIT_OK


def _print_findings(findings: list[Finding], places_only: bool) -> None:
    for finding in findings:
        if places_only:
            print(finding.at())
            continue
        print(f"{finding.at()}: {finding.level}: {finding.what}")
        if finding.hint:
            print(f"    hint: {finding.hint}")


@app.command()
def generate(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC.yaml", help="Its keys are the options, with _.")] = None,
    depth: Annotated[int | None, typer.Option(metavar="N", help="Levels, entry and exit included.")] = None,
    width_min: Annotated[int | None, typer.Option(metavar="N", help="Tasks of an inner level, at least.")] = None,
    width_max: Annotated[int | None, typer.Option(metavar="N", help="Tasks of an inner level, at most.")] = None,
    total_num: Annotated[int | None, typer.Option(metavar="N", help="Tasks in all; 30.")] = None,
    deg_mu: Annotated[float | None, typer.Option(metavar="X", help="Children of a task: mean; 2.")] = None,
    deg_sigma: Annotated[float | None, typer.Option(metavar="X", help="... standard deviation; 0.7.")] = None,
    ccr: Annotated[float | None, typer.Option(metavar="X", help="Transfer seconds per second of work; 0.5.")] = None,
    comp_mu: Annotated[float | None, typer.Option(metavar="S", help="Seconds of work per task: mean; 0.02.")] = None,
    comp_sigma: Annotated[float | None, typer.Option(metavar="S", help="... standard deviation; 0.005.")] = None,
    link_comm_sigma: Annotated[
        float | None, typer.Option(metavar="X", help="Spread of bytes among edges; 0.3 of the mean.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="B/S", help="Bytes per second that ccr refers to; 1.25e6.")
    ] = None,
    items: Annotated[int | None, typer.Option(metavar="N", help="Samples to write; 3.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Same seed, same bytes; 0.")] = None,
    contract: Annotated[Generated | None, typer.Option(help="What the tasks are.")] = None,
    work: Annotated[Work | None, typer.Option(help="How a task spends its seconds.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder: the app, or with --count its parent.")] = Path(
        "dummy"
    ),
    count: Annotated[int | None, typer.Option(metavar="N", help="Write DIR/dummy-1 ... with following seeds.")] = None,
    output: Out = Shown.TABLE,
) -> int:
    """Make dummy applications, with samples and expected results."""
    from jupiter_agent.apps.generate import generated, read_shape
    from jupiter_agent.apps.templates import write_app

    given: dict[str, Any] = {
        "depth": depth, "width_min": width_min, "width_max": width_max, "total_num": total_num, "deg_mu": deg_mu,
        "deg_sigma": deg_sigma, "ccr": ccr, "comp_mu": comp_mu, "comp_sigma": comp_sigma, "rate": rate,
        "link_comm_sigma": link_comm_sigma, "items": items, "seed": seed,
        "contract": contract and contract.value, "work": work and work.value,
    }  # fmt: skip
    shape = read_shape(spec, {key: value for key, value in given.items() if value is not None})
    if count is not None and not 1 <= count <= MAX_APPS:
        raise UsageError(f"--count must be from 1 to {MAX_APPS}, not {count}")
    folders = [out] if count is None else [out / f"dummy-{number}" for number in range(1, count + 1)]
    rows = []
    for number, folder in enumerate(folders):
        made = generated(shape._replace(seed=shape.seed + number), folder.resolve().name)
        write_app(folder, made.files)
        rows.append({"name": folder.resolve().name, "folder": str(folder), **made.facts})
    shown = Output(Format(output))
    if shown.is_data:
        shown.fields("Apps", {"items": rows})
        return EXIT_OK
    for row in rows:
        print(row["folder"])
        say(f"{row['tasks']} tasks, {row['edges']} edges, depth {row['depth']}, ccr {row['ccr']:.3f}")
    return EXIT_OK
