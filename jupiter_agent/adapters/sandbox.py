"""What keeps task processes from the rest of the machine: bubblewrap where it works here, else limits alone.

In the sandbox a task has namespaces of its own for users, processes, mounts and IPC, and no capabilities. Everything
of the machine that it sees is read-only. Only its private folder can be written; it is also /tmp and /var/tmp there.
Hidden are the homes, /run, /tmp, and the agent's state folder with its keys, objects and other apps, but for the
folders this process needs. The network is the machine's. The end of the sandbox ends every process in it.

Whether it works is tried once, with the very command that tasks are started with. Where it does not, the reason is
kept to be told: at start, by `doctor`, and to the other nodes.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jupiter_agent
from jupiter_agent.errors import UsageError

AUTO, BWRAP, NONE = "auto", "bwrap", "none"
MODES = (AUTO, BWRAP, NONE)
"""of the setting `isolation`: what works here; bubblewrap or no start; no sandbox"""
BUBBLEWRAP, LIMITS = "bubblewrap", "limits"
"""kinds of sandbox, as told to people"""

PROBE_S = 5.0
FOLDERS = ("home", "out", "in", "tmp")
"""of a process's private folder; `in` has its large inputs and is read-only inside"""
VIEWS = ("centralized_scheduler", "jupiter")
"""names in the root that v4 and v5 scripts use; they show `view/NAME` of the private folder"""
_SKIPPED = {"dev", "proc", *VIEWS}
_HIDDEN = ("/home", "/root", "/run", "/tmp", "/var/tmp")
_SHARED = (Path("/tmp"), Path("/var/tmp"))
_DEVICES = ("nvidia", "dri", "kfd")
_ALONE = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-cgroup-try", "--die-with-parent",
          "--cap-drop", "ALL")  # fmt: skip
_NAMESPACES = (
    "let this user have user namespaces: sysctl kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns, or the profiles of its container"
)
_VARIANTS = (
    (("--disable-userns",), ("--size", str(256 * 1024 * 1024), "--tmpfs", "/dev/shm")),
    ((), ("--tmpfs", "/dev/shm")),
)
"""with the options that only later versions know, and without"""


@dataclass(frozen=True)
class Sandbox:
    """`options`: bubblewrap's, those of every process; `missing`: why it is not bubblewrap, `hint`: what would help."""

    kind: str = LIMITS
    missing: str = ""
    hint: str = ""
    options: tuple[str, ...] = ()
    hidden: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()
    """inside what is hidden"""

    @property
    def is_closed(self) -> bool:
        return self.kind == BUBBLEWRAP

    def command(self, words: Sequence[str], work: Path, readable: Sequence[Path] = ()) -> list[str]:
        """The command that runs `words` inside. `work`: the private folder; `readable`: what else it needs."""
        if not self.is_closed:
            return list(words)
        shown = [path for path in (*self.shown, *readable) if _in(path, self.hidden)]
        own = (*_covers(self.hidden, work), *_read_only(shown), *_private(work), *_closed(self.hidden))
        return [*self.options, *own, "--remount-ro", "/", "--chdir", str(work), "--", *words]


def find(mode: str, state_dir: Path, expose: Sequence[Path] = ()) -> Sandbox:
    """What works here. Blocks for some 100 ms. UsageError when `bwrap` is demanded and does not work.

    `state_dir` is hidden from tasks, `expose` are folders that they may read although they are inside a hidden one.
    """
    if mode == NONE:
        return Sandbox(missing="switched off (isolation = none)", hint="set isolation to auto")
    program = shutil.which("bwrap")
    if program is None:
        found = Sandbox(missing="bubblewrap is not installed", hint="install it: apt install bubblewrap")
    else:
        found = _bubblewrap(program, state_dir, expose)
    if mode == BWRAP and not found.is_closed:
        raise UsageError(found.missing, f"{found.hint}; or set isolation to auto")
    return found


def _bubblewrap(program: str, state_dir: Path, expose: Sequence[Path]) -> Sandbox:
    hidden = tuple(_hidden(state_dir))
    shown = tuple(path for path in dict.fromkeys([*_needed(), *expose]) if path.exists())
    why = ""
    for closed, shm in _VARIANTS:
        options = (program, *_ALONE, *closed, *_root(), *_devices(), *shm, "--remount-ro", "/dev")
        found = Sandbox(BUBBLEWRAP, options=options, hidden=hidden, shown=shown)
        why = _tried(found, state_dir)
        if not why:
            return found
    return Sandbox(missing=f"bubblewrap does not work here: {why}", hint=_NAMESPACES)


def _tried(sandbox: Sandbox, state_dir: Path) -> str:
    """Why it does not work; '' when it does."""
    work = state_dir / ".sandbox"
    try:
        make_folders(work)
        command = sandbox.command([sys.executable, "-I", "-c", "import jupiter_agent.task.main"], work)
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    lines = ended.stderr.strip().splitlines()
    return "" if ended.returncode == 0 else lines[-1] if lines else f"exit code {ended.returncode}"


def make_folders(work: Path) -> None:
    for part in FOLDERS:
        (work / part).mkdir(parents=True, mode=0o700)


# --- what of the machine is seen


def _root() -> Iterator[str]:
    """The entries of the real root in a root of our own: names can be added to it."""
    for entry in sorted(os.scandir("/"), key=lambda entry: entry.name):
        if entry.name in _SKIPPED:
            continue
        if entry.is_symlink():
            yield from ("--symlink", os.readlink(entry.path), entry.path)
        else:
            yield from ("--ro-bind-try", entry.path, entry.path)
    yield from ("--proc", "/proc")


def _devices() -> Iterator[str]:
    yield from ("--dev", "/dev")
    for name in sorted(os.listdir("/dev")):
        if name.startswith(_DEVICES):
            yield from ("--dev-bind-try", f"/dev/{name}", f"/dev/{name}")


def _hidden(state_dir: Path) -> list[Path]:
    """The folders to hide, none of them inside another."""
    state = state_dir.resolve()
    above = state.parent
    mine = above if (above / "cluster.json").exists() and above != Path("/") else state  # `jupiter local`: all nodes
    wanted = {Path(path).resolve() for path in (*_HIDDEN, os.path.expanduser("~"))} | {mine}
    there = sorted(path for path in wanted if path.is_dir() and path != Path("/"))
    return [path for path in there if not any(path.is_relative_to(other) for other in there if other != path)]


def _covers(hidden: Sequence[Path], work: Path) -> Iterator[str]:
    """Empty folders over what is hidden; a part of the private folder over what is for everybody's files."""
    for path in hidden:
        yield from ("--bind", str(work / "tmp"), str(path)) if path in _SHARED else ("--tmpfs", str(path))


def _closed(hidden: Sequence[Path]) -> Iterator[str]:
    for path in hidden:
        if path not in _SHARED:
            yield from ("--remount-ro", str(path))


def _read_only(paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        yield from ("--ro-bind", str(path), str(path))


def _needed() -> Iterator[Path]:
    """What Python, this package and name resolution need."""
    yield from (Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parent.parent)
    yield from map(Path, site.getsitepackages())
    yield Path(jupiter_agent.__file__).parent
    yield Path("/etc/resolv.conf").resolve().parent


def _private(work: Path) -> Iterator[str]:
    inputs = str(work / "in")
    yield from ("--bind", str(work), str(work), "--ro-bind", inputs, inputs)
    for name in VIEWS:
        yield from ("--symlink", str(work / "view" / name), f"/{name}")


def _in(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
