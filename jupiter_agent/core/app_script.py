"""Which contract a task script follows, read from its source without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator

from jupiter_agent.errors import UsageError

MAX_BYTES = 1024 * 1024
_HINT = "define def process(inputs, ctx) at the top level of the script"
_BOTH_HINT = "'process' makes a native task, 'task' a v5 one: keep one, rename the other"
_TAKES = {
    "native": ("process", 2, "two arguments, inputs and ctx"),
    "v5": ("task", 4, "four arguments: q, pathin, pathout, task_name"),
    "v4": ("task", 3, "three arguments: onefile, pathin, pathout"),
}


def contract(source: bytes, name: str) -> str:
    """'native' when the script defines `process`, 'v5' when it defines `task`.

    UsageError `NAME:LINE: what` when it defines both or none, or is not Python.
    """
    bound = dict(_names(syntax_tree(source, name).body))
    if "process" in bound and "task" in bound:
        raise UsageError(f"{name}:{bound['task'].lineno}: the script defines both 'process' and 'task'", _BOTH_HINT)
    for kind in ("native", "v5"):
        if (function := _TAKES[kind][0]) in bound:
            _check_arguments(bound[function], kind, name)
            return kind
    raise UsageError(f"{name}:1: the script defines no 'process'", _HINT)


def check_v4(source: bytes, name: str) -> bool:
    """Whether the script of a v4 folder defines `task`; `process` means nothing there.

    UsageError `NAME:LINE: what` when it is not Python, or its `task` takes other arguments.
    """
    bound = dict(_names(syntax_tree(source, name).body))
    if "task" in bound:
        _check_arguments(bound["task"], "v4", name)
    return "task" in bound


def syntax_tree(source: bytes, name: str) -> ast.Module:
    """The script, parsed and not run; UsageError when it is too long or not Python."""
    if len(source) > MAX_BYTES:
        raise UsageError(f"{name}:1: the script has {len(source)} bytes, {MAX_BYTES} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, name)
    except SyntaxError as error:
        raise UsageError(f"{name}:{error.lineno or 1}: not Python: {error.msg}", "mend the script first") from error
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, too deep
        raise UsageError(f"{name}:1: not Python that can be read: {type(error).__name__}") from error


def _check_arguments(node: ast.stmt, kind: str, name: str) -> None:
    """What is imported or assigned is believed."""
    function, count, takes = _TAKES[kind]
    if isinstance(node, ast.AsyncFunctionDef):
        raise UsageError(f"{name}:{node.lineno}: '{function}' must not be async", f"write def {function}(...)")
    if isinstance(node, ast.FunctionDef):
        given = [*node.args.posonlyargs, *node.args.args]
        needed = len(given) - len(node.args.defaults)
        keywords = any(default is None for default in node.args.kw_defaults)
        if needed > count or (len(given) < count and node.args.vararg is None) or keywords:
            written = ", ".join(argument.arg for argument in given)
            hint = f"it takes ({written})" if function == "task" else _HINT
            raise UsageError(f"{name}:{node.lineno}: '{function}' must take {takes}", hint)


def _names(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """What a module binds at its top level, within `if`, `try` and `with` too; later ones win."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node
            case ast.Assign():
                yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=word), value=ast.expr()):
                yield word, node
            case ast.Import() | ast.ImportFrom():
                yield from ((alias.asname or alias.name, node) for alias in node.names)
            case ast.If() | ast.With():
                yield from _names([*node.body, *getattr(node, "orelse", [])])
            case ast.Try():
                handlers = [inner for handler in node.handlers for inner in handler.body]
                yield from _names([*node.body, *handlers, *node.orelse, *node.finalbody])
            case _:
                pass
