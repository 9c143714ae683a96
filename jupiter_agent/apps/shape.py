"""The shape of a dummy application: random layered DAGs with prescribed compute and communication.

One entry, one exit, inner levels between them; a task has about `deg_mu` children, in the next level first. Compute is
drawn per task, bytes per edge, and the bytes are scaled so that

    ccr = (bytes on all edges between tasks / reference rate) / seconds of all tasks

holds to rounding. The parameters are those of the original's generator (COMPAT.md); the layered form follows
Topcuoglu et al., IEEE TPDS 13(3), 2002, section 5. Differs: their CCR averages per edge and task, ours divides totals.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any, NamedTuple

from jupiter_agent.errors import UsageError

MAX_TASKS = 2000
MAX_BYTES = 512 * 1024 * 1024
MIN_EDGE = 32
"""bytes an edge carries at least: its content depends on what came before"""
TOLERANCE = 0.1
DEFAULT_TASKS = 30


class Shape(NamedTuple):
    """What is asked for. None: chosen to fit the rest. Seconds, bytes per second, counts."""

    depth: int | None = None
    width_min: int | None = None
    width_max: int | None = None
    total_num: int | None = None
    deg_mu: float = 2.0
    deg_sigma: float = 0.7
    ccr: float = 0.5
    comp_mu: float = 0.02
    comp_sigma: float = 0.005
    link_comm_sigma: float = 0.3
    rate: float = 1.25e6
    items: int = 3
    seed: int = 0
    contract: str = "native"
    work: str = "sleep"


class Graph(NamedTuple):
    """What came out. Tasks are numbered from the entry, 0, level by level to the exit."""

    levels: list[list[int]]
    seconds: list[float]
    edges: dict[tuple[int, int], int]
    """(task, child) -> bytes"""

    def ccr(self, rate: float) -> float:
        return sum(self.edges.values()) / rate / sum(self.seconds)

    def children(self, task: int) -> list[int]:
        return [v for u, v in self.edges if u == task]


_WHOLE = {"depth": (1, MAX_TASKS), "width_min": (1, MAX_TASKS), "width_max": (1, MAX_TASKS)}
_WHOLE |= {"total_num": (1, MAX_TASKS), "items": (1, 1000), "seed": (0, 2**53)}
_NUMBERS = {"deg_mu": (0, 1000), "deg_sigma": (0, 1000), "ccr": (0, 1e6), "comp_mu": (1e-6, 3600)}
_NUMBERS |= {"comp_sigma": (0, 3600), "link_comm_sigma": (0, 100), "rate": (1, 1e12)}
_WORDS = {"contract": ("native", "v5", "v4"), "work": ("sleep", "spin")}


def read_shape(path: Path | None, flags: dict[str, Any]) -> Shape:
    """Defaults < the file < the flags. UsageError, with the file's line, for what is unknown or out of range."""
    given = {**(_read(path) if path else {}), **{key: (value, f"--{_flag(key)}") for key, value in flags.items()}}
    return Shape(**{key: _checked(key, value, where) for key, (value, where) in given.items()})


def _flag(key: str) -> str:
    return key.replace("_", "-")


def _read(path: Path) -> dict[str, tuple[str, str]]:
    """Key -> (text, FILE:LINE); sections count as if their keys stood at the top."""
    from yaml.nodes import MappingNode, Node

    from jupiter_agent.core.app_text import did_you_mean
    from jupiter_agent.core.app_yaml import YamlFile

    try:
        file = YamlFile(path.read_bytes(), path.name)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "SPEC.yaml holds the options, one `key: value` a line") from error
    found: dict[str, tuple[str, str]] = {}

    def walk(node: Node, depth: int) -> None:
        for key, value in file.mapping(node, "the file").items():
            if isinstance(value, MappingNode) and depth < 3:
                walk(value, depth + 1)
            elif key not in Shape._fields:
                raise file.wrong(value, f"unknown key '{key}'", did_you_mean(key, Shape._fields))
            else:
                found[key] = (file.text(value, key), file.at(value))

    walk(file.root, 0)
    return found


def _checked(key: str, value: Any, where: str) -> Any:
    if key in _WORDS:
        if value not in _WORDS[key]:
            raise UsageError(f"{where}: {key} '{value}' is unknown", f"one of: {', '.join(_WORDS[key])}")
        return value
    low, high = _WHOLE[key] if key in _WHOLE else _NUMBERS[key]
    try:
        number = int(value) if key in _WHOLE else float(value)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        kind = "a whole number" if key in _WHOLE else "a number"
        raise UsageError(f"{where}: {key} must be {kind} from {low:g} to {high:g}, not '{value}'", "correct it")
    return number


def draw(shape: Shape) -> Graph:
    """The graph of a shape; a function of the shape alone. UsageError when no graph has it."""
    rng = random.Random(shape.seed)
    levels, first = [], 0
    for width in _widths(shape, rng):
        levels.append(list(range(first, first + width)))
        first += width
    pairs = _pairs(shape, levels, rng)
    seconds = [
        round(max(rng.gauss(shape.comp_mu, shape.comp_sigma), shape.comp_mu / 20, 1e-6), 6) for _ in range(first)
    ]
    weights = [max(rng.gauss(1.0, shape.link_comm_sigma), 0.05) for _ in pairs]
    total = shape.ccr * sum(seconds) * shape.rate
    if total > MAX_BYTES:
        hint = "a smaller ccr, comp-mu or rate"
        raise UsageError(f"an item would move {total / 1e6:.0f} MB, {MAX_BYTES / 1e6:.0f} are allowed", hint)
    graph = Graph(levels, seconds, dict(zip(pairs, _scaled(weights, total), strict=True)))
    if pairs and shape.ccr and abs(graph.ccr(shape.rate) / shape.ccr - 1) > TOLERANCE:
        what = f"ccr {shape.ccr:g} is out of reach: {len(pairs)} edges of {MIN_EDGE} bytes or more"
        raise UsageError(f"{what} make {graph.ccr(shape.rate):.3g}", "a larger ccr, comp-mu or rate")
    return graph


def _scaled(weights: list[float], total: float) -> list[int]:
    """Whole bytes in proportion to the weights, none below MIN_EDGE, with this sum as far as that allows."""
    small: set[int] = set()
    while True:
        left = total - MIN_EDGE * len(small)
        share = sum(weight for i, weight in enumerate(weights) if i not in small)
        scale = max(left, 0.0) / share if share else 0.0
        below = {i for i, weight in enumerate(weights) if weight * scale < MIN_EDGE}
        if below <= small:
            return [MIN_EDGE if i in small else round(weight * scale) for i, weight in enumerate(weights)]
        small |= below


def _widths(shape: Shape, rng: random.Random) -> list[int]:
    """Tasks per level: one, inner ones, one. Drawn evenly, then moved one by one to the wanted sum."""
    if shape.depth is not None and shape.depth < 3:
        if shape.total_num not in (None, shape.depth):
            raise UsageError(f"{shape.total_num} tasks do not fit: depth {shape.depth} has {shape.depth}", "more depth")
        return [1] * shape.depth
    if shape.total_num is not None and shape.total_num < 3:
        if shape.depth is not None:
            raise UsageError(f"{shape.total_num} tasks make no {shape.depth} levels", "more tasks, or less depth")
        return [1] * shape.total_num
    low, high, inner = _bounds(shape)
    widths = [rng.randint(low, high) for _ in range(inner)]
    target = sum(widths) if shape.total_num is None and shape.depth is not None else _target(shape)
    if not inner * low <= target <= inner * high:
        what = f"{target + 2} tasks do not fit: {inner} inner levels of {low} to {high} and two ends"
        raise UsageError(
            f"{what} hold {inner * low + 2} to {inner * high + 2}", "change depth, width-min, width-max or total-num"
        )
    while (short := target - sum(widths)) != 0:
        step = 1 if short > 0 else -1
        at = rng.choice([i for i, width in enumerate(widths) if low <= width + step <= high])
        widths[at] += step
    return [1, *widths, 1]


def _target(shape: Shape) -> int:
    """Tasks of the inner levels."""
    return (shape.total_num or DEFAULT_TASKS) - 2


def _bounds(shape: Shape) -> tuple[int, int, int]:
    """Smallest and largest inner level, and how many there are."""
    target = _target(shape)
    low = shape.width_min or 1
    high = shape.width_max or max(low, round(1.2 * math.sqrt(target)))
    if shape.depth is not None:
        inner = shape.depth - 2
    else:
        inner = min(max(round(target / ((low + high) / 2)), math.ceil(target / high)), max(target // low, 1))
    if shape.width_max is None:
        usual = high if shape.depth is None else max(low, math.ceil(1.5 * target / inner))
        high = max(usual, math.ceil(target / inner))
    if low > high:
        raise UsageError(f"width-min {low} is above width-max {high}", "change one of them")
    return low, high, inner


def _pairs(shape: Shape, levels: list[list[int]], rng: random.Random) -> list[tuple[int, int]]:
    """Edges in order of their ends. Every task but the entry has a parent, every one but the exit a child."""
    found: set[tuple[int, int]] = set()
    for at, level in enumerate(levels[:-1]):
        later = [task for after in levels[at + 2 :] for task in after]
        for task in level:
            degree = max(1, round(rng.gauss(shape.deg_mu, shape.deg_sigma)))
            near = rng.sample(levels[at + 1], min(degree, len(levels[at + 1])))
            far = rng.sample(later, min(degree - len(near), len(later)))
            found |= {(task, child) for child in [*near, *far]}
        fed = {child for _, child in found}
        found |= {(rng.choice(level), child) for child in levels[at + 1] if child not in fed}
    return sorted(found)
