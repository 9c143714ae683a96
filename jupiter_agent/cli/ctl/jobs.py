"""Verbs of a job's life: submit, wait, close, cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl import bundles, feeding, intake, saving, waiting
from jupiter_agent.cli.ctl.arguments import AppArgument, JobArgument, Mapper, Seed, Timeout
from jupiter_agent.cli.ctl.session import session_of
from jupiter_agent.cli.ctl.watching import follow_to_end
from jupiter_agent.cli.guard import say
from jupiter_agent.errors import EXIT_INTERRUPTED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from jupiter_agent.core.app import AppSpec

Places = Annotated[
    list[str] | None,
    typer.Option("--at", metavar="[ENTRY=]NODE", help="Where inputs are put; the mapper counts on it."),
]
Replicas = Annotated[int | None, typer.Option(min=0, max=16, help="How many other nodes keep copies; 1 unless said.")]
Watch = Annotated[
    bool, typer.Option("--watch", help="As --wait; a live tree of tasks on a terminal, else the job at each change.")
]


class Remap(StrEnum):
    ACTIVE = "active"
    LAZY = "lazy"
    OFF = "off"


class Profiling(StrEnum):
    AUTO = "auto"
    FULL = "full"
    OFF = "off"


def submit(
    ctx: typer.Context,
    app: AppArgument,
    mapper: Mapper = None,
    inputs: Annotated[list[Path] | None, typer.Option("--input", metavar="PATH", help="A file, or a folder's.")] = None,
    samples: Annotated[bool, typer.Option("--samples", help="Run the app's own samples.")] = False,
    keep_open: Annotated[bool, typer.Option("--keep-open", help="More inputs will follow with `put`.")] = False,
    param: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A parameter of the app.")] = None,
    name: Annotated[str | None, typer.Option(metavar="N", help="Name of the job.")] = None,
    mapping: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML or JSON {task: node}.")] = None,
    seed: Seed = None,
    ep: Annotated[Profiling, typer.Option(help="How much to profile before mapping.")] = Profiling.AUTO,
    at: Places = None,
    remap: Annotated[
        Remap, typer.Option(help="Move tasks to better places while it runs: active; lazy: for much gain only.")
    ] = Remap.OFF,
    replicas: Replicas = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when all its items are done or failed.")] = False,
    watch: Watch = False,
    timeout: Timeout = None,
    strict_hosts: Annotated[
        bool, typer.Option("--strict-hosts", help="Refuse (exit 3) when a host that the app wishes is not here.")
    ] = False,
    results: Annotated[Path | None, typer.Option(metavar="DIR", help="Wait and write the results there.")] = None,
) -> int:
    """Send an app and inputs, and run them as a job."""
    session = session_of(ctx)
    started = session.clock.now()
    args: dict[str, Any] = {
        "app": app.resolve().name, "mapper": mapper, "name": name, "seed": seed, "params": parse_params(param or []),
        "mapping": read_mapping(mapping) if mapping else None, "ep": ep.value, "keep_open": keep_open,
        "strict_hosts": strict_hosts or None, "input_at": parse_places(at or []) or None,
        "remap": remap.value if remap is not Remap.OFF else None, "replicas": replicas,
    }  # fmt: skip
    spec, bundle = bundles.pack(app)
    if samples and not spec.samples:
        raise UsageError(f"{app} has no samples", "put files into its samples/ folder, or name some: --input PATH")
    found = intake.collect([*(inputs or []), *(app / sample for sample in spec.samples if samples)])
    if results:
        saving.make_folder(results, "--results")
    _warn(spec.warnings)
    args |= bundles.send(session, bundle)
    args = {key: value for key, value in args.items() if value is not None}
    entries = intake.send(session.client, found) if not at else []
    try:
        job = feeding.submit(session, args, found) if at else intake.submit(session, args, entries)
    except KeyboardInterrupt:
        say("interrupted; the job may have been accepted: jupiter ctl get jobs")
        return EXIT_INTERRUPTED
    _warn(job.get("warnings") or [])
    if not (wait or watch or results or timeout is not None):
        session.output.object("jobs", job)
        return EXIT_OK
    if not found and not makes_items(spec):
        say(f"nothing was put yet: `jupiter ctl put {job['id']} PATH...`, then `jupiter ctl close {job['id']}`")
    left = None if timeout is None else max(0.0, timeout - (session.clock.now() - started))
    closed = bool(found) and not keep_open
    return follow_to_end(session, job["id"], left, closed, watch, results)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        say(f"warning: {units.log_text(str(warning))}")


def makes_items(spec: AppSpec) -> bool:
    """Whether the app's own scripts may put items into the job."""
    return spec.home_task is not None or bool(spec.nondag)


def parse_params(given: list[str]) -> dict[str, str]:
    """k=v pairs; the last of a key wins."""
    params: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--param {pair}: not K=V")
        params[key] = value
    return params


def parse_places(given: list[str]) -> dict[str, str]:
    """NODE ('' -> NODE) or ENTRY=NODE; the last of an entry wins."""
    places: dict[str, str] = {}
    for word in given:
        entry, equals, node = word.rpartition("=")
        if not node or (equals and not entry):
            raise UsageError(f"--at {word}: neither NODE nor ENTRY=NODE")
        places[entry] = node
    return places


def read_mapping(path: Path) -> dict[str, str]:
    """{task: node} from a YAML or JSON file."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--mapping {path}: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in content.items()):
        raise UsageError(f"--mapping {path}: not a mapping of task names to node names", 'such as {"detect": "node2"}')
    return content


def wait(ctx: typer.Context, job: JobArgument, timeout: Timeout = None, watch: Watch = False) -> int:
    """Wait until all items so far are done or failed."""
    session = session_of(ctx)
    deadline = None if timeout is None else session.clock.now() + timeout
    found = waiting.first_look(session, job, deadline)["id"]
    left = None if deadline is None else max(0.0, deadline - session.clock.now())
    return follow_to_end(session, found, left, closed=False, watch=watch)


def close(ctx: typer.Context, job: JobArgument) -> None:
    """Say that no more inputs will come.

    The job ends when its items are done.
    """
    _act(ctx, "close", job)


def cancel(ctx: typer.Context, job: JobArgument) -> None:
    """Stop a job for good; results it has stay available."""
    _act(ctx, "cancel", job)


def _act(ctx: typer.Context, verb: str, job: str) -> None:
    session = session_of(ctx)
    session.call(verb, {"job": job})
    session.output.object("jobs", waiting.one_job(session, job))


VERBS: dict[str, Callable[..., Any]] = {"submit": submit, "wait": wait, "close": close, "cancel": cancel}
