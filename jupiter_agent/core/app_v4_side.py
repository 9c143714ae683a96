"""Side files of a v4 folder: input_node.txt (wished hosts) and app_config.ini (ports). Mistakes in them only warn."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from jupiter_agent.core.app_text import decode, port_mapping
from jupiter_agent.core.ids import is_node_name

NODES, INI = "input_node.txt", "app_config.ini"
_PAIR = re.compile(r"([^=:]+)[=:](.*)")
Warn = Callable[[str, str], None]


def placements(
    files: Collection[str], read: Callable[[str], bytes], tasks: Collection[str], warn: Warn
) -> dict[str, str]:
    """Task -> host, of the lines `task node`; of several hosts or lines the first."""
    if NODES not in files:
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(decode(read(NODES), NODES).split("\n"), 1):
        words, at = line.split(), f"{NODES}:{number}"
        if not words or (number == 1 and words[0] == "task" and "task" not in tasks):
            continue
        task, hosts = words[0], words[1:]
        if task not in tasks:
            warn(at, f"'{task[:80]}' is no task of the app; ignored")
        elif not hosts or not is_node_name(hosts[0]):
            warn(at, f"'{' '.join(hosts)[:80]}' cannot be a node's name; ignored")
        else:
            found.setdefault(task, hosts[0])
    return found


def ports(files: Collection[str], read: Callable[[str], bytes], warn: Warn) -> list[str]:
    """'service:container' of the names that the sections for containers and services share."""
    if INI not in files:
        return []
    sections = _sections(decode(read(INI), INI), warn)
    services = sections.get("SVC_PORT", {})
    found: dict[str, None] = {}
    for name, (at, container) in sections.get("DOCKER_PORT", {}).items():
        written = f"{services[name][1] if name in services else container}:{container}"
        mapping = port_mapping(written)
        if mapping is None:
            warn(at, f"'{written[:80]}' is no port mapping; ignored")
        else:
            found[mapping] = None
    return list(found)


def _sections(text: str, warn: Warn) -> dict[str, dict[str, tuple[str, str]]]:
    """Section without a plural s -> key -> (FILE:LINE, value). Not `configparser`: that crashes on some garbage."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    section = found.setdefault("", {})
    for number, written in enumerate(text.split("\n"), 1):
        line, at = written.strip(), f"{INI}:{number}"
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1].strip().upper().removesuffix("S"), {})
        elif match := _PAIR.match(line):
            section[match[1].strip().lower()] = (at, match[2].strip())
        else:
            warn(at, f"'{line[:80]}' is neither a [section] nor KEY = VALUE; ignored")
    return found
