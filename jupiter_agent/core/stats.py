"""`stats JOB`: what the records of a job's runs add up to (the original's Enter, Execute, Finish and what follows)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jupiter_agent.core.home import Home

Row = dict[str, Any]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie, between neighbours linearly."""
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p90, p99, max and mean of values in seconds; None without any."""
    if not values:
        return dict.fromkeys(("p50", "p90", "p99", "max", "mean"))
    ordered = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    quantiles: dict[str, float | None] = {name: percentile(ordered, share) for name, share in shares.items()}
    return {**quantiles, "max": ordered[-1], "mean": sum(ordered) / len(ordered)}


def _edges(runs: list[Row]) -> list[Row]:
    """Per edge that the runs of one task had: bytes, and for those in how long they took to come."""
    found: dict[tuple[str, str], Row] = {}
    for run in runs:
        ins, outs = run.get("edges_in") or {}, run.get("edges_out") or {}
        for (src, dst), size, seconds in [
            *(((src, run["task"]), size, ended - began) for src, (size, began, ended) in ins.items()),
            *(((run["task"], dst), size, None) for dst, size in outs.items()),
        ]:
            row = found.setdefault((src, dst), {"src": src, "dst": dst, "bytes": 0, "transfer": []})
            row["bytes"] += size
            row["transfer"] += [] if seconds is None else [seconds]
    return [{**row, "transfer": spread(row["transfer"])} for row in found.values()]


def statistics(home: Home, name: Callable[[str], str], runs: list[Row]) -> Row:
    """The body of `stats`: items, tasks, and the runs themselves, in order of their start."""
    job = home.job
    times = [i.finished_at - i.submitted_at for i in home.items.values() if i.finished_at and i.state == "done"]
    items = {f"{key}_s": value for key, value in spread(times).items()}
    tasks = []
    for task in job.tasks:
        mine = [run for run in runs if run["task"] == task]
        rows = [row for report in home.reports.values() for row in report.tasks if row[0] == task]
        tasks.append(
            {
                "task": task,
                "node": name(job.registers[task].node) if task in job.registers else None,
                "runs": len(mine),
                "failed": sum(row[5] for row in rows),
                "restarts": sum(row[6] for row in rows),
                "seconds": spread([run["finish"] - run["execute"] for run in mine]),
                "waiting": spread([run["execute"] - run["enter"] for run in mine]),
                "cpu": spread([run.get("cpu_s", 0.0) for run in mine]),
                "peak_bytes": max((run.get("peak_bytes", 0) for run in mine), default=0),
                "bytes_in": sum(run["bytes_in"] for run in mine),
                "bytes_out": sum(run["bytes_out"] for run in mine),
                "edges": _edges(mine),
            }
        )
    ordered = sorted(runs, key=lambda run: (run["execute"], run["item"], run["task"]))
    return {"job": job.id, "items": {"count": len(times), **items}, "tasks": tasks, "runs": ordered}
