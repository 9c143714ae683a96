"""Which of the rows of a list is meant by what a user wrote: an id, the beginning of one, a name, `last`.

Pure: rows in, rows out, UsageError with the closest name for what is not there.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from jupiter_agent.errors import UsageError

Row = dict[str, Any]


def resolve(ref: str, rows: list[Row]) -> Row:
    """The job meant by an id, `last`, a unique prefix, or a name; `rows` oldest first."""
    if ref == "last" and rows:
        return rows[-1]
    exact = [row for row in rows if row["id"] == ref]
    matches = exact or [row for row in rows if ref and row["id"].startswith(ref)] or [
        row for row in rows if row["name"] == ref
    ][-1:]  # fmt: skip
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = ", ".join(row["id"] for row in matches[:5])
        raise UsageError(f"'{ref}' is the beginning of several jobs", f"which one: {listed}")
    raise missing("job", ref, [name for row in rows for name in (row["id"], row["name"])])


def chosen_rows(rows: list[Row], ref: str, kind: str) -> list[Row]:
    """The node of this name or id prefix, or the links from or to it; all without `ref`."""
    if not ref or kind == "links":
        return [row for row in rows if not ref or ref in (row.get("src"), row.get("dst"))]
    named = [row for row in rows if row["name"] == ref] or [row for row in rows if row["id"].startswith(ref)]
    if not named:
        raise missing("node", ref, [row["name"] for row in rows])
    return named


def link_of(rows: list[Row], ref: str) -> Row:
    """The link written as SRC>DST (or SRC:DST, which no shell takes for a redirection)."""
    keys = {f"{row['src']}:{row['dst']}": row for row in rows}
    row = keys.get(ref.replace(">", ":"))
    if row is None:
        raise missing("link", ref, keys)
    return row


def jobs_or_apps(rows: list[Row], kind: str, wanted: str) -> list[Row]:
    """Jobs as they are, or the apps they run: name, newest bundle, jobs."""
    if kind == "jobs":
        return rows
    apps: dict[str, Row] = {}
    for row in rows:
        app = apps.setdefault(row["app"], {"name": row["app"], "bundle": None, "size": None, "jobs": []})
        app |= {"bundle": row.get("bundle"), "size": row.get("size"), "jobs": [*app["jobs"], row["id"]]}
    return [app for name, app in sorted(apps.items()) if wanted in ("", name)]


def app_of(jobs: list[Row], ref: str) -> Row:
    """The app of this name."""
    found = jobs_or_apps(jobs, "apps", ref)
    if not found or not ref:
        raise missing("app", ref, {row["app"] for row in jobs})
    return found[0]


def missing(kind: str, ref: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not there, with the closest that is."""
    close = get_close_matches(ref, list(known), n=1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    listed = f"{kind.rsplit(maxsplit=1)[-1]}s"
    return UsageError(f"there is no {kind} '{ref}'", f"{guess}list them with: jupiter ctl get {listed}")
