"""Loading a task's script from the app's folder and checking that it keeps the native contract."""

from __future__ import annotations

import os
import sys
from types import CodeType, ModuleType

from jupiter_agent.task.errors import ContractError, a_type

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Process = Callable[..., Any]

CO_VARARGS, CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x04, 0x20, 0x80, 0x200
PROCESS_ARGUMENTS = 2


def load(folder: str, script: str) -> Process:
    """The script's `process`. Raises ContractError, or whatever the script raises while it is imported."""
    return _check(load_module(folder, script), script)


def load_module(folder: str, script: str) -> ModuleType:
    """The script as a module. `sys.path[0]` is the app's folder, so sibling modules import; `__name__` is the script's
    stem, never `__main__`.
    """
    path = os.path.join(folder, script)
    if not script or os.path.isabs(script) or ".." in script.split("/") or not os.path.isfile(path):
        raise ContractError(f"the app has no script {script!r}")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.argv = [path]
    return _run(path)


def _run(path: str) -> ModuleType:
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules:  # never replace a module that is in use
        name = f"jupiter_script_{name}"
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec")
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _check(module: ModuleType, script: str) -> Process:
    process = getattr(module, "process", None)
    if process is None:
        other = " (it defines `task`: that is the v5 contract)" if hasattr(module, "task") else ""
        raise ContractError(f"{script} defines no `process`{other}: write `def process(inputs, ctx)`")
    if not callable(process):
        raise ContractError(f"`process` in {script} is {a_type(process)}, not a function")
    code = getattr(process, "__code__", None)
    where = f"{script}:{code.co_firstlineno}: `process`" if isinstance(code, CodeType) else ""
    check_arguments(process, where, "process(inputs, ctx)", PROCESS_ARGUMENTS)
    return process  # type: ignore[no-any-return]


def check_arguments(function: Any, where: str, call: str, count: int) -> None:
    """ContractError when a plain function cannot be called as `call`, with `count` arguments."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return
    if code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
        raise ContractError(f"{where} is async: make it a plain function, and call asyncio.run inside")
    if code.co_flags & CO_GENERATOR:
        raise ContractError(f"{where} is a generator: return the value, or a dict of children, instead of yielding")
    given = code.co_argcount - (1 if hasattr(function, "__self__") else 0)
    least = given - len(function.__defaults__ or ())
    if least > count or (given < count and not code.co_flags & CO_VARARGS):
        raise ContractError(f"{where} takes {given} arguments: it is called as `{call}`")
