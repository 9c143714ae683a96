"""Numbers for people: None is `-`, sizes and durations get a unit, text loses what could move a terminal's cursor."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), "�")
_CONTROL_IN_LOG = {c: to for c, to in _CONTROL.items() if c not in (9, 10)}


def text(value: Any) -> str:
    """One cell: names come from peers and may hold anything."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ",".join(f"{text(k)}={text(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        parts = [text(part) for part in value]
        return ("; " if any(" " in part for part in parts) else ",").join(parts) or "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).translate(_CONTROL)


def log_text(value: str) -> str:
    """Task output for a terminal: tabs and line ends stay, escape sequences do not."""
    return value.replace("\r\n", "\n").translate(_CONTROL_IN_LOG)


def count(number: int, what: str) -> str:
    """1 item, 2 items."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def seconds(value: Any) -> str:
    """A duration: 0s, 850us, 12.3ms, 1.25s, 3m05s, 2h10m, 4d03h."""
    if not _is_number(value):
        return "-"
    if not value:
        return "0s"
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (60.0, 1.0, "s")):
        if abs(value) < limit:
            return f"{value * factor:.3g}{unit}"
    minutes, hours, days = int(value // 60), int(value // 3600), int(value // 86400)
    if hours < 1:
        return f"{minutes}m{int(value) % 60:02d}s"
    return f"{hours}h{minutes % 60:02d}m" if days < 1 else f"{days}d{hours % 24:02d}h"


def size(value: Any) -> str:
    """Bytes with a decimal unit."""
    if not _is_number(value):
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def rate(value: Any) -> str:
    """Bits per second; 0 and None are not measured."""
    if not _is_number(value) or value <= 0:
        return "-"
    step = min(3, int(math.log10(value) // 3)) if value >= 1 else 0
    return f"{value / 1000**step:.3g} {('bit', 'kbit', 'Mbit', 'Gbit')[step]}/s"


def percent(value: Any) -> str:
    return f"{value * 100:.3g}%" if _is_number(value) else "-"


def age(value: Any) -> str:
    """Time since a wall clock time, in whole seconds."""
    return seconds(max(0, int(time.time() - value))) if _is_number(value) else "-"


def timestamp(value: float, digits: int = 3) -> str:
    """RFC 3339 in UTC, with milliseconds unless told otherwise."""
    whole, fraction = divmod(round(value * 10**digits), 10**digits)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{fraction:0{digits}d}Z"


def plain(value: Any, key: str = "") -> Any:
    """A body as JSON can hold it: wall times (`*_at`, `time`) as RFC 3339, bytes as hex, no NaN or infinity."""
    if isinstance(value, Mapping):
        return {str(k): plain(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return value.hex()
    if _is_number(value) and (key.endswith("_at") or key == "time"):
        return timestamp(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
