"""The DAG of an app as the rest asks for it: order, edges, entries, sinks, and which stamps travel on which edge.

`home` is both ends: the source of what enters (it feeds every `sources` task) and the last join (the child of every
sink). Where it is asked for as a parent it is the source, as a child the sink; the two are different vertices here.

What enters: injected items go to `entries`, what tasks beside the DAG send goes to `fed`, and a task that is neither
and has no parent gets a token, or it would wait for ever. All of them have an in-edge from home, after those of their
parents.

Carry sets (DESIGN.md, section 7, rule 3): on edge (u, v) travel the stamps of those ancestors of u, u and the source
included, that reach v or something after v, home included, by several paths: only there can two attempts of one
ancestor meet. Path counts saturate at two, and a set of vertices is one int (a bit per vertex), so all sets together
cost O(edges) operations on ints of as many bits as there are tasks.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.errors import UsageError

Edge = tuple[str, str]
K = TypeVar("K", bound=Hashable)


class Dag:
    """Built from tasks in file order; `TaskSpec.parents` is not read. UsageError: taken name, unknown child, cycle.

    `entries`: tasks that get injected items; None means every task without a parent. `fed`: tasks that get files from
    tasks beside the DAG. Both may have parents, too.
    """

    def __init__(
        self, tasks: Sequence[TaskSpec], entries: Collection[str] | None = None, fed: Collection[str] = ()
    ) -> None:
        self._out: dict[str, list[str]] = {}
        for task in tasks:
            if task.name in self._out or task.name == HOME:
                raise UsageError(f"task name '{task.name}' is taken")
            self._out[task.name] = list(dict.fromkeys(task.children)) or [HOME]
        self._children = {name: [c for c in out if c != HOME] for name, out in self._out.items()}
        self._parents: dict[str, list[str]] = {name: [] for name in self._out}
        for name, children in self._children.items():
            for child in children:
                if child not in self._parents:
                    raise UsageError(f"task '{name}' names the unknown child '{child}'")
                self._parents[child].append(name)
        self.order: list[str] = _topological(self._children, self._parents)
        """topological, ties in file order"""
        roots = {name for name, parents in self._parents.items() if not parents}
        for name in [*(entries or ()), *fed]:
            if name not in self._out:
                raise UsageError(f"home feeds the unknown task '{name}'")
        meant = roots if entries is None else set(entries)
        self.entries: list[str] = [name for name in self._out if name in meant]
        """in file order: every one gets every injected item, unless the item was put for one of them"""
        fed_roots = meant.union(fed)
        self.sources: list[str] = [name for name in self._out if name in roots or name in fed_roots]
        """in file order: entries, fed tasks and other tasks without a parent; home sends each data or a token"""
        self.unreachable: list[str] = [name for name in self.sources if name not in fed_roots]
        """tasks without a parent that are neither entry nor fed: they get tokens only"""
        self._in = dict(self._parents)
        for name in self.sources:
            self._in[name] = [*self._parents[name], HOME]
        self.sinks: list[str] = [name for name, out in self._out.items() if HOME in out]
        """tasks that deliver to home, in file order; a task without children has an implicit edge to home"""
        self.carry: Mapping[Edge, frozenset[str]]
        """(u, v), from and to home too -> ancestors whose stamps travel on the edge; `home` among them is the source"""
        self.need: Mapping[str, frozenset[str]]
        """task -> stamps its outputs must carry, without its own; for `home` none"""
        self._carry_sets()

    def parents(self, task: str) -> list[str]:
        """In file order, without home."""
        return self._parents[task]

    def children(self, task: str) -> list[str]:
        """As written, without home."""
        return self._children[task]

    def in_edges(self, task: str) -> list[str]:
        """Whence an item's data or tokens must come: parents, then home for a source; for `home` the sinks."""
        return self.sinks if task == HOME else self._in[task]

    def out_edges(self, task: str) -> list[str]:
        """Whereto a run's manifest goes: children as written, home among them; for `home` the sources."""
        return self.sources if task == HOME else self._out[task]

    def upward_ranks(
        self, seconds: Mapping[str, float], edge_bytes: Mapping[str, float], latency_s: float, inv_rate: float
    ) -> dict[str, float]:
        """Seconds from the start of each task to the arrival of its last result at home, by plain averages.

        `seconds`: per task, mean over nodes. `edge_bytes`: 'u>v' -> bytes. `latency_s` and `inv_rate` (seconds per
        byte): means over links. Missing keys count 0. Upward rank of Topcuoglu et al., IEEE TPDS 13(3), 2002, eq. 8;
        Differs: home is a child that costs its transfer only, so delivering results counts.
        """
        ranks = {HOME: 0.0}
        for name in reversed(self.order):
            after = (latency_s + inv_rate * edge_bytes.get(f"{name}>{c}", 0) + ranks[c] for c in self._out[name])
            ranks[name] = seconds.get(name, 0.0) + max(after)
        del ranks[HOME]
        return ranks

    def _carry_sets(self) -> None:
        """Fill `carry` and `need`. Bit 0 is the source, bit i + 1 is `order[i]`."""
        bit = {name: 2 << i for i, name in enumerate(self.order)}
        once: dict[str, int] = {HOME: 1}  # ancestors, the vertex itself included; HOME is the source here
        several: dict[str, int] = {}  # ancestors that reach the vertex by two paths or more; HOME is the sink here
        for name in [*self.order, HOME]:
            seen = twice = 0
            for parent in self.in_edges(name):
                twice |= several.get(parent, 0) if parent != HOME else 0
                twice |= seen & once[parent]
                seen |= once[parent]
            several[name] = twice
            if name != HOME:
                once[name] = seen | bit[name]
        below = {HOME: several[HOME]}  # ancestors that reach a join at or after the vertex by several paths
        for name in reversed(self.order):
            below[name] = several[name]
            for child in self._out[name]:
                below[name] |= below[child]
        carry, need = dict[Edge, int](), {HOME: 0}
        for u in [HOME, *self.order]:
            needed = 0
            for v in self.out_edges(u):
                needed |= (mask := once[u] & below[v])
                carry[u, v] = mask
            if u != HOME:
                need[u] = needed & ~bit[u]
        names = _Names([HOME, *self.order])
        self.carry, self.need = _Sets(carry, names), _Sets(need, names)


class _Names(dict[int, frozenset[str]]):
    """Bit mask -> names; equal masks share one set."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._of = names

    def __missing__(self, mask: int) -> frozenset[str]:
        found = frozenset(name for name, digit in zip(self._of, reversed(f"{mask:b}"), strict=False) if digit == "1")
        self[mask] = found
        return found


class _Sets(Mapping[K, frozenset[str]]):
    """Bit masks as sets of names, made when they are asked for: a node asks for those of the tasks it hosts."""

    def __init__(self, masks: dict[K, int], names: _Names) -> None:
        self._masks, self._names = masks, names

    def __getitem__(self, key: K) -> frozenset[str]:
        return self._names[self._masks[key]]

    def __iter__(self) -> Iterator[K]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)


def find_cycle(children: Mapping[str, Iterable[str]]) -> list[str]:
    """One cycle as [a, b, ..., a], or []. Names that are no key have no children. Not recursive: any depth."""
    state: dict[str, int] = {}  # 1: on the path, 2: done
    for root in children:
        if root in state:
            continue
        state[root] = 1
        path, stack = [root], [iter(children[root])]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                state[path.pop()] = 2
            elif state.get(name) == 1:
                return [*path[path.index(name) :], name]
            elif name in children and name not in state:
                state[name] = 1
                path.append(name)
                stack.append(iter(children[name]))
    return []


def _topological(children: Mapping[str, Sequence[str]], parents: Mapping[str, Sequence[str]]) -> list[str]:
    position = {name: i for i, name in enumerate(children)}
    names = list(children)
    waiting = {name: len(of) for name, of in parents.items()}
    ready = [position[name] for name, count in waiting.items() if not count]
    order = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for child in children[name]:
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, position[child])
    if len(order) < len(names):
        raise UsageError("the tasks form a cycle: " + " -> ".join(find_cycle(children)))
    return order
