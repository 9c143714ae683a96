"""Answers that are larger than a frame come in pages."""

from __future__ import annotations

from typing import Any

from jupiter_agent.core.messages.control import Answer
from jupiter_agent.core.paging import page, paged
from jupiter_agent.core.wire import encode

ROWS = [{"name": f"item{n}", "error": "x" * 4096} for n in range(500)]


def all_of(verb: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    pages = [paged(verb, {}, body)]
    while "next" in pages[-1]:
        pages.append(paged(verb, {"offset": pages[-1]["next"]}, body))
    for each in pages:
        encode(Answer(1, 0, each))
    return pages


def test_every_page_fits_into_a_frame_and_together_they_are_the_whole() -> None:
    pages = all_of("results", {"job": "j", "items": ROWS})
    assert len(pages) > 4
    assert [row for each in pages for row in each["items"]] == ROWS
    assert {each["job"] for each in pages} == {"j"}


def test_what_fits_is_one_page_without_a_next_one() -> None:
    body = {"items": ROWS[:3]}
    assert paged("get", {}, body) == body
    assert paged("describe", {}, {"id": "j"}) == {"id": "j"}


def test_a_limit_makes_pages_smaller_and_a_row_is_never_too_large_for_a_page() -> None:
    assert paged("get", {"limit": 2, "offset": 1}, {"items": [1, 2, 3, 4]}) == {"items": [2, 3], "next": 3}
    assert page([b"x" * 900_000, b"y"]) == [b"x" * 900_000]
    assert paged("get", {"offset": 9}, {"items": [1]}) == {"items": []}
