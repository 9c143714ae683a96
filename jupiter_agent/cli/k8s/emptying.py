"""What runs on a node to remove an agent's state folder. It goes there as text and needs Python's own library only: the
image may have another version of ours.

A node's disk can hold the state of another deployment, whose agent may run. So the folder goes only if its cluster is
the one that is meant, and under the lock that an agent holds while it runs. It is renamed first: cut short at any
moment, nothing is left under its name that looks like a state folder and is none.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys

DONE, FOREIGN, IN_USE = 0, 10, 11
"""Ends of the process; any other is a failure: 1 with a traceback"""


def empty(folder: str, fingerprint: str) -> int:
    """`fingerprint`: of the cluster whose state may go, in hex."""
    going = f"{folder}.going-{fingerprint[:16]}"
    if os.path.lexists(going):
        shutil.rmtree(going)  # of a run that was cut short
    try:
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return DONE
    try:
        known = cluster_of(folder)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return IN_USE if known == fingerprint else FOREIGN
        if known not in ("", fingerprint):
            return FOREIGN
        os.rename(folder, going)
    finally:
        os.close(lock)
    shutil.rmtree(going)
    return DONE


def cluster_of(folder: str) -> str:
    """'' for what is of no cluster; a word that is no fingerprint for what cannot be told."""
    try:
        with open(os.path.join(folder, "cluster.json"), encoding="utf-8") as file:
            return str(json.load(file)["fingerprint"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(empty(sys.argv[1], sys.argv[2]))
