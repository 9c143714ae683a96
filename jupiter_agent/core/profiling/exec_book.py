"""What this node knows of the execution of apps: of its own runs (models), and what others said of theirs (profiles).

Everything is kept by bundle, so a second submit of the same app begins with what the first one showed. Whoever tells of
runs tells of its own: a profile counts for the node that sent it, whatever is in it.

An estimate comes from the best there is: the node's own runs (`measured`), its sample run (`sampled`), runs elsewhere,
work scaled by the speed indices (`scaled`), else what the app's home assumed (`prior`). The interval says how much that
is worth.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from math import exp
from statistics import median
from typing import NamedTuple, TypeVar

from jupiter_agent.core.counters import Run
from jupiter_agent.core.messages.profiling import TaskProfile
from jupiter_agent.core.profiling.crowding import Crowding
from jupiter_agent.core.profiling.exec_fit import Coefficients, Sample
from jupiter_agent.core.profiling.exec_model import TaskModel, on_curve
from jupiter_agent.core.surroundings import Estimate

T = TypeVar("T")

MAX_BUNDLES = 256
MAX_NODES = 256
"""whose profiles of one task are kept"""
SCALED_SPREAD, PRIOR_SPREAD = 0.4, 1.2
"""log: half of the interval of what was scaled, or but assumed"""
ENOUGH = 8
"""runs that say more than what an earlier life of this node left"""
LOOKED_AT, MAX_BEST = 5, 20_000
"""nodes whose runs are scaled, and tasks of which that is remembered"""
MEAN_WEIGHT = 0.1
"""least weight of a new run in means of bytes"""


class Node(NamedTuple):
    """A node as far as times depend on it. `load`: processes there that want a core."""

    id: str
    speed: float = 1.0
    cores: float = 1.0
    load: float = 0.0


class _Bytes:
    """Means of bytes in and per child."""

    def __init__(self) -> None:
        self.count, self.size, self.edges = 0, 0.0, dict[str, float]()

    def learn(self, size: int, edges: Mapping[str, int]) -> None:
        self.count += 1
        weight = max(MEAN_WEIGHT, 1 / self.count)
        self.size += weight * (size - self.size)
        for child, sent in edges.items():
            mean = self.edges.get(child, float(sent))
            self.edges[child] = mean + weight * (sent - mean)


class ExecBook:
    """See the module. `me`: this node."""

    def __init__(self, me: str, cores: float = 1.0, speed: float = 1.0) -> None:
        self.me, self.speed = me, speed
        self.crowding = Crowding(cores)
        self.dropped = 0
        """profiles and runs that cannot be"""
        self._own: OrderedDict[bytes, dict[str, tuple[TaskModel, _Bytes]]] = OrderedDict()
        self._told: OrderedDict[bytes, dict[str, dict[str, TaskProfile]]] = OrderedDict()
        """bundle -> task -> node -> profile; of this node: as it was kept before it started"""
        self._best: dict[tuple[bytes, str], list[TaskProfile]] = {}
        self._fresh: dict[tuple[bytes, str, str], None] = {}
        """(bundle, task, node) of what is not saved yet"""

    def on_machine(self, cores: float, speed: float) -> None:
        """What the sensors say of this node."""
        self.crowding.cores, self.speed = max(0.01, cores), speed

    # --- learning ------------------------------------------------------------------------------------------------

    def learn(self, bundle: bytes, run: Run, now: float, sampled: bool = False) -> None:
        """A run ended here."""
        tasks = _touched(self._own, bundle)
        model, sizes = tasks.setdefault(run.task, (TaskModel(self.crowding), _Bytes()))
        if not model.learn(Sample(run.bytes_in, run.seconds, run.cpu_s, run.load, now), now, sampled):
            self.dropped += 1
            if not model.count:
                del tasks[run.task]
            return
        sizes.learn(run.bytes_in, run.edges_out)
        self._best.pop((bundle, run.task), None)
        self._fresh[bundle, run.task, self.me] = None

    def take(self, src: str, bundle: bytes, profiles: Iterable[TaskProfile]) -> None:
        """What node `src` says of its own runs. What makes no sense is dropped, and counted."""
        tasks = _touched(self._told, bundle)
        for profile in profiles:
            nodes = tasks.setdefault(profile.task, {})
            if not _makes_sense(profile) or (src not in nodes and len(nodes) >= MAX_NODES):
                self.dropped += 1
            elif nodes.get(src) != profile:
                nodes[src] = profile
                self._best.pop((bundle, profile.task), None)
                self._fresh[bundle, profile.task, src] = None

    # --- asking --------------------------------------------------------------------------------------------------

    def knows(self, bundle: bytes) -> bool:
        """Something of its runs is known, here or elsewhere."""
        return any(self._told.get(bundle, {}).values()) or bool(self._own.get(bundle))

    def bundles(self) -> set[bytes]:
        """Those of which something is known."""
        return {*self._own, *self._told}

    def nodes_with(self, bundle: bytes, tasks: Iterable[str], now: float) -> set[str]:
        """Nodes of which a profile of each of these tasks is known."""
        found = [set(self._profiles(bundle, task, now)) for task in tasks]
        return set.intersection(*found) if found else set()

    def own(self, bundle: bytes, now: float) -> list[TaskProfile]:
        """What this node can tell of its own runs."""
        kept = {task: nodes[self.me] for task, nodes in self._told.get(bundle, {}).items() if self.me in nodes}
        mine = self._own.get(bundle, {})
        live = {task: self._profile(task, *of, now) for task, of in mine.items() if self._has_own(bundle, task)}
        return list({**kept, **live}.values())

    def estimate(self, bundle: bytes, task: str, node: Node, size: float | None, now: float) -> Estimate | None:
        """Of a run on a node as it is now; None where nobody ran it. `size`: bytes in, None: as usual."""
        if node.id == self.me and self._has_own(bundle, task):
            model, sizes = self._own[bundle][task]
            guess = model.predict(sizes.size if size is None else size, node.load, now)
            return Estimate(*guess, model.count, "sampled" if model.sampled else "measured")
        if (p := self._told.get(bundle, {}).get(task, {}).get(node.id)) is not None:
            seconds = _seconds(p, node, p.size if size is None else size)
            return Estimate(seconds, p.low * seconds, p.high * seconds, p.samples, _source(p))
        best = self._best_of(bundle, task, now)
        if not best:
            return None
        seconds = median(_seconds(p, node, p.size if size is None else size) for p in best)
        low, high = min(p.low for p in best) * exp(-SCALED_SPREAD), max(p.high for p in best) * exp(SCALED_SPREAD)
        return Estimate(seconds, seconds * low, seconds * high, sum(p.samples for p in best), "scaled")

    def _best_of(self, bundle: bytes, task: str, now: float) -> list[TaskProfile]:
        """Whose runs are scaled: items before samples, many before few. A mapping asks for every task and node, so the
        choice is kept until something is learned of the task."""
        found = self._best.get((bundle, task))
        if found is None:
            profiles = self._profiles(bundle, task, now).values()
            found = sorted(profiles, key=lambda p: (p.sampled, -p.samples))[:LOOKED_AT]
            if len(self._best) >= MAX_BEST:
                self._best.clear()
            if found:
                self._best[bundle, task] = found
        return found

    def prior(self, seconds: float, node: Node) -> Estimate:
        """Of a task of which is assumed that it takes so long on a node of speed 1 that does nothing else."""
        scaled = seconds / node.speed * max(1.0, (node.load + 1) / max(node.cores, 0.01))
        return Estimate(scaled, scaled * exp(-PRIOR_SPREAD), scaled * exp(PRIOR_SPREAD), 0, "prior")

    def usual(self, bundle: bytes, now: float) -> tuple[dict[str, float], dict[str, int]]:
        """(seconds per task on a free node of speed 1, 'u>v' -> bytes): medians over who ran it."""
        seconds, sent = {}, dict[str, list[int]]()
        for task in {*self._own.get(bundle, {}), *self._told.get(bundle, {})}:
            profiles = self._profiles(bundle, task, now).values()
            if not profiles:
                continue
            seconds[task] = median(_seconds(p, Node(""), p.size) for p in profiles)
            for profile in profiles:
                for child, size in profile.edge_bytes.items():
                    sent.setdefault(f"{task}>{child}", []).append(size)
        return seconds, {edge: int(median(sizes)) for edge, sizes in sent.items()}

    # --- keeping -------------------------------------------------------------------------------------------------

    def unsaved(self, now: float) -> list[tuple[bytes, str, str, TaskProfile]]:
        """(bundle, task, node, profile) of what changed since the last call."""
        fresh, self._fresh = self._fresh, {}
        rows = []
        for bundle, task, node in fresh:
            found = self._profiles(bundle, task, now).get(node)
            if found is not None:
                rows.append((bundle, task, node, found))
        return rows

    def recall(self, rows: Iterable[tuple[bytes, str, str, TaskProfile]]) -> None:
        """What was saved before this agent started."""
        for bundle, task, node, profile in rows:
            if _makes_sense(profile) and profile.task == task:
                self._best.pop((bundle, task), None)
                _touched(self._told, bundle).setdefault(task, {}).setdefault(node, profile)

    def forget(self, bundle: bytes | None = None) -> int:
        """Forget a bundle, or all; how many there were."""
        known = {*self._own, *self._told} if bundle is None else {bundle} & {*self._own, *self._told}
        self._best.clear()
        for each in known:
            self._own.pop(each, None)
            self._told.pop(each, None)
        self._fresh = {key: None for key in self._fresh if key[0] not in known}
        return len(known)

    def _has_own(self, bundle: bytes, task: str) -> bool:
        """Runs of this life, enough of them to take the place of what was kept of an earlier one."""
        if task not in self._own.get(bundle, {}):
            return False
        kept = self._told.get(bundle, {}).get(task, {}).get(self.me)
        model = self._own[bundle][task][0]
        return kept is None or model.count >= min(kept.samples, ENOUGH) or (kept.sampled and not model.sampled)

    def _profiles(self, bundle: bytes, task: str, now: float) -> dict[str, TaskProfile]:
        found = dict(self._told.get(bundle, {}).get(task, {}))
        if self._has_own(bundle, task):
            found[self.me] = self._profile(task, *self._own[bundle][task], now)
        return found

    def _profile(self, task: str, model: TaskModel, sizes: _Bytes, now: float) -> TaskProfile:
        c = model.coefficients(now)
        return TaskProfile(
            task, c.idle, c.work, _factor(model.low), _factor(model.high), model.count, int(sizes.size),
            min(max(self.speed, 1e-3), 1e3), model.sampled, {child: int(sent) for child, sent in sizes.edges.items()},
        )  # fmt: skip


def _touched(table: OrderedDict[bytes, dict[str, T]], bundle: bytes) -> dict[str, T]:
    """Of a bundle that is in use: those used least go first."""
    found = table.setdefault(bundle, {})
    table.move_to_end(bundle)
    if len(table) > MAX_BUNDLES:
        table.popitem(last=False)
    return found


def _seconds(p: TaskProfile, node: Node, size: float) -> float:
    """On a node, by what another one of known speed took."""
    stretch = max(1.0, (node.load + 1) / max(node.cores, 0.01))
    return on_curve(Coefficients(p.idle, p.work), size, stretch, node.speed / p.speed)


def _factor(spread: float) -> float:
    return min(max(exp(spread), 1e-3), 1e3)


def _source(p: TaskProfile) -> str:
    return "sampled" if p.sampled else "measured"


def _makes_sense(p: TaskProfile) -> bool:
    """What its types do not say: it grows, and takes some time but not for ever."""
    seconds = on_curve(Coefficients(p.idle, p.work), float(p.size), 1.0)
    return p.low <= p.high and seconds < 1e8
