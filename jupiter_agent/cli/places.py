"""The folders and ports that agents have on this machine: are they safe, and whose are they (`jupiter ctl doctor`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupiter_agent.cli import ports, procfs, reach
from jupiter_agent.cli.checks import MIB, Check, bounded
from jupiter_agent.cli.guard import HINTS
from jupiter_agent.cli.reach import Where
from jupiter_agent.cli.units import size, text
from jupiter_agent.errors import UsageError

SECRETS = ("token", "node.json", "cluster.json")
"""Files of a state folder that only its owner may read."""

DISK, DISK_WISHED = 100 * MIB, 1024 * MIB


def places(where: Where) -> Iterator[Check]:
    """The agents that are meant, as far as they are on this machine; else where one would be."""
    folders = reach.state_folders(where)
    for folder in folders:
        yield state_folder(folder)
        yield agent(folder)
    if folders:
        yield disk(folders[0])
    elif not where.peers and where.dir is None:
        yield from _future(where)


def _future(where: Where) -> Iterator[Check]:
    """No agent has run here: could one?"""
    from jupiter_agent import config

    try:
        settings = config.load({}, where.env)
    except UsageError as error:
        yield Check("settings", False, error.message, error.hint or HINTS[error.exit_code])
        return
    folder = Path(settings.state_dir)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    writable = os.access(existing, os.W_OK)
    hint = "" if writable else "start the agent with --state-dir DIR, or as a user who may write there"
    yield Check("state folder", writable, f"{folder} {'can' if writable else 'cannot'} be made", hint)
    yield disk(existing)
    port = ports.port_of(settings.bind)
    yield port_pair(port)


def state_folder(folder: Path) -> Check:
    """Keys in it are read by nobody else."""
    name = f"state folder {folder.name}"
    try:
        paths = [folder, *(folder / secret for secret in SECRETS if (folder / secret).exists())]
        loose = [path for path in paths if path.stat().st_mode & 0o077]
        strange = [path for path in paths if path.stat().st_uid not in (os.geteuid(), folder.stat().st_uid)]
    except OSError as error:
        return Check(name, False, f"{error.filename}: {error.strerror}", "look as the user who runs the agent")
    if loose:
        mend = f"chmod go= {' '.join(map(str, loose))}"
        return Check(name, False, f"others can read {', '.join(map(str, loose))}", mend)
    if strange:
        return Check(name, False, f"of different owners: {', '.join(map(str, strange))}", f"chown -R ... {folder}")
    return Check(name, True, f"{folder} is readable by its owner only")


def disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    return bounded(
        "disk", f"{size(free)} free at {folder}", free, (DISK, DISK_WISHED), "free space, or --state-dir DIR"
    )


def agent(folder: Path) -> Check:
    """The agent of a state folder runs and has its port, or the port waits for it."""
    found = reach.read_agent_file(folder) or {}
    name, pid, address = f"agent {text(found.get('name'))}", found.get("pid"), text(found.get("address"))
    if isinstance(pid, int) and procfs.start_ticks(pid) is not None and _is_agent(pid):
        return Check(name, True, f"runs as process {pid} at {address}")
    port = _port(found)
    held = ports.holder(port) if port else None
    if held:
        who = f"{held[1]} (process {held[0]})" if held[0] else held[1]
        return Check(name, False, f"does not run, and its port {port} is taken by {who}", _move(port))
    log = f"; why it ended is in {folder}/agent.log" if (folder / "agent.log").exists() else ""
    return Check(name, False, "does not run", f"`jupiter local start {folder.name}` or `jupiter-agent run`{log}")


def _is_agent(pid: int) -> bool:
    """Numbers are used again: it must at least look like one of ours."""
    try:
        words = (procfs.PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return b"jupiter" in words


def _port(found: dict[str, Any]) -> int:
    try:
        return ports.port_of(str(found.get("address")))
    except ValueError:
        return 0


def port_pair(port: int) -> Check:
    """PORT and PORT+1 of an agent that is yet to start."""
    for number in (port, port + 1):
        if held := ports.holder(number):
            who = f"{held[1]} (process {held[0]})" if held[0] else held[1]
            return Check("ports", False, f"{number} is taken by {who}", _move(port))
    return Check("ports", True, f"{port} and {port + 1} are free")


def _move(port: int) -> str:
    return f"stop it, or start the agent with another one: --bind 0.0.0.0:{port + 10}"
