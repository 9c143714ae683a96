"""The kinds of objects and the columns of their tables, as data (fields: DESIGN 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jupiter_agent.cli import units
from jupiter_agent.config import did_you_mean
from jupiter_agent.errors import UsageError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """`show` gets the field's value, or the whole object when `field` is ''."""

    title: str
    field: str
    show: Callable[[Any], str] = units.text
    wide: bool = False

    def cell(self, row: Row) -> str:
        return self.show(row.get(self.field) if self.field else row)


@dataclass(frozen=True)
class Kind:
    """`name` singular; `key` makes the id that `-o name` prints."""

    name: str
    key: Callable[[Row], str]
    columns: tuple[Column, ...]


def _field(name: str) -> Callable[[Row], str]:
    return lambda row: units.text(row.get(name))


def _pair(first: str, separator: str, second: str) -> Callable[[Row], str]:
    return lambda row: f"{units.text(row.get(first))}{separator}{units.text(row.get(second))}"


def _state(row: Row) -> str:
    marks = [mark for mark in ("degraded", "conflict", "draining", "full") if row.get(mark)]
    if row.get("reachable") is False and row.get("state") == "alive":
        marks.append("unreachable")
    elif isinstance(row.get("reachable"), str):
        marks.append(str(row["reachable"]))  # via NODE
    return ",".join([units.text(row.get("state")), *marks])


def _latency(row: Row) -> str:
    return _guess(row.get("source")) + units.seconds(row.get("latency_s"))


def _bandwidth(row: Row) -> str:
    rate = units.rate(row.get("bandwidth_bps"))
    return rate if rate == "-" else _guess(row.get("bandwidth_source")) + rate


def _guess(source: Any) -> str:
    return "~" if source == "estimated" else ""


def _items(row: Row) -> str:
    failed = row.get("items_failed") or 0
    return f"{row.get('items_done') or 0}/{row.get('items_in') or 0}" + (f" ({failed} failed)" if failed else "")


def _in(group: str, field: str) -> Callable[[Row], str]:
    """A duration inside a group of them: p50 of `seconds`."""
    return lambda row: units.seconds((row.get(group) or {}).get(field))


def _took(row: Row) -> str:
    start, end = row.get("submitted_at"), row.get("finished_at")
    return "-" if start is None or end is None else units.seconds(end - start)


def _details(row: Row) -> str:
    rest = {key: value for key, value in row.items() if key not in ("seq", "time", "level", "node", "event")}
    return " ".join(f"{key}={units.text(value)}" for key, value in rest.items())


def _results(value: Any) -> str:
    return units.text([f"{r.get('sink')}/{r.get('name')}" for r in value or []])


def _short(value: Any) -> str:
    return units.text(value.hex() if isinstance(value, bytes) else value)[:12]


KINDS: dict[str, Kind] = {
    "nodes": Kind("node", _field("id"), (
        Column("NAME", "name"), Column("STATE", "", _state), Column("ADDRESS", "address"),
        Column("FOUND BY", "found_by"), Column("ID", "id", wide=True),
    )),
    "links": Kind("link", _pair("src", ">", "dst"), (
        Column("SRC", "src"), Column("DST", "dst"), Column("LATENCY", "", _latency),
        Column("BANDWIDTH", "", _bandwidth), Column("LOSS", "loss", units.percent),
        Column("AGE", "age_s", units.seconds), Column("SOURCE", "source"), Column("SAMPLES", "samples", wide=True),
        Column("JITTER", "jitter_s", units.seconds, wide=True), Column("P", "p", units.seconds, wide=True),
        Column("Q (S/B)", "q", wide=True), Column("R (S/B2)", "r", wide=True),
        Column("VARIANCE", "variance", wide=True), Column("RATE IS", "bandwidth_source", wide=True),
    )),
    "jobs": Kind("job", _field("id"), (
        Column("ID", "id"), Column("NAME", "name"), Column("APP", "app"), Column("STATE", "", _state),
        Column("ITEMS", "", _items), Column("HOME", "home"), Column("MAPPER", "mapper"),
        Column("AGE", "submitted_at", units.age), Column("MAKESPAN", "makespan_s", units.seconds),
        Column("DEPUTIES", "deputies", wide=True), Column("EPOCH", "epoch", wide=True),
        Column("MAPPING TOOK", "mapping_s", units.seconds, wide=True), Column("MAPPING", "mapping", wide=True),
    )),
    "tasks": Kind("task", _pair("job", "/", "name"), (
        Column("JOB", "job"), Column("TASK", "name"), Column("NODE", "node"), Column("STATE", "state"),
        Column("QUEUED", "queued"), Column("RUNNING", "running"), Column("DONE", "done"), Column("FAILED", "failed"),
        Column("RESTARTS", "restarts", wide=True), Column("DECIDED BY", "decided_by", wide=True),
        Column("WAITS FOR", "why", wide=True),
    )),
    "items": Kind("item", _field("id"), (
        Column("JOB", "job"), Column("ITEM", "name"), Column("STATE", "state"), Column("ATTEMPTS", "attempts"),
        Column("TOOK", "", _took), Column("AGE", "submitted_at", units.age), Column("RESULTS", "results", _results),
        Column("ID", "id", wide=True),
    )),
    "apps": Kind("app", _field("name"), (
        Column("NAME", "name"), Column("BUNDLE", "bundle", _short), Column("SIZE", "size", units.size),
        Column("JOBS", "jobs"),
    )),
    "events": Kind("event", _field("seq"), (
        Column("TIME", "time", lambda t: units.timestamp(t) if isinstance(t, int | float) else units.text(t)),
        Column("LEVEL", "level"), Column("NODE", "node"), Column("EVENT", "event"),
        Column("DETAILS", "", _details),
    )),
    "results": Kind("result", _field("name"), (
        Column("ITEM", "name"), Column("STATE", "state"), Column("RESULTS", "results", _results),
    )),
    "stats": Kind("stats", _field("task"), (
        Column("TASK", "task"), Column("NODE", "node"), Column("RUNS", "runs"), Column("FAILED", "failed"),
        Column("RESTARTS", "restarts", wide=True),
        Column("P50", "", _in("seconds", "p50")), Column("P90", "", _in("seconds", "p90")),
        Column("P99", "", _in("seconds", "p99")), Column("MAX", "", _in("seconds", "max")),
        Column("MEAN", "", _in("seconds", "mean"), wide=True),
        Column("WAIT P50", "", _in("waiting", "p50")), Column("WAIT P90", "", _in("waiting", "p90"), wide=True),
        Column("WAIT P99", "", _in("waiting", "p99")), Column("WAIT MAX", "", _in("waiting", "max"), wide=True),
        Column("IN", "bytes_in", units.size), Column("OUT", "bytes_out", units.size),
    )),
    "plan": Kind("task", _pair("task", "=", "node"), (
        Column("TASK", "task"), Column("NODE", "node"), Column("START", "start_s", units.seconds),
        Column("FINISH", "finish_s", units.seconds),
    )),
    "planned-links": Kind("link", _pair("src", ">", "dst"), (
        Column("SRC", "src"), Column("DST", "dst"), Column("BYTES AN ITEM", "bytes", units.size),
        Column("TAKES", "seconds", units.seconds),
    )),
    "drain": Kind("node", _field("node"), (Column("NODE", "node"), Column("DRAINING", "draining"))),
    "local": Kind("agent", _field("name"), (
        Column("NAME", "name"), Column("RUNNING", "running"), Column("PID", "pid"), Column("ADDRESS", "address"),
        Column("ID", "id", wide=True), Column("STATE DIR", "state_dir", wide=True),
    )),
    "k8s": Kind("agent", _field("name"), (
        Column("NODE", "name"), Column("STATE", "state"), Column("JOINED", "joined"), Column("ADDRESS", "address"),
        Column("RESTARTS", "restarts"), Column("REASON", "reason"), Column("POD", "pod", wide=True),
    )),
}  # fmt: skip

PARTS: dict[str, tuple[Column, ...]] = {
    "results": (
        Column("SINK", "sink"), Column("NAME", "name"), Column("SIZE", "size", units.size), Column("SHA256", "sha256"),
    ),
}  # fmt: skip
"""Tables inside one object whose rows are not what a list of that name has."""

GETTABLE = ("nodes", "links", "jobs", "tasks", "items", "apps")


def find_kind(word: str) -> str:
    """The plural of a kind given as `jobs` or `job`; UsageError for anything else."""
    for plural in GETTABLE:
        if word.lower() in (plural, KINDS[plural].name):
            return plural
    raise UsageError(f"no kind of object is called {word!r}", did_you_mean(word.lower(), GETTABLE))


def generic_columns(rows: list[Row]) -> tuple[Column, ...]:
    """For objects no table is laid out for: one column per field, in order of appearance; `x_s` is a duration."""
    names = dict.fromkeys(name for row in rows for name in row)
    return tuple(
        Column(
            name.removesuffix("_s").upper().replace("_", " "),
            name,
            units.seconds if name.endswith("_s") else units.text,
        )
        for name in names
    )
