"""What the readers of an app's files share: text from bytes, words fit for a terminal, the nearest known word."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

from jupiter_agent.errors import UsageError

MAX_BYTES = 256 * 1024
MAX_TASKS = 10_000
MAX_WARNINGS = 100
SAMPLE_FOLDERS = ("samples/", "sample_input/", "sample_inputs/")
_PORTS = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,5})\Z")


def decode(content: bytes, name: str) -> str:
    """UTF-8 text without its byte order mark; UsageError `NAME:LINE: what` when it is none or too long."""
    if len(content) > MAX_BYTES:
        raise UsageError(f"{name}:1: the file has {len(content)} bytes, {MAX_BYTES} are allowed")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: not UTF-8 text", "save the file in UTF-8") from error


def wrong(at: str, what: str, hint: str = "") -> UsageError:
    """The error to raise for a place `FILE:LINE`."""
    return UsageError(f"{at}: {shown(what)}", shown(hint))


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`did you mean 'x'?`, or which words there are."""
    close = get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else "known here: " + ", ".join(known) if known else ""


def shown(text: str) -> str:
    """Fit for one line on a terminal, whatever the file holds."""
    text = "".join(char if char.isprintable() else "?" for char in text[:401])
    return text if len(text) <= 400 else text[:400] + "..."


def name_hint(name: str) -> str:
    """How to call a task that cannot be called `name`."""
    if name == "home":
        return "name the task otherwise"
    if "_" in name:
        return f"'_' separates the parts of file names in v5: write '{name.replace('_', '-')[:63]}'"
    return "use letters, digits and '-', at most 63, the first no '-'"


def port_mapping(text: str) -> str | None:
    """'service:container' from that or from one number for both; None when it is neither."""
    match = _PORTS.match(text.strip())
    if match is None:
        return None
    container = int(match[2])
    service = int(match[1] or container)
    return f"{service}:{container}" if 0 < service < 65536 and 0 < container < 65536 else None


def samples_in(files: Collection[str]) -> list[str]:
    """Sample items of an app, sorted; hidden files are none."""
    return sorted(file for file in files if file.startswith(SAMPLE_FOLDERS) and "/." not in file)
