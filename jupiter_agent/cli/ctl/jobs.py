"""Verbs of a job's life: submit, wait, close, cancel."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from jupiter_agent.cli.ctl import intake, saving, waiting
from jupiter_agent.cli.ctl.session import Session, session_of
from jupiter_agent.cli.ctl.waiting import Job
from jupiter_agent.cli.guard import say
from jupiter_agent.core.app import AppSpec
from jupiter_agent.errors import UsageError

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id, unique prefix of one, name or `last`.")]
Timeout = Annotated[float | None, typer.Option(metavar="S", min=0, help="Seconds to wait; exit code 6 after them.")]


class Profiling(StrEnum):
    AUTO = "auto"
    FULL = "full"
    OFF = "off"


def submit(
    ctx: typer.Context,
    app: Annotated[Path, typer.Argument(metavar="APP", help="Folder of the app.")],
    mapper: Annotated[str | None, typer.Option(metavar="M", help="heft, wave-greedy, wave-auction, ...")] = None,
    inputs: Annotated[list[Path] | None, typer.Option("--input", metavar="PATH", help="A file, or a folder's.")] = None,
    samples: Annotated[bool, typer.Option("--samples", help="Run the app's own samples.")] = False,
    keep_open: Annotated[bool, typer.Option("--keep-open", help="More inputs will follow with `put`.")] = False,
    param: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A parameter of the app.")] = None,
    name: Annotated[str | None, typer.Option(metavar="N", help="Name of the job.")] = None,
    mapping: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML or JSON {task: node}.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Seed of the mapper.")] = None,
    ep: Annotated[Profiling, typer.Option(help="How much to profile before mapping.")] = Profiling.AUTO,
    wait: Annotated[bool, typer.Option("--wait", help="Return when all its items are done or failed.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="As --wait, and print the job whenever it changes.")] = False,
    timeout: Timeout = None,
    results: Annotated[Path | None, typer.Option(metavar="DIR", help="Wait and write the results there.")] = None,
) -> int:
    """Run an app: send its folder and inputs to the cluster as a new job."""
    session = session_of(ctx)
    started = session.clock.now()
    args: dict[str, Any] = {
        "app": app.resolve().name, "mapper": mapper, "name": name, "seed": seed, "params": parse_params(param or []),
        "mapping": read_mapping(mapping) if mapping else None, "ep": ep.value, "keep_open": keep_open,
    }  # fmt: skip
    spec, bundle = pack(app)
    if samples and not spec.samples:
        raise UsageError(f"{app} has no samples", "put files into its samples/ folder, or name some: --input PATH")
    found = intake.collect([*(inputs or []), *(app / sample for sample in spec.samples if samples)])
    if results:
        _check_folder(results)
    args |= {**_bundle_fields(session, bundle), "inputs": intake.send(session.client, found)}
    job = dict(session.call("submit", {key: value for key, value in args.items() if value is not None}))
    if not (wait or watch or results or timeout is not None):
        session.output.object("jobs", job)
        return 0
    left = None if timeout is None else max(0.0, timeout - (session.clock.now() - started))
    closed = bool(found) and not keep_open
    return follow_to_end(session, job["id"], left, closed, watch, results)


def pack(app: Path) -> tuple[AppSpec, bytes]:
    """The app and its bundle; UsageError, with file and line, for an app that would be refused."""
    if not app.is_dir():
        raise UsageError(f"{app}: no such folder", "APP is the folder with app_config.yaml or configuration.txt")
    from jupiter_agent.adapters.bundle import check_folder, make_bundle

    spec = check_folder(app)
    bundle = make_bundle(app)
    with bundle.file:
        return spec, bundle.file.read()


def _bundle_fields(session: Session, bundle: bytes) -> dict[str, Any]:
    blob = intake.blob_fields(session.client, bundle)
    return {"bundle": blob["sha256"], "size": blob["size"]}


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--results {folder}: {error.strerror}") from error


def parse_params(given: list[str]) -> dict[str, str]:
    """k=v pairs; the last of a key wins."""
    params: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--param {pair}: not K=V")
        params[key] = value
    return params


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


def follow_to_end(
    session: Session, job: str, timeout_s: float | None, closed: bool, watch: bool = False, folder: Path | None = None
) -> int:
    """Wait, print the job (each change of it with `watch`), write the results; returns the exit code."""
    progress = waiting.Progress(session)
    show = _Changes(session).show if watch else progress
    try:
        settled = waiting.settle(session, job, timeout_s, closed, show)
        progress.close()
        if folder:
            body = session.ask_patiently("results", {"job": job})
            say(f"{len(saving.save(session, body['items'], folder))} results written to {folder}")
    except KeyboardInterrupt:
        progress.close()
        return waiting.detached(job)
    finally:
        progress.close()
    if not watch:
        session.output.object("jobs", settled)
    return waiting.outcome(session, settled)


class _Changes:
    """Prints a job whenever it is not what it was."""

    def __init__(self, session: Session) -> None:
        self._output = session.output
        self._last = ""

    def show(self, job: Job) -> None:
        if (now := json.dumps(job, sort_keys=True, default=str)) != self._last:
            self._output.stream("jobs", job)
            self._last = now


def wait(ctx: typer.Context, job: JobArgument, timeout: Timeout = None) -> int:
    """Wait until all items accepted so far are done or failed."""
    session = session_of(ctx)
    return follow_to_end(session, waiting.one_job(session, job)["id"], timeout, closed=False)


def close(ctx: typer.Context, job: JobArgument) -> None:
    """No more inputs will come: the job ends when its items are done."""
    _act(ctx, "close", job)


def cancel(ctx: typer.Context, job: JobArgument) -> None:
    """Stop a job for good; results it has stay available."""
    _act(ctx, "cancel", job)


def _act(ctx: typer.Context, verb: str, job: str) -> None:
    session = session_of(ctx)
    session.call(verb, {"job": job})
    session.output.object("jobs", waiting.one_job(session, job))


VERBS: dict[str, Callable[..., Any]] = {"submit": submit, "wait": wait, "close": close, "cancel": cancel}
