"""Sending a file to another task from code, as v5 scripts do with scp. Here the agent carries it, along a DAG edge.

A lookup gives an address that remembers the task it belongs to. A transfer becomes an output of this task: a file in
the output folder under the name that says where it goes.
"""

from __future__ import annotations

import itertools
import os
import shutil
from typing import Any

HOME = "home"
_numbers = itertools.count()


class CIRCEIpNotFoundError(Exception):
    """No task of this name is known."""


class TransferError(Exception):
    """The file cannot be sent there."""


class TaskAddress(str):
    """An IP address, and the task that was looked up."""

    task: str

    def __new__(cls, ip: str, task: str) -> TaskAddress:
        address = super().__new__(cls, ip)
        address.task = task
        return address


def circe_lookup_ip(task_name: str) -> TaskAddress:
    """Of a DAG task or of `home`."""
    if task_name == HOME:
        return TaskAddress(os.environ["CIRCE_HOME_IP"], HOME)
    return _lookup(task_name, "CIRCE_TASK_TO_IP", "DAG")


def circe_lookup_nondag_ip(task_name: str) -> TaskAddress:
    return _lookup(task_name, "CIRCE_NONDAG_TASK_TO_IP", "non-DAG")


def transfer_data_scp(*args: Any) -> None:
    """`(ip, port, user, password, source, destination)`, or, as in older scripts, `(task, user, password, source,
    destination)`. The destination's file name is kept; a folder, or one that ends with `/`, keeps the source's.

    TransferError when the task is no child of this one; OSError when the source cannot be read.
    """
    if len(args) not in (5, 6):
        raise TypeError("transfer_data_scp takes (ip, port, user, password, source, destination)")
    where, source, destination = args[0], os.fspath(args[-2]), os.fspath(args[-1])
    last = os.path.basename(destination)
    name = last if last and "." in last else os.path.basename(source)
    child, base = _route(where, name)
    me, folder = os.environ["MY_TASK_NAME"], os.environ["JUPITER_OUTPUT"]
    partial = os.path.join(os.path.dirname(folder), f".sending-{os.getpid()}-{next(_numbers)}")
    shutil.copyfile(source, partial)
    os.rename(partial, os.path.join(folder, f"{me}_{child}_{base}"))


transfer_data = transfer_data_scp


def _route(where: str, name: str) -> tuple[str, str]:
    """(child, base name) from the address, else from a name of the form `<src>_<dst>_<base>`."""
    children = os.environ["JUPITER_CHILDREN"].split()
    parts = name.split("_", 2)
    child = getattr(where, "task", "")
    if not child:
        child = where if where in children else parts[1] if len(parts) == 3 else ""
    if child not in children:
        to = f"task {child}" if child else str(where)
        raise TransferError(f"{name} cannot be sent to {to}: it is no child here; they are {', '.join(children)}")
    return child, parts[2] if len(parts) == 3 and parts[1] == child else name


def _lookup(task: str, variable: str, kind: str) -> TaskAddress:
    for entry in os.environ.get(variable, "").split():
        name, _, ip = entry.partition(":")
        if name == task:
            return TaskAddress(ip, task)
    if kind == "DAG" and task in os.environ["JUPITER_CHILDREN"].split():  # not placed yet when this process started
        return TaskAddress("127.0.0.1", task)
    raise CIRCEIpNotFoundError(f"no address of the {kind} task {task} is known")
