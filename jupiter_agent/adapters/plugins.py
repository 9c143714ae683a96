"""What third parties installed under a name: entry points, loaded only when a setting asks for one."""

from __future__ import annotations

from typing import Any

from jupiter_agent.errors import UsageError


def load(group: str, kind: str, name: str, built_in: str) -> Any:
    """The object behind an entry point. UsageError for one that is not installed, or does not load."""
    from importlib.metadata import entry_points  # not at start: it costs an idle agent 10 ms

    known = {found.name: found for found in entry_points(group=group)}
    if name not in known:
        raise UsageError(f"no {kind} is called '{name}'", f"known: {', '.join([built_in, *sorted(known)])}")
    try:
        return known[name].load()
    except Exception as error:  # noqa: BLE001 - another package's import
        raise UsageError(f"the {kind} '{name}' does not load: {type(error).__name__}: {error}") from None
