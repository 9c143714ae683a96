"""`stats`: how long a job's runs took and waited, as percentiles, and every run for other tools to read.

The agent gives wall seconds. Each run *enters* when its inputs are complete at the task's node, *executes* when a
process takes it up, *finishes* with its outputs written: Elapse = Finish - Enter, Duration = Finish - Execute and
Waiting = Execute - Enter, as in the tables of the original Jupiter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer

from jupiter_agent.cli import units
from jupiter_agent.cli.ctl.arguments import JobArgument
from jupiter_agent.cli.ctl.session import session_of
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.output import Format
from jupiter_agent.errors import UsageError

Run = Mapping[str, Any]

TIMES = ("enter", "execute", "finish")
SPANS = {"elapse": ("enter", "finish"), "duration": ("execute", "finish"), "waiting": ("enter", "execute")}
HEADER = (
    "Item", "Task", "Node", "Enter", "Execute", "Finish", "Elapse", "Duration", "Waiting", "BytesIn", "BytesOut",
    "Seconds", "CpuSeconds", "PeakBytes", "Load", "EdgesIn", "EdgesOut",
)  # fmt: skip


FORGET = "forget"
Forgotten = Annotated[str, typer.Argument(metavar="[APP]", help="After `forget`: only what was learned of this app.")]


def stats(ctx: typer.Context, job: JobArgument, app: Forgotten = "") -> None:
    """How long items and tasks took.

    -o csv gives every run, -o trace every run for chrome://tracing or Perfetto. `stats forget [APP]` has all nodes
    forget what they learned of an app's runs, or everything, links too: the next submit profiles anew.
    """
    session = session_of(ctx)
    if job == FORGET:
        forgotten = session.ask("forget-profiles", {"id": app})["forgotten"]
        say(f"forgotten: {units.text(forgotten)}")
        return
    if app:
        raise UsageError(f"what is '{app}'?", "stats JOB, or: stats forget [APP]")
    body = session.ask("stats", {"job": job})
    output = session.output
    if output.form in _EXPORTS:
        _EXPORTS[output.form](body)
    elif output.is_data:
        output.fields("stats", {**body, "runs": [_dated(run) for run in body.get("runs") or []]})
    else:
        output.items("stats", body.get("tasks") or [])
        if output.form is not Format.NAME:
            print(f"\n{_summary(body.get('items') or {})}")


def _summary(items: Mapping[str, Any]) -> str:
    spans = ", ".join(f"{name} {units.seconds(items.get(name + '_s'))}" for name in ("p50", "p90", "p99", "max"))
    return f"{units.count(items.get('count') or 0, 'item')}: {spans}"


def _dated(run: Run) -> dict[str, Any]:
    """Times as everywhere in JSON, but to the microsecond: runs can be that short."""
    times = {name: run.get(name) for name in TIMES}
    return {**run, **{name: None if t is None else units.timestamp(t, digits=6) for name, t in times.items()}}


def _span(run: Run, name: str) -> float | None:
    start, end = (run.get(edge) for edge in SPANS[name])
    return None if start is None or end is None else max(0.0, end - start)


def _print_csv(body: Mapping[str, Any]) -> None:
    """One line a run, times in seconds since 1970; what a run never reached is empty."""
    import csv

    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(HEADER)
    for run in _by_start(body):
        seconds = [*(run.get(name) for name in TIMES), *(_span(run, name) for name in SPANS)]
        shown = ["" if value is None else f"{value:.6f}" for value in seconds]
        used = (run.get(name) for name in ("bytes_in", "bytes_out", "seconds", "cpu_s", "peak_bytes", "load"))
        table.writerow([run.get("item"), run.get("task"), run.get("node"), *shown, *used, *_edges(run)])


def _edges(run: Run) -> tuple[str, str]:
    """`a:100:START:END b:50:...` and `c:100 d:20`: parents with bytes and transfer, children with bytes."""
    ins = (f"{src}:{size}:{began:.6f}:{ended:.6f}" for src, (size, began, ended) in (run.get("edges_in") or {}).items())
    outs = (f"{dst}:{size}" for dst, size in (run.get("edges_out") or {}).items())
    return " ".join(ins), " ".join(outs)


def _print_trace(body: Mapping[str, Any]) -> None:
    print(json.dumps(units.plain(trace(body)), ensure_ascii=False))


def trace(body: Mapping[str, Any]) -> dict[str, Any]:
    """The Trace Event Format: a process per node, a thread per task, a complete event per run that was executed.

    Microseconds since the first run entered; `otherData` says when that was.
    """
    runs = [run for run in _by_start(body) if _span(run, "duration") is not None]
    begin = min((run["enter"] if run.get("enter") is not None else run["execute"] for run in runs), default=0.0)
    begin = min([begin, *(start for run in runs for _, start, _ in (run.get("edges_in") or {}).values())])
    nodes = _numbers(run.get("node") for run in runs)
    tasks = _numbers(run.get("task") for run in runs)
    names = [_name("process_name", nodes[node], 0, node) for node in nodes]
    pairs = dict.fromkeys((run.get("node"), run.get("task")) for run in runs)
    names += [_name("thread_name", nodes[node], tasks[task], task) for node, task in pairs]
    transfers = [
        {
            "name": f"{src} > {run.get('task')}", "cat": "transfer", "ph": "X", "pid": nodes[run.get("node")],
            "tid": len(tasks) + tasks[run.get("task")], "ts": round((start - begin) * 1e6, 3),
            "dur": round(max(0.0, end - start) * 1e6, 3), "args": {"item": run.get("item"), "bytes": size},
        }
        for run in runs
        for src, (size, start, end) in (run.get("edges_in") or {}).items()
        if end > start
    ]  # fmt: skip
    pairs_in = dict.fromkeys((event["pid"], event["tid"]) for event in transfers)
    by_number = {number: task for task, number in tasks.items()}
    names += [_name("thread_name", pid, tid, f"{by_number[tid - len(tasks)]} (inputs)") for pid, tid in pairs_in]
    events = [
        {
            "name": run.get("item"), "cat": "run", "ph": "X", "pid": nodes[run.get("node")],
            "tid": tasks[run.get("task")], "ts": round((run["execute"] - begin) * 1e6, 3),
            "dur": round((_span(run, "duration") or 0.0) * 1e6, 3),
            "args": {"task": run.get("task"), "waiting_s": _span(run, "waiting"), "bytes_in": run.get("bytes_in"),
                     "bytes_out": run.get("bytes_out"), "cpu_s": run.get("cpu_s"), "load": run.get("load"),
                     "peak_bytes": run.get("peak_bytes")},
        }
        for run in runs
    ]  # fmt: skip
    other = {"job": body.get("job"), "begin": units.timestamp(begin, digits=6)}
    return {"traceEvents": names + events + transfers, "displayTimeUnit": "ms", "otherData": other}


def _name(what: str, pid: int, tid: int, name: Any) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": units.text(name)}}


def _numbers(names: Iterable[Any]) -> dict[Any, int]:
    """1, 2, ... in order of appearance."""
    return {name: number for number, name in enumerate(dict.fromkeys(names), 1)}


def _by_start(body: Mapping[str, Any]) -> list[Run]:
    return sorted(body.get("runs") or [], key=lambda run: next((run[t] for t in TIMES if run.get(t) is not None), 0.0))


_EXPORTS: dict[Format, Callable[[Mapping[str, Any]], None]] = {Format.CSV: _print_csv, Format.TRACE: _print_trace}

VERBS: dict[str, Callable[..., Any]] = {"stats": stats}
