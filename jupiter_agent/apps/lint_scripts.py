"""What a task's script shows without being run: state kept across items, absolute paths, a v5 loop that is none.

Heuristics over the syntax tree; they may miss, and they stay silent where a name says that it is a cache. State that
outlives an item dies with its process, and a task may move or restart at any time (DESIGN.md 7, contracts).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TypeAlias

from jupiter_agent.core.app_script import syntax_tree

Found: TypeAlias = tuple[int, str, str]
"""(line, what, hint)"""

_MAKERS = {"list", "dict", "set", "bytearray", "defaultdict", "Counter", "deque", "OrderedDict", "Queue"}
_CHANGERS = {
    "append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "add", "discard", "update",
    "setdefault", "popitem", "appendleft", "popleft", "extendleft", "put", "subtract",
}  # fmt: skip
_CACHES = re.compile(r"cache|memo", re.IGNORECASE)
_ABSOLUTE = re.compile(r"/(?:home|tmp|var|usr|opt|srv|root|mnt|media|data|Users|centralized_scheduler|jupiter)(?:/|\Z)")
_STATE_HINT = {
    "v5": "keep it inside task() and drop it with its item, or say `replay: N` for the task",
    "v4": "write what the next task needs into its files",
    "native": "return what the next task needs; for files there is ctx.scratch",
}
_CALLED = {"native": "process", "v5": "task", "v4": "task"}


def script_findings(source: bytes, name: str, contract: str, replayed: bool) -> Iterator[Found]:
    """Warnings for a script that the parser accepted. `replayed`: its tasks ask for their last items again."""
    tree = syntax_tree(source, name)
    if not replayed:
        yield from _state(tree, contract)
    if contract == "native":
        yield from _absolute_paths(tree)
    if contract == "v5":
        yield from _loop(tree)


def _state(tree: ast.Module, contract: str) -> Iterator[Found]:
    mutable = {name for name in _mutable_names(tree) if not _CACHES.search(name)}
    said: set[str] = set()
    for function in _reachable(tree, _CALLED[contract]):
        for line, name in sorted({*_changes(function, mutable), *_rebound(function)}):
            if name not in said and not _CACHES.search(name):
                said.add(name)
                what = f"'{name}' is changed in {function.name}() and kept across items: lost when the task moves"
                yield line, what, _STATE_HINT[contract]


def _mutable_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        made = isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
        if isinstance(value, ast.Call):
            called = value.func
            word = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            made = word in _MAKERS
        if made:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _reachable(tree: ast.Module, start: str) -> list[ast.FunctionDef]:
    """The contract's function and the module's functions that it names, directly or not."""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found: dict[str, ast.FunctionDef] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found[name] = functions[name]
            waiting += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
    return list(found.values())


def _changes(function: ast.FunctionDef, names: set[str]) -> Iterator[tuple[int, str]]:
    """Where one of the module's containers is changed, unless the function has a name of its own like it."""
    own = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    own |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for node in ast.walk(function):
        changed: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGERS:
            changed = node.func.value
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = node.value
        while isinstance(changed, ast.Subscript | ast.Call | ast.Attribute):
            changed = changed.func if isinstance(changed, ast.Call) else changed.value
        if isinstance(changed, ast.Name) and changed.id in names - own:
            yield changed.lineno, changed.id


def _rebound(function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    """What it declares global and binds."""
    names = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in names:
            yield node.lineno, node.id


def _absolute_paths(tree: ast.Module) -> Iterator[Found]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _ABSOLUTE.match(node.value):
            what = f"the absolute path '{node.value[:60]}': it need not exist where the task runs"
            yield node.lineno, what, "read files beside the script by Path(__file__).parent, write into ctx.scratch"


def _loop(tree: ast.Module) -> Iterator[Found]:
    for function in _reachable(tree, "task")[:1]:
        inside = list(ast.walk(function))
        if not any(isinstance(node, ast.While | ast.For) for node in inside):
            what = "task() has no loop, and it is called once: only its first file is seen"
            yield function.lineno, what, "while True: name = q.get() ... q.task_done()"
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if "get" in names and "task_done" not in names:
            what = "no q.task_done(): nobody learns that an item is done with"
            yield function.lineno, what, "call q.task_done() once for each q.get(), after the outputs are closed"
