"""What a task process does to itself before any user code runs: limits, no new privileges, and dying with its agent.

Three ways to die with the agent, because user code may block any one of them; each takes the whole process *group*:

* the lifeline, a pipe only the agent can write to: its read end is armed with F_SETOWN(-group) and F_SETSIG(SIGKILL),
  so the kernel itself kills every member when the writer vanishes, even inside C code that never returns;
* the death signal (PR_SET_PDEATHSIG), for the case that a child of the agent still holds the lifeline. It is not
  SIGKILL: this process would die first, its armed end with it, and the rest of the group would live on;
* the end of file on the frame socket, for a process that waits for work (serve.py).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would import enum
import ctypes
import fcntl
import os
import resource

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
F_SETSIG = 10
SIGKILL = 9
LIMITS = (
    (resource.RLIMIT_NOFILE, "nofile"),
    (resource.RLIMIT_AS, "address_space"),
    (resource.RLIMIT_DATA, "data"),
    (resource.RLIMIT_FSIZE, "file_size"),
    (resource.RLIMIT_NPROC, "nproc"),
)
NICE = 5
"""the agent comes first where cores are short"""
OOM_SCORE = 500
"""added to the kernel's badness: memory pressure ends a task before it ends the agent"""


def harden(agent_pid: int, lifeline: int, limits: dict[str, Any]) -> None:
    """Apply `limits` (see adapters/limits.py; None leaves one alone) and tie this process to the agent."""
    os.umask(0o077)
    for which, name in LIMITS:
        _limit(which, limits.get(name))
    _limit(resource.RLIMIT_CORE, 0)
    os.nice(NICE)
    _stay_on(limits.get("cpus"), limits.get("number", 0))
    if os.getpgrp() == 0:  # a sandbox whose keeper leads our group, unseen from inside
        os.setpgid(0, 0)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(OOM_SCORE))
    except OSError:
        pass
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _signal.signal(_signal.SIGRTMAX, end_group)
    prctl(PR_SET_PDEATHSIG, int(_signal.SIGRTMAX), 0, 0, 0)
    _arm(lifeline)
    if os.getppid() != agent_pid:  # it died before the death signal was asked for
        end_group()


def end_group(*_: object) -> None:
    """The agent is gone, or wants no more: nothing of ours goes on."""
    os.killpg(0, SIGKILL)


def _limit(which: int, value: int | None) -> None:
    if value is None:
        return
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _stay_on(cpus: int | None, number: int) -> None:
    """So many of the cores we may use, other ones for the process of the next number."""
    usable = sorted(os.sched_getaffinity(0))
    if cpus and cpus < len(usable):
        os.sched_setaffinity(0, {usable[(number * cpus + n) % len(usable)] for n in range(cpus)})


def _arm(lifeline: int) -> None:
    """Opened again, so that owner and signal belong to this process's own file description, not to everybody's."""
    try:
        fd = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # no /proc: the death signal and the socket are left
        return
    os.close(lifeline)
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, F_SETSIG, SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        gone = os.read(fd, 1) == b""
    except BlockingIOError:
        gone = False
    if gone:
        end_group()
