"""Fleets over emulated networks: a WAN, a mobile ad-hoc network, a slow link full of bulk. Need root."""

from __future__ import annotations

from collections.abc import Callable

from jupiter_agent.bench import Figure

RUNS: dict[str, Callable[[int, str], list[Figure]]] = {}
