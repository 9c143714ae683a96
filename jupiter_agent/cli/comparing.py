"""`jupiter bench compare`: its table, CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jupiter_agent.cli import units
from jupiter_agent.cli.kinds import Column
from jupiter_agent.cli.output import Format, Output
from jupiter_agent.errors import EXIT_FAILED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from jupiter_agent.bench.compare import Settings

Row = Mapping[str, Any]


def run(settings: Settings, form: Format) -> int:
    """Compare and print; 1 when a run failed."""
    from jupiter_agent.bench.compare import compare, summary

    runs = compare(settings)
    rows, output = summary(runs, settings.mappers), Output(form)
    if form is Format.CSV:
        print(as_csv(rows), end="")
    elif output.is_data:
        every = [msgspec.to_builtins(each) for each in runs]
        output.fields("comparison", {"net": settings.net, "seed": settings.seed, "summary": rows, "runs": every})
    else:
        output.table(rows, COLUMNS)
    return EXIT_FAILED if any(row["failed"] for row in rows) else EXIT_OK


def as_csv(rows: list[dict[str, Any]]) -> str:
    """A header and a line per row; empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def names(text: str) -> list[str]:
    """`heft,wave-greedy` as a list. UsageError for none."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise UsageError("--mappers: none is named", "such as --mappers heft,wave-auction")
    return list(dict.fromkeys(found))


def settings(app: list[Path | str], mappers: str, **given: Any) -> Settings:
    """What was asked for on the command line: only what was said, paths as they were typed."""
    from jupiter_agent.bench.compare import Settings

    given["inputs"] = [Path(each) for each in given.get("inputs") or []]
    return Settings([Path(each) for each in app], names(mappers), **given)


def _between(key: str, show: Any) -> Any:
    def shown(row: Row) -> str:
        if row[key] is None:
            return "-"
        if row[f"{key}_low"] is None:
            return f"{show(row[key])} -"
        return f"{show(row[key])} [{show(row[f'{key}_low'])}, {show(row[f'{key}_high'])}]"

    return shown


COLUMNS = (
    Column("APP", "app"), Column("MAPPER", "mapper"), Column("RUNS", "runs"), Column("FAILED", "failed"),
    Column("MAKESPAN", "", _between("makespan_s", units.seconds)),
    Column("VS FIRST", "", _between("vs_first", "{:.3f}".format)),
    Column("ITEMS/S", "", _between("throughput_hz", "{:.3g}".format)),
    Column("BYTES", "bytes", units.size), Column("MOVES", "moves"), Column("MAPPED AFTER", "mapping_s", units.seconds),
)  # fmt: skip
