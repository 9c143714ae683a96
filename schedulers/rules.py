"""WAVE rules of third parties: how the node that decides on a task chooses among the nodes that may run it.

    def choose(view):                                                     # view: schedulers.rules.View
        return min(view.nodes, key=lambda n: (n.load / n.cpus, n.name)).name

    [project.entry-points."jupiter.wave_rules"]
    calm = "my_rules:choose"

A rule sees what the deciding node knows, and nothing else; it answers with the name of one of `view.nodes`. It is asked
once per task, on the node that hosts the task's controller, and must be installed there. Its name is a mapper:
`submit --mapper calm`. Here it is also run on a whole problem, each decision with its own view (`wave_rule`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from schedulers.problem import Problem
    from schedulers.solution import Schedule

GROUP = "jupiter.wave_rules"
PREFIX = "wave-rule:"
"""Before the name of a rule in the name of a mapper"""


class Seen(NamedTuple):
    """A node that may run the task, as the deciding node sees it."""

    name: str
    exec_s: float | None
    """predicted, alone there; None: nobody knows"""
    speed: float
    load: float
    """busy cores"""
    cpus: float
    memory_used: float
    """share"""
    committed: int
    """tasks of this job that the deciding node knows to be there"""


class Input(NamedTuple):
    """What the task gets from one parent, or from the source: `task` is then `home`."""

    task: str
    node: str
    bytes: float


class View(NamedTuple):
    """All that a decision is made from. `links`: (from, to) -> (seconds of latency, bytes per second), as known."""

    task: str
    here: str
    nodes: tuple[Seen, ...]
    inputs: tuple[Input, ...]
    links: Mapping[tuple[str, str], tuple[float, float]]
    seed: int

    def transfer_s(self, src: str, dst: str, size: float) -> float | None:
        """Predicted seconds for `size` bytes; None where the deciding node knows nothing of that link."""
        if src == dst:
            return 0.0
        link = self.links.get((src, dst))
        return link[0] + size / link[1] if link and link[1] > 0 else None


Rule = Callable[[View], str]


def names() -> list[str]:
    """Every rule that is installed, sorted."""
    return sorted(_found())


def load(name: str) -> Rule:
    """KeyError for a rule that is not installed; whatever its module raises."""
    found = _found().get(name)
    if found is None:
        raise KeyError(f"no rule is called {name!r}; installed: {', '.join(names()) or 'none'}")
    rule: Rule = found.load()
    return rule


def ask(rule: Rule, view: View) -> str:
    """The rule's choice; ValueError when it is none of the nodes. Whatever the rule raises."""
    chosen: object = rule(view)
    if not isinstance(chosen, str) or chosen not in {node.name for node in view.nodes}:
        raise ValueError(f"the rule chose {chosen!r:.80}, which is none of the {len(view.nodes)} nodes")
    return chosen


def to_plain(view: View) -> dict[str, Any]:
    """As plain data, to be handed to another process."""
    links = [[src, dst, *link] for (src, dst), link in view.links.items()]
    nodes, inputs = [list(node) for node in view.nodes], [list(each) for each in view.inputs]
    return {**view._asdict(), "nodes": nodes, "inputs": inputs, "links": links}


def from_plain(data: Mapping[str, Any]) -> View:
    links = {(src, dst): (latency, rate) for src, dst, latency, rate in data["links"]}
    nodes = tuple(Seen(*node) for node in data["nodes"])
    return View(data["task"], data["here"], nodes, tuple(Input(*i) for i in data["inputs"]), links, data["seed"])


def wave_rule(p: Problem, rule: Rule, *, seed: int = 0, contention: bool = False) -> Schedule:
    """The mapping that a rule makes of a whole problem; tasks and nodes are called by their numbers."""
    from schedulers.replay import replay
    from schedulers.wave import decide_all

    def choose(t: int, known: Mapping[int, int]) -> int:
        committed = Counter(node for u, node in known.items() if p.times[u].any())
        nodes = tuple(
            Seen(str(n), float(p.times[t, n]), 1.0, 0.0, 1.0, 0.0, committed[n]) for n in p.nodes_for(t)
        )  # fmt: skip
        inputs = tuple(Input(str(u), str(known[u]), data) for u, data in p.parents[t] if u in known)
        hosts = {known[u] for u, _ in p.parents[t] if u in known}
        links = {
            (str(a), str(b)): (float(p.latency[a, b]), 1.0 / max(float(p.inv_rate[a, b]), 1e-15))
            for a in hosts for b in p.nodes_for(t) if a != b
        }  # fmt: skip
        return int(ask(rule, View(str(t), "", nodes, inputs, links, seed)))

    return replay(p, decide_all(p, choose), contention=contention)


def _found() -> dict[str, EntryPoint]:
    from schedulers.registry import third_party  # which imports this module

    return third_party(GROUP)
