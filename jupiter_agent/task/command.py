"""The command contract: a program in any language, started once per item in a scratch folder.

    $JUPITER_IN/<parent>/<name>     the inputs; an injected item's parent is `input`
    $JUPITER_OUT/<name>             for all children
    $JUPITER_OUT/<child>/<name>     for this child only
    JUPITER_ITEM, JUPITER_TASK, JUPITER_JOB, JUPITER_APP (the app's folder), JUPITER_PARAM_<NAME> per parameter

`./detect` is a file of the app; a bare word is looked for in PATH, then in the app. The program starts in an empty
scratch folder, so an argument that names a file of the app (`x.py` in [python3, x.py]) is passed with its full path;
all others are passed as they are.
Whatever the program started and left running is ended with the run.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import sys
import time
from collections import deque

from jupiter_agent.task.errors import ContractError, RunError, killed_by
from jupiter_agent.task.files import children_of, fresh, parent_of, place
from jupiter_agent.task.native import Output, Outputs

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

    from jupiter_agent.task.serve import Entries, Work

PR_SET_CHILD_SUBREAPER = 36
READ_BYTES, MAX_READS = 64 * 1024, 16
LAST_LINES, LINE_BYTES = 5, 200
SWEEPS = 20


def command(setup: dict[str, Any]) -> Work:
    """ContractError when the program cannot be started."""
    program = find(setup["command"], setup["app_folder"])
    arguments = [_argument(word, setup["app_folder"]) for word in setup["command"][1:]]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    fixed = {**os.environ, "JUPITER_APP": setup["app_folder"], **_params(setup["params"])}

    def work(run: int, item: str, entries: Entries, scratch: str) -> tuple[float, list[Output]]:
        given, out, cwd = (os.path.join(scratch, name) for name in ("in", "out", "work"))
        fresh(given, out, cwd)
        lay_out(given, entries)
        environment = {**fixed, "JUPITER_ITEM": item, "JUPITER_IN": given, "JUPITER_OUT": out}
        started = time.perf_counter()
        _run([program, *arguments], cwd, environment)
        seconds = time.perf_counter() - started
        return seconds, gather(out, setup, Outputs(setup, run, scratch))

    return work


def find(words: list[str], app_folder: str) -> str:
    """The program's path. ContractError when there is none, or it may not be executed."""
    if not words or not words[0]:
        raise ContractError("the task has an empty command")
    word = words[0]
    path = os.path.normpath(os.path.join(app_folder, word))
    if "/" not in word:
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            found = os.path.join(folder, word)
            if os.path.isfile(found) and os.access(found, os.X_OK):
                return found
        if not os.path.isfile(path):
            raise ContractError(f"command {word!r} is neither in PATH nor in the app's folder")
    if not os.path.isfile(path):
        raise ContractError(f"command {word!r} is not a file of the app" if word[0] != "/" else f"no program {word!r}")
    if not os.access(path, os.X_OK):
        raise ContractError(f"command {word!r} is not executable: chmod +x it in the app's folder and submit again")
    return path


def _argument(word: str, app_folder: str) -> str:
    """The full path of a file of the app; any other word as it is."""
    path = os.path.normpath(os.path.join(app_folder, word))
    inside = path.startswith(os.path.join(app_folder, ""))
    return path if word and inside and not os.path.isabs(word) and os.path.isfile(path) else word


def lay_out(folder: str, entries: Entries) -> None:
    for key, name, data, source in entries:
        at = os.path.join(folder, parent_of(key))
        os.makedirs(at, 0o700, exist_ok=True)
        target, number = os.path.join(at, name), 1
        while os.path.exists(target):
            number += 1
            target = os.path.join(at, f"{name}.{number}")
        place(target, data, source)


def gather(out: str, setup: dict[str, Any], outputs: Outputs) -> list[Output]:
    """The files in `out` and in its folders, which are children; sorted by name, those for all first."""
    children = children_of(setup)
    found: list[tuple[list[str], str]] = []
    entries = sorted(os.scandir(out), key=lambda entry: (entry.is_dir(), entry.name))
    for entry in entries:
        if not entry.is_dir():
            found.append(([], entry.path))
        elif entry.name not in children:
            raise ContractError(f"the folder {entry.name!r} in JUPITER_OUT is no child: they are {', '.join(children)}")
        else:
            inside = sorted(os.scandir(entry.path), key=lambda each: each.name)
            if wrong := [each.name for each in inside if each.is_dir()]:
                raise ContractError(f"JUPITER_OUT/{entry.name}/{wrong[0]} is a folder: only files are outputs")
            found += [([entry.name], each.path) for each in inside]
    return [outputs.from_path(path, named, number) for number, (named, path) in enumerate(found)]


def _params(params: dict[str, str]) -> dict[str, str]:
    return {
        "JUPITER_PARAM_" + "".join(c if c.isalnum() else "_" for c in name.upper()): value
        for name, value in params.items()
    }


def _run(words: list[str], cwd: str, environment: dict[str, str]) -> None:
    """RunError when it does not exit with 0; its stderr goes to the log, the last lines also into the error."""
    try:
        child = subprocess.Popen(words, cwd=cwd, env=environment, stderr=subprocess.PIPE)
    except OSError as error:  # a script without `#!`, a program for another machine
        raise ContractError(f"command {words[0]!r} cannot be started: {error.strerror}") from error
    assert child.stderr
    try:
        tail = _follow(child, child.stderr.fileno())
    finally:
        child.stderr.close()
        _end_rest(f"JUPITER_OUT={environment['JUPITER_OUT']}".encode())
    if child.returncode:
        code = child.returncode
        what = f"exited with code {code}" if code > 0 else killed_by(-code)
        raise RunError(": ".join([f"{os.path.basename(words[0])} {what}", *([" | ".join(tail)] if tail else [])]))


def _follow(child: subprocess.Popen[bytes], stderr: int) -> list[str]:
    """Copy its stderr to ours until it ends (not until the last holder of the pipe does); the last lines."""
    os.set_blocking(stderr, False)
    pidfd = os.pidfd_open(child.pid)
    poll = select.poll()
    poll.register(stderr, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    tail: deque[bytes] = deque([b""], LAST_LINES + 1)
    try:
        ended = False
        while not ended:
            ready = {fd for fd, _ in poll.poll()}
            ended = pidfd in ready
            for _ in range(MAX_READS):  # whoever still writes after its end is not waited for
                data = _read(stderr)
                if not data:
                    break
                _keep(tail, data)
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()
            if data == b"":
                poll.unregister(stderr)
                poll.poll()
                break
    finally:
        os.close(pidfd)
    child.wait()
    lines = [line[:LINE_BYTES].decode(errors="replace").strip() for line in tail]
    return [line for line in lines if line][-LAST_LINES:]


def _read(fd: int) -> bytes | None:
    """b"" at the end of file, None when there is nothing now."""
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return None


def _keep(tail: deque[bytes], data: bytes) -> None:
    first, *rest = data.split(b"\n")
    tail[-1] = (tail[-1] + first)[:READ_BYTES]
    tail.extend(rest[-LAST_LINES - 1 :])


def _end_rest(mark: bytes) -> None:
    """Kill what the run left behind: orphans come to us, and the run's own folder is in their environment."""
    for _ in range(SWEEPS):
        left = [pid for pid in _children() if _has(pid, mark)]
        if not left:
            return
        for pid in left:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def _children() -> list[int]:
    found = []
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                found += [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without it, or a thread that ended: they end with this process
        pass
    return found


def _has(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False
