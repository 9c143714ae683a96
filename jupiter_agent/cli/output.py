"""What stdout shows: a table, one JSON or YAML document, one JSON object a line, or bare ids.

On a terminal tables are drawn by rich, which honours NO_COLOR; elsewhere they are plain aligned text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from jupiter_agent.cli import units
from jupiter_agent.cli.kinds import KINDS, PARTS, Column, Row, generic_columns
from jupiter_agent.errors import UsageError

API_VERSION = "jupiter/v1"

STYLES = {
    "alive": "green", "running": "cyan", "mapping": "cyan", "completed": "green", "done": "green", "yes": "green",
    "waiting": "yellow", "queued": "yellow", "suspect": "yellow", "cancelled": "yellow", "warning": "yellow",
    "failed": "red", "dead": "red", "error": "red", "no": "red", "left": "dim", "idle": "dim",
}  # fmt: skip


class Format(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"
    CSV = "csv"
    TRACE = "trace"


EXPORTS = (Format.CSV, Format.TRACE)
"""What only `stats` has."""


def refuse_exports(form: Format, command: str) -> None:
    """UsageError for an export where there is nothing to export."""
    if form in EXPORTS:
        raise UsageError(f"`{command}` has no -o {form.value}", "it has table, wide, json, yaml and name")


class Output:
    """Prints in one format. `stream_*` is for `-w`, `-f` and `--follow`: one JSON object a line."""

    def __init__(self, form: Format = Format.TABLE) -> None:
        self.form = form
        self._widths: list[int] = []

    @property
    def is_data(self) -> bool:
        """True when stdout must hold nothing but JSON or YAML."""
        return self.form in (Format.JSON, Format.YAML)

    def items(self, kind: str, rows: Sequence[Row], extra: Mapping[str, Any] | None = None) -> None:
        """Many objects of a kind, with what else the document says."""
        if self.is_data:
            self._document({"apiVersion": API_VERSION, "kind": kind, **(extra or {}), "items": list(rows)})
        elif self.form is Format.NAME:
            self._names(kind, rows)
        else:
            self.table(rows, self._columns(kind))

    def object(self, kind: str, row: Row) -> None:
        """One object of a kind of KINDS, as one row."""
        if self.is_data:
            self._document({"apiVersion": API_VERSION, "kind": KINDS[kind].name, **row})
        else:
            self.items(kind, [row])

    def fields(self, kind: str, row: Row, key: str = "") -> None:
        """One object in full: a line per field, lists of objects as tables. `key` is what `-o name` prints."""
        if self.is_data:
            self._document({"apiVersion": API_VERSION, "kind": kind, **row})
        elif self.form is Format.NAME:
            print(key)
        else:
            self._describe(row)

    def stream(self, kind: str, row: Row) -> None:
        """The next object of an endless list."""
        if self.is_data:
            self._line({"apiVersion": API_VERSION, "kind": KINDS[kind].name, **row})
        elif self.form is Format.NAME:
            self._names(kind, [row])
        else:
            self._stream_row([column.cell(row) for column in self._columns(kind)], self._columns(kind))
        sys.stdout.flush()

    def shown(self, kind: str, row: Row) -> str:
        """What of a row is seen, but for its age: two that are equal need not both be printed."""
        if self.is_data:
            return json.dumps(row, sort_keys=True, default=str)
        if self.form is Format.NAME:
            return KINDS[kind].key(row)
        return "\t".join(column.cell(row) for column in self._columns(kind) if column.title != "AGE")

    def stream_object(self, kind: str, row: Row) -> None:
        """The same for what has no table: the caller prints the text itself when this returns at once."""
        if self.is_data:
            self._line({"apiVersion": API_VERSION, "kind": kind, **row})
            sys.stdout.flush()

    def table(self, rows: Sequence[Row], columns: Sequence[Column]) -> None:
        cells = [[column.cell(row) for column in columns] for row in rows]
        if sys.stdout.isatty():
            _rich_table([column.title for column in columns], cells)
        else:
            _plain_table([[column.title for column in columns], *cells])

    def _columns(self, kind: str) -> list[Column]:
        return [column for column in KINDS[kind].columns if self.form is Format.WIDE or not column.wide]

    def _names(self, kind: str, rows: Sequence[Row]) -> None:
        for row in rows:
            print(KINDS[kind].key(row))

    def _document(self, body: Mapping[str, Any]) -> None:
        if self.form is Format.YAML:
            import yaml

            yaml.safe_dump(units.plain(body), sys.stdout, sort_keys=False, allow_unicode=True)
        else:
            print(json.dumps(units.plain(body), indent=2, ensure_ascii=False))

    def _line(self, body: Mapping[str, Any]) -> None:
        if self.form is Format.YAML:
            print("---")
            self._document(body)
        else:
            print(json.dumps(units.plain(body), ensure_ascii=False))

    def _stream_row(self, cells: list[str], columns: Sequence[Column]) -> None:
        """Widths are those of the first row and header, and grow: a stream cannot look ahead."""
        if not self._widths:
            self._widths = [len(column.title) for column in columns]
            self._grow(cells)
            print(_aligned([column.title for column in columns], self._widths))
        self._grow(cells)
        print(_aligned(cells, self._widths))

    def _grow(self, cells: list[str]) -> None:
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, cells, strict=True)]

    def _describe(self, row: Row) -> None:
        tables = {key: value for key, value in row.items() if _is_table(value)}
        single = [(key, value) for key, value in row.items() if key not in tables]
        width = max((len(key) for key, _ in single), default=0) + 1
        for key, value in single:
            shown = units.plain(value, key)
            lines = [f"{units.text(k)} = {units.text(v)}" for k, v in shown.items()] if isinstance(shown, dict) else []
            print(f"{key + ':':<{width}}  " + (f"\n{'':<{width}}  ".join(lines) or units.text(shown)))
        for key, rows in tables.items():
            print(f"\n{key}:")
            known = PARTS[key] if key in PARTS else self._columns(key) if key in KINDS else generic_columns(rows)
            self.table(rows, known)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, Mapping) for part in value)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "   ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _plain_table(lines: list[list[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        print(_aligned(line, widths))


def _rich_table(titles: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True)
    for cells in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell.split(",")[0], "")) for cell in cells))
    console = Console()
    # A row that is too wide is for the terminal to wrap: cells cut short cannot be copied.
    console.width = max(console.width, sum(max(map(len, column)) + 3 for column in zip(titles, *rows, strict=True)))
    console.print(table, soft_wrap=True)
