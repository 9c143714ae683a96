"""Imports go down only, and nothing grows beyond what one person can hold in mind (STYLE.md, habit 6)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jupiter_agent"
PARTS = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and path.stem != "__init__"}
"""what stands directly in the package: `core`, `agent`, ..."""
MODULES = sorted([*(ROOT / "jupiter_agent").rglob("*.py"), *(ROOT / "schedulers").rglob("*.py")])

MAY_IMPORT = {
    "schedulers": set(),
    "errors": set(),
    "core": {"schedulers", "errors"},
    "adapters": {"core", "schedulers", "errors"},
    "sim": {"netlab", "adapters", "core", "schedulers", "errors"},
    "config": {"core", "errors"},
    "whereabouts": {"adapters", "config", "core", "errors"},
    "agent": {"whereabouts", "adapters", "config", "core", "errors"},
    "apps": {"adapters", "core", "schedulers", "errors"},
    "netlab": {"errors"},
    "k8s": {"errors"},
    "bench": {"netlab", "sim", "agent", "adapters", "config", "core", "schedulers", "errors"},
    "cli": {"apps", "k8s", "bench", "netlab", "sim", "agent", "adapters", "config", "core", "schedulers", "errors"},
    "task": set(),
    "compat": set(),
    "web": set(),
    "__init__": set(),
}
"""part -> parts it may import, itself apart. `task` and `compat` run inside task processes: they know nobody."""

NOT_IN_CORE = {"asyncio", "zmq", "time", "os", "socket", "subprocess", "logging", "threading", "signal"}
NOT_IN_CORE_EITHER = {"pathlib.Path"}
"""pure paths are texts"""

MODULE_LINES, FUNCTION_LINES = 400, 60


def part_of(module: str) -> str:
    """The layer a dotted name of ours belongs to; '' for anybody else's."""
    names = module.split(".")
    if names[0] == "jupiter_agent":
        return names[1] if len(names) > 1 and names[1] in PARTS else "__init__"
    return "schedulers" if names[0] == "schedulers" else ""


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported name, also inside functions; `from a import b` counts as `a.b`, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def test_every_module_belongs_to_a_known_layer():
    assert {part_of(dotted(path)) for path in MODULES} <= set(MAY_IMPORT)
    assert len(MODULES) > 80


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_down_only(part):
    upward = [
        f"{dotted(path)} imports {name}"
        for path in MODULES
        if part_of(dotted(path)) == part
        for name in imports(tree_of(path))
        if part_of(name) not in {"", "__init__", part, *MAY_IMPORT[part]}
    ]
    assert upward == []


def test_core_meets_no_clock_no_file_no_socket_and_no_log():
    met = {
        (dotted(path), name.split(".")[0])
        for path in MODULES
        if part_of(dotted(path)) == "core"
        for name in imports(tree_of(path))
        if name.split(".")[0] in NOT_IN_CORE or name in NOT_IN_CORE_EITHER
    }
    assert met == set()


def test_only_the_driver_the_mains_the_solver_and_tasks_catch_everything():
    catching = {
        dotted(path)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception"
    }
    assert {part_of(name) for name in catching} <= {"adapters", "agent", "cli", "task", "bench"}


def test_no_module_is_longer_than_400_lines():
    long = {dotted(path): count for path in MODULES if (count := len(path.read_text().splitlines())) > MODULE_LINES}
    assert long == {}


def test_no_function_is_longer_than_60_lines():
    long = {
        f"{dotted(path)}.{node.name}": node.end_lineno - node.lineno + 1
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    }
    assert long == {}
