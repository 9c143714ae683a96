"""Small random problems with whole numbers, so that every sum is exact and ties are frequent."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from schedulers import Problem


@st.composite
def problems(draw: st.DrawFn, tasks: int = 9, nodes: int = 4, constraints: bool = True) -> Problem:
    t, n = draw(st.integers(1, tasks)), draw(st.integers(1, nodes))
    label = draw(st.permutations(range(t)))
    pairs = [(label[i], label[j]) for j in range(t) for i in range(j)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=2 * t)) if pairs else []
    sizes = draw(whole(len(chosen), 9))
    edges = [(u, v, size) for (u, v), size in zip(chosen, sizes, strict=True)]
    options: dict[str, Any] = {}
    if constraints:
        options = draw(st.fixed_dictionaries({}, optional=limits(t, n)))
        if "quadratic" in options:
            options["quadratic"] = square(options["quadratic"], n)
    times = [draw(whole(n, 12)) for _ in range(t)]
    return Problem(times, edges, square(draw(whole(n * n, 4)), n), square(draw(whole(n * n, 3)), n), **options)


def limits(t: int, n: int) -> dict[str, st.SearchStrategy[Any]]:
    """Optional arguments of a problem that leave every task a node: node 0 is never forbidden, pins go there."""
    flags = st.lists(st.booleans(), min_size=n - 1, max_size=n - 1).map(lambda row: [True, *row])
    return {
        "available": whole(n, 9),
        "quadratic": whole(n * n, 1),
        "allowed": st.lists(flags, min_size=t, max_size=t),
        "pinned": st.dictionaries(st.integers(0, t - 1), st.just(0), max_size=2),
    }


def whole(count: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, most), min_size=count, max_size=count)


def square(values: list[int], n: int) -> list[list[int]]:
    return [[0 if a == b else values[a * n + b] for b in range(n)] for a in range(n)]
