"""Answers in pages: a frame holds a megabyte, a job may have any number of items.

A page is as many rows as fit, at least one. `next` in the body is the offset of the first row left out; whoever wants
it asks the same again with `offset`. `limit` asks for fewer rows.
"""

from __future__ import annotations

from typing import Any

import msgspec

PAGE_BYTES = 400 * 1024

PAGED = {"get": "items", "results": "items", "stats": "runs", "runs": "runs"}
"""verb -> where in its body the rows are"""

_encoder = msgspec.msgpack.Encoder()


def page(rows: list[Any], limit: int = 0) -> list[Any]:
    """The first rows: as many as fit and, with a limit, not more."""
    size = 0
    for count, row in enumerate(rows):
        size += len(_encoder.encode(row))
        if count and (size > PAGE_BYTES or count == limit):
            return rows[:count]
    return rows


def paged(verb: str, args: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """The body with the rows from `offset` on that fit, and `next` when there are more."""
    key = PAGED.get(verb)
    if key is None:
        return body
    offset = int(args.get("offset") or 0)
    rows = page(body[key][offset:], int(args.get("limit") or 0))
    following = offset + len(rows)
    more = {"next": following} if following < len(body[key]) else {}
    return {**body, key: rows, **more}
