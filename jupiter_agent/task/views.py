"""The absolute paths that v4 and v5 scripts use: `/centralized_scheduler` and `/jupiter`, each process with its own.

Where the kernel lets us, the process gets a mount namespace with a root of its own: a small tmpfs in which every
entry of the real root is bound and the names above are links to private folders. Root may do that; others through a
user namespace that maps their own id only, whose capabilities are given up at once. Nothing of it is seen outside,
and it ends with the last process in it. Where neither works, Python's own file functions are told (mapping.py). In a
sandbox the names are there already, and lead to `view` in the private folder (adapters/sandbox.py).
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
CAPABILITY_VERSION_3 = 0x20080522
SCRIPTS = "scripts"
_FOLDED = ("sample_input",)


def show_scheduler(setup: dict[str, Any], copies: bool = False) -> str:
    """Make `/centralized_scheduler` show a v4 app, its files and those of `scripts/` side by side.

    Returns the folder behind it. With `copies` samples are copied, not linked: profiling hooks write beside them.
    """
    view = os.path.join(setup["work"], "view", "centralized_scheduler")
    os.makedirs(view, 0o700)
    for folder in (os.path.join(setup["app_folder"], SCRIPTS), setup["app_folder"]):
        if os.path.isdir(folder):
            for name in os.listdir(folder):
                _add(os.path.join(folder, name), os.path.join(view, name), copies)
    show(setup, {"centralized_scheduler": view})
    return view


def show_jupiter(setup: dict[str, Any], folders: list[str], compat: str) -> None:
    """Make `/jupiter` show the folders of a v5 task, and in `build` what its image had."""
    top = os.path.join(setup["work"], "view", "jupiter")
    apps = os.path.join(top, "build", "app_specific_files")
    os.makedirs(apps, 0o700)
    for folder in folders:
        os.symlink(folder, os.path.join(top, os.path.basename(folder)))
    os.symlink(os.path.join(compat, "jupiter_utils"), os.path.join(top, "build", "jupiter_utils"))
    os.symlink(setup["app_folder"], os.path.join(apps, os.environ.get("JUPITER_APP") or "app"))
    show(setup, {"jupiter": top})


def show(setup: dict[str, Any], links: dict[str, str]) -> None:
    """Names in the root -> the folders they show."""
    if setup.get("sandbox"):
        for name, folder in links.items():
            _lead(os.path.join(setup["top"], "view", name), folder)
        return
    if setup["namespaces"] and own_root(links, os.path.join(setup["work"], "root")):
        return
    from jupiter_agent.task.mapping import map_paths

    map_paths({f"/{name}": folder for name, folder in links.items()})


def _lead(name: str, folder: str) -> None:
    """The names in a sandbox's root lead here: to the very folder, or, in sample runs, from here to one task's."""
    if name == folder:
        return
    os.makedirs(os.path.dirname(name), 0o700, exist_ok=True)
    if os.path.islink(name):
        os.unlink(name)
    os.symlink(folder, name)


def own_root(links: dict[str, str], root: str) -> bool:
    """Whether this process has such a root now. `root` is the path of a folder to be made; it stays empty outside."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.getcwd()
    if libc.unshare(CLONE_NEWNS) and not _own_user(libc):
        return False
    os.makedirs(root, 0o700)
    if libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None):
        return False
    if libc.mount(b"tmpfs", os.fsencode(root), b"tmpfs", 0, b"size=256k,mode=755"):
        return False
    for entry in os.scandir("/"):
        if entry.name not in links and not _bind(libc, entry, os.path.join(root, entry.name)):
            return False
    for name, folder in links.items():
        os.symlink(folder, os.path.join(root, name))
    os.chroot(root)
    os.chdir(here)
    if os.getuid():
        _drop_capabilities(libc)
    return True


def _add(source: str, target: str, copies: bool) -> None:
    """A link, real folders for the samples; the first of a name counts."""
    if os.path.lexists(target) or os.path.basename(source) in (SCRIPTS, "__pycache__"):
        return
    if copies and os.path.isdir(source) and os.path.basename(source) in _FOLDED:
        import shutil

        shutil.copytree(source, target)
    else:
        os.symlink(source, target)


def _own_user(libc: Any) -> bool:
    """A user namespace and a mount namespace in it; we stay who we are."""
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        return False
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:
        return False
    return True


def _bind(libc: Any, entry: os.DirEntry[str], target: str) -> bool:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return True
    if entry.is_dir():
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT, 0o600))
    path = os.fsencode(entry.path)
    return not libc.mount(path, os.fsencode(target), None, MS_BIND | MS_REC, None)


def _drop_capabilities(libc: Any) -> None:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())
