"""The objects that `jupiter ctl` shows, as plain data in the shapes of DESIGN.md, 10. Times are wall seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupiter_agent.core.home import Home
from jupiter_agent.core.intake import Item
from jupiter_agent.core.job import ACTIVE, Job
from jupiter_agent.core.local import Local
from jupiter_agent.core.messages.control import Call
from jupiter_agent.core.paging import page
from jupiter_agent.core.strikes import UNPLACEABLE
from jupiter_agent.errors import EXIT_UNPLACEABLE, EXIT_UNREACHABLE, JupiterError

Row = dict[str, Any]
NameOf = Callable[[str], str]

DONE, FAILED = "done", "failed"
COUNTERS = ("queued", "running", "done", "failed", "restarts", "seconds")


def job_row(home: Home, name: NameOf) -> Row:
    """One line of `get jobs`."""
    job = home.job
    states = home.states()
    return {
        "id": job.id,
        "name": job.spec.name,
        "app": job.spec.app,
        "state": home.state,
        "degraded": home.copies.degraded,
        "home": name(job.home.writer),
        "deputies": [name(node) for node in home.copies.deputies.nodes],
        "copies": {name(node): standing for node, standing in home.copies.standing().items()},
        "mapper": job.spec.mapper,
        "mapping": {task: name(job.registers[task].node) for task in [*job.tasks, *job.side] if task in job.registers},
        "epoch": job.home.epoch,
        "items_in": len(states),
        "items_done": states.count(DONE),
        "items_failed": states.count(FAILED),
        "submitted_at": job.spec.submitted_at,
        "mapping_s": home.mapping_s,
        "makespan_s": home.makespan_s,
        "bundle": job.spec.bundle.hex(),
        "size": job.spec.bundle_size,
    }


def stranded_row(job: Job, name: NameOf) -> Row:
    """The same for a job whose home is lost, as far as one of its hosts knows it."""
    return {
        "id": job.id,
        "name": job.spec.name,
        "app": job.spec.app,
        "state": job.over or "waiting",
        "degraded": True,
        "home_lost": True,
        "home": name(job.home.writer),
        "deputies": [],
        "copies": {},
        "mapper": job.spec.mapper,
        "mapping": {task: name(register.node) for task, register in job.registers.items()},
        "epoch": job.home.epoch,
        **dict.fromkeys(("items_in", "items_done", "items_failed"), 0),
        "submitted_at": job.spec.submitted_at,
        "mapping_s": None,
        "makespan_s": None,
    }


def is_row_of(call: Call, row: Row) -> bool:
    """Whether all that is asked is the row of a job that is over, for which its hosts will do."""
    return call.verb == "get" and str(call.args.get("kind")).startswith("job") and row["state"] not in ACTIVE


def home_lost(row: Row) -> JupiterError:
    """What is known of a job whose home does not answer."""
    if row["state"] in ACTIVE:
        what, then = f"job {row['id']} has lost its home, node {row['home']}", "the job goes on"
    else:
        what, then = (
            f"job {row['id']} is {row['state']}; its home, node {row['home']}, is lost",
            "its results are there",
        )
    return JupiterError(what, f"start that agent again with its state folder: {then}", EXIT_UNREACHABLE)


def job_detail(local: Local, name: NameOf) -> Row:
    """`describe job`: the row, its tasks, who decided what, what waits, and what failed."""
    assert local.home is not None
    home, job = local.home, local.job
    registers = [
        {"task": r.task, "node": name(r.node), "node_id": r.node, "decided_by": name(r.writer), "epoch": r.epoch,
         "why": r.why}
        for r in job.registers.values()
    ]  # fmt: skip
    errors = [error for name, state in home.items.states() if state == FAILED and (error := home.items[name].error)]
    return {
        **job_row(home, name),
        **_verdict(home, errors),
        "seed": job.spec.seed,
        "params": job.spec.params,
        "weights": job.spec.weights,
        "remap": job.spec.remap,
        "input_at": {entry: name(job.input_from(entry)[0]) for entry in job.dag.entries},
        "intake_open": home.intake.open,
        "moved_bytes": home.moved_bytes,
        "controllers": {task: above or "home" for task, above in job.controllers.items()},
        "predicted_seconds": job.spec.seconds,
        "edge_bytes": job.spec.edge_bytes,
        "tasks": task_rows(local, name),
        "registers": registers,
        "errors": page(errors),
    }


def _verdict(home: Home, errors: list[dict[str, Any]]) -> Row:
    """What a job that no mapper could place ends with, and why."""
    if home.refused is not None:
        return dict(zip(("exit_code", "reason"), home.refused, strict=True))
    unplaceable = next((error for error in errors if error.get("kind") == UNPLACEABLE), None)
    return {"exit_code": EXIT_UNPLACEABLE, "reason": unplaceable["error"]} if unplaceable else {}


def task_rows(local: Local, name: NameOf) -> list[Row]:
    """`get tasks`: counters as the hosts last reported them; those of a task that moved are added up."""
    assert local.home is not None
    home, job, waits = local.home, local.job, {} if local.job.over else local.wave.waits()
    reported: dict[str, list[tuple[str, list[float]]]] = {}
    latest = {node: max(boot for of, boot in home.reports if of == node) for node, _ in home.reports}
    for (node, boot), report in home.reports.items():
        for task, state, *counts in report.tasks:
            here = task in job.registers and job.registers[task].node == node and boot == latest[node]
            now = [count if here and not job.over else 0 for count in counts[:2]]
            reported.setdefault(task, []).append((state if here else "", [*now, *counts[2:]]))
    rows = []
    for task in job.tasks:
        mine = reported.get(task, [])
        register = job.registers.get(task)
        state = (
            job.over
            or ("waiting" if task in waits else "")
            or next((row[0] for row in mine if row[0]), "assigned" if register else "unmapped")
        )
        sums = [sum(column) for column in zip(*(counts for _, counts in mine), strict=True)] or [0] * len(COUNTERS)
        rows.append(
            {
                "job": job.id,
                "name": task,
                "node": name(register.node) if register else None,
                "state": state,
                "decided_by": name(register.writer) if register else None,
                **dict(zip(COUNTERS, sums, strict=True)),
                **({"why": waits[task]} if task in waits else {}),
            }
        )
    return rows


def item_row(home: Home, item: Item) -> Row:
    """One line of `get items`."""
    return {
        "id": f"{home.job.id}/{item.name}",
        "name": item.name,
        "job": home.job.id,
        "state": home.shown(item),
        "attempts": item.attempts or int(item.state != "queued"),
        "submitted_at": item.submitted_at,
        "finished_at": item.finished_at,
        "results": [result_row(sink, obj.name, obj.sha256, obj.size) for sink, obj in item.results],
        **({"error": item.error} if item.error else {}),
        **({"conflicts": item.conflicts} if item.conflicts else {}),
    }


def result_row(sink: str, name: str, sha256: bytes, size: int) -> Row:
    return {"sink": sink, "name": name, "sha256": sha256.hex(), "size": size}


def results(home: Home, name: NameOf) -> Row:
    """The `results` verb: what each item that is over came to, and who has the bytes."""
    rows = [
        {
            "name": item.name,
            "state": home.shown(item),
            "results": item_row(home, item)["results"],
            **_missing(home, item),
        }
        for item in home.items.values()
    ]
    return {"job": home.job.id, "state": home.state, "home": name(home.job.home.writer), "items": rows}


def _missing(home: Home, item: Item) -> Row:
    """Digests of results that are not at home just now: on nodes it cannot reach, or nowhere."""
    away = sorted({obj.sha256.hex() for _, obj in item.results if not home.has(obj)})
    return {"missing": away} if away else {}


def explanation(local: Local, name: NameOf, tasks: list[str]) -> list[Row]:
    """What this node decided: the task, where, why, and the candidates with their numbers; or what it waits for."""
    rows, waits = list[Row](), {} if local.job.over else local.wave.waits()
    for task in tasks:
        register = local.job.registers.get(task)
        if task in waits:
            rows.append({"task": task, "node": None, "why": waits[task], "candidates": []})
        if register is None or task in waits:
            continue
        candidates = [
            {"node": each.node, "cost_s": each.cost_s, "start_s": each.start_s, "finish_s": each.finish_s,
             "transfer_s": each.transfer_s, "reasons": each.reasons}
            for each in local.wave.considered.get(task, [])
        ]  # fmt: skip
        rows.append(
            {
                "task": task,
                "node": name(register.node),
                "decided_by": name(register.writer),
                "controller": local.job.controllers.get(task) or "home",
                "why": register.why,
                "candidates": candidates,
                "history": local.moves.rows(task, name),
            }
        )
    return rows
