"""A job on a network that does not exist: the agents' own code in virtual time, over links with delays and rates.

Every node is a real peer machine (`sim.grid`): the same mapping, transfers, moves and repairs as live. What a run does
is not real: it takes the seconds that the scenario says, at its node's speed, and puts out so many bytes. Not modelled:
cores (runs of one node do not slow each other down), disks, and loss on links (TCP hides it as delay).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from msgspec import Struct

from jupiter_agent.adapters.memory import Network
from jupiter_agent.core import effects as ef
from jupiter_agent.core import events as ev
from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.home import Home
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.membership import PROFILES
from jupiter_agent.core.peer import Peer
from jupiter_agent.errors import EXIT_FAILED, EXIT_OK, JupiterError, UnreachableError, UsageError
from jupiter_agent.sim.cluster import Node
from jupiter_agent.sim.grid import Function, Grid, SimApp, UnansweredError

FORMED_S = 120.0
LAN_DELAY_S, LAN_RATE = 0.0002, 125e6
STEP_S = 0.25
PROFILE_S = 0.5
"""What the sample run before the mapping takes, in virtual time"""
SHOWN_EVENTS = ("task mapped", "member dead", "home taken over", "job mapped", "not mapped", "task waits")


class Link(Struct, frozen=True):
    """One way. `bytes_per_s` 0: no limit."""

    delay_s: float = LAN_DELAY_S
    bytes_per_s: float = LAN_RATE


class TaskModel(Struct, frozen=True):
    """`seconds` of a run at speed 1, `bytes` that it puts out, `noise`: standard deviation of log(seconds)."""

    seconds: float = 0.1
    bytes: int = 1000
    noise: float = 0.0


class Fault(Struct, frozen=True):
    """At this time after submit; `words` as in VERBS."""

    at_s: float
    words: list[str]


class Plan(Struct, frozen=True):
    """What is rehearsed. `links`: of pairs of nodes, both ways or one; `default` for the others."""

    app: AppSpec
    nodes: dict[str, float]
    """name -> speed"""
    cpus: dict[str, float] = {}
    links: dict[tuple[str, str], Link] = {}
    default: Link = Link()
    tasks: dict[str, TaskModel] = {}
    usual: TaskModel = TaskModel()
    at: str = ""
    submit: dict[str, Any] = {}
    """further arguments of `submit`"""
    items: int = 1
    every_s: float = 0.0
    input_bytes: int = 1000
    faults: list[Fault] = []
    until_s: float = 3600.0
    profile: str = "lan"
    seed: int = 1


class Wires(Network):
    """Links with a delay and a rate each: frames of one link leave one after another."""

    def __init__(self, rng: random.Random, default: Link) -> None:
        super().__init__(rng)
        self.default = default
        self.links: dict[tuple[str, str], Link] = {}
        """by addresses"""
        self.bytes: dict[tuple[str, str], int] = {}
        self._free: dict[tuple[str, str], float] = {}
        self._size = 0

    def on_sent(self, src: str, dst: str, size: int) -> None:
        """The frame whose delay is asked next."""
        self._size = size
        self.bytes[src, dst] = self.bytes.get((src, dst), 0) + size

    def delay(self, src: str, dst: str) -> float:
        link, size, self._size = self.links.get((src, dst), self.default), self._size, 0
        leaves = max(self.now, self._free.get((src, dst), 0.0))
        if size and link.bytes_per_s:
            leaves += size / link.bytes_per_s
            self._free[src, dst] = leaves
        return max(1e-6, leaves - self.now + link.delay_s * self.rng.uniform(1.0, 1.05))


class Rehearsal(Grid):
    """One plan, from the forming of the cluster to the end of the job."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.seed)
        self.plan = plan
        self.wires = Wires(self.rng, plan.default)
        self.network = self.wires
        self.settings = PROFILES[plan.profile]
        self.story: list[tuple[float, str]] = []
        self.began = 0.0
        self._names: dict[str, str] = {}

    def run_all(self) -> dict[str, Any]:
        """Form the cluster, submit, feed, let the faults happen; what came of it."""
        plan, names = self.plan, list(self.plan.nodes)
        for name in names:
            self.add_peer(name, [other for other in names if other != name], plan.nodes[name])
        for (a, b), link in plan.links.items():
            self.wires.links[self._address(a), self._address(b)] = link
        for name in names:
            self._names[self.id(name)] = name
        if self.run_until(lambda: all(len(n.machine.alive()) == len(names) for n in self.running()), FORMED_S) is None:
            raise JupiterError("the cluster does not form on these links", "are some of them too slow or cut?")
        self.run(10.0)
        self.began = self.now
        for fault in plan.faults:
            self.network.after(fault.at_s, lambda fault=fault: self._happen(fault))  # type: ignore[misc]
        at, app = plan.at or names[0], self._app()
        every = [(f"item{n:04}", b"%d " % n + bytes(max(0, plan.input_bytes - 8))) for n in range(plan.items)]
        first = every if not plan.every_s else every[:1]
        job = self._submitted(at, app, dict(first))
        for n, (name, data) in enumerate(every[len(first) :], 1):
            self.network.after(n * plan.every_s, lambda item=name, data=data: self._put(job, item, data))  # type: ignore[misc]
        rest = (len(every) - len(first)) * plan.every_s
        if rest:
            self.run(rest + STEP_S)
        self._close(job)
        took = self.run_until(lambda: self._over(job), plan.until_s, STEP_S)
        return self._outcome(job, took is not None)

    def _submitted(self, at: str, app: SimApp, items: dict[str, bytes]) -> str:
        """The id of the job. UsageError when an event kills the node that is asked; an agent's refusal as it is."""
        try:
            return str(self.submit(at, app, items, keep_open=True, ep="auto", **self.plan.submit)["id"])
        except UnansweredError as error:
            hint = "let events come after the job is mapped, or submit at another node: `submit: {at: NODE}`"
            if not self.nodes[at].running:
                raise UsageError(f"{at} is dead when the app is submitted", hint) from error
            raise UnreachableError(error.message, hint) from error

    # --- the app ---------------------------------------------------------------------------------------------------

    def _model(self, task: str) -> TaskModel:
        return self.plan.tasks.get(task, self.plan.usual)

    def _app(self) -> SimApp:
        app = self.plan.app
        functions = {task.name: self._function(self._model(task.name).bytes) for task in app.tasks}
        rngs = {task.name: random.Random(f"{self.plan.seed}:{task.name}") for task in app.tasks}
        seconds: dict[str, float | Callable[[random.Random], float]]
        seconds = {task.name: self._seconds(self._model(task.name), rngs[task.name]) for task in app.tasks}
        return SimApp(app, functions, seconds)

    @staticmethod
    def _function(size: int) -> Function:
        """So many bytes, which differ from item to item."""

        def put_out(inputs: dict[str, bytes]) -> bytes:
            mark = sha256(b"".join(sha256(data).digest() for _, data in sorted(inputs.items()))).digest()
            return (mark * (size // len(mark) + 1))[:size]

        return put_out

    @staticmethod
    def _seconds(model: TaskModel, rng: random.Random) -> Callable[[random.Random], float]:
        return lambda _: (
            model.seconds * (rng.lognormvariate(-(model.noise**2) / 2, model.noise) if model.noise else 1.0)
        )

    def on_effect(self, node: Node[Peer], effect: Effect) -> None:
        super().on_effect(node, effect)
        if isinstance(effect, ef.ProfileApp):
            speed, app = self.speeds[node.seat.name], self.plan.app
            seconds = {task.name: self._model(task.name).seconds / speed for task in app.tasks}
            sizes = {
                f"{task.name}>{c}": self._model(task.name).bytes for task in app.tasks for c in task.children or [HOME]
            }
            self._later(node, PROFILE_S, ev.Profiled(effect.job, seconds, sizes, True))
        elif isinstance(effect, ef.Notice) and self.began and effect.event in SHOWN_EVENTS:
            shown = {
                key: value
                for key, value in effect.fields.items()
                if key in ("task", "to", "why", "name", "error", "hint")
            }
            said = " ".join(f"{key}={self._names.get(str(value), value)}" for key, value in shown.items())
            if effect.event == "member dead":  # everybody notices; the first one tells
                told = any(what.endswith(f"{effect.event} {said}") for at, what in self.story[-2 * len(self.nodes) :])
                if told:
                    return
            self.story.append((self.now - self.began, f"{node.seat.name}: {effect.event} {said}".rstrip()))

    # --- items and faults ------------------------------------------------------------------------------------------

    def _somebody(self) -> str:
        """Whom a client asks: the node of the submitter while it lives."""
        at = self.plan.at or next(iter(self.plan.nodes))
        if self.nodes[at].running:
            return at
        if not (others := self.running()):
            raise JupiterError("no node is alive to take items", "let one live, or feed faster: `submit: {every_s: 0}`")
        return others[0].seat.name

    def _put(self, job: str, name: str, data: bytes) -> None:
        at = self._somebody()
        self.call(at, "put", job=job, inputs=[self.upload(at, name, data)])

    def _close(self, job: str) -> None:
        self.call(self._somebody(), "close", job=job)

    def _happen(self, fault: Fault) -> None:
        self.story.append((self.now - self.began, " ".join(fault.words)))
        VERBS[fault.words[0]](self, fault.words[1:])

    def _address(self, name: str) -> str:
        return self.nodes[name].seat.address

    def slow(self, name: str, factor: float) -> None:
        """Runs that begin from now on take so many times as long as they would at the node's own speed."""
        self.speeds[name] = self.plan.nodes[name] / factor

    def rewire(self, a: str, b: str, words: list[str]) -> None:
        """The link between two nodes, both ways."""
        for src, dst in ((a, b), (b, a)):
            ends = self._address(src), self._address(dst)
            self.wires.links[ends] = changed(self.wires.links.get(ends, self.wires.default), words)

    # --- what came of it -------------------------------------------------------------------------------------------

    def _home(self, job: str) -> Home | None:
        locals_ = [node.machine.jobs.local.get(job) for node in self.running()]
        homes = [local.home for local in locals_ if local is not None and local.home is not None]
        return max(homes, key=lambda home: home.version) if homes else None

    def _over(self, job: str) -> bool:
        home = self._home(job)
        return home is not None and bool(home.job.over)

    def _outcome(self, job: str, ended: bool) -> dict[str, Any]:
        home = self._home(job)
        if home is None:
            raise JupiterError("the job is lost with all its copies", "see `submit: {replicas: 2}`")
        states = [state for _, state in home.items.states()]
        ends = [i.finished_at for i in home.items.values() if i.finished_at]
        took = (max(ends) - home.job.spec.submitted_at) if ends else 0.0
        carried = {
            (self._name_at(src), self._name_at(dst)): size
            for (src, dst), size in self.wires.bytes.items()
            if src != dst
        }
        code = EXIT_OK if home.job.over == "completed" else EXIT_FAILED
        return {
            "state": home.job.over if ended else "unfinished",
            "exit_code": home.refused[0] if home.refused else code,
            "makespan_s": took, "mapping_s": home.mapping_s,
            "items_in": len(states), "items_done": states.count("done"), "items_failed": states.count("failed"),
            "throughput_hz": states.count("done") / took if took > 0 else None,
            "moves": self.moves(home), "moved_bytes": home.moved_bytes,
            "runs": len(self.starts), "mapper": home.job.spec.mapper, "remap": home.job.spec.remap,
            "mapping": {t: self._names.get(r.node, r.node) for t, r in home.job.registers.items()},
            "links": [{"src": a, "dst": b, "bytes": size} for (a, b), size in sorted(carried.items())],
            "story": [{"at_s": round(at, 3), "what": what} for at, what in self.story],
        }  # fmt: skip

    def _name_at(self, address: str) -> str:
        return next((name for name, node in self.nodes.items() if node.seat.address == address), address)

    @staticmethod
    def moves(home: Home) -> int:
        """Registers written after the first of each task."""
        return sum(max(0, register.epoch - 1) for register in home.job.registers.values())


def changed(link: Link, words: list[str]) -> Link:
    """A link with another rate (bytes/s) or delay (s): words as `rate=625000`, `delay=0.02`. UsageError for others."""
    values = {"rate": link.bytes_per_s, "delay": link.delay_s}
    for word in words:
        key, _, value = word.partition("=")
        if key not in values:
            raise UsageError(f"a link has no '{key}'", "rate=5mbit, delay=20ms")
        values[key] = float(value)
    return Link(values["delay"], values["rate"])


VERBS: dict[str, Callable[[Rehearsal, list[str]], None]] = {
    "kill": lambda r, words: r.crash(words[0]),
    "unplug": lambda r, words: r.crash(words[0], "silent"),
    "start": lambda r, words: r.start(words[0]),
    "slow": lambda r, words: r.slow(words[0], float(words[1])),
    "link": lambda r, words: r.rewire(words[0], words[1], words[2:]),
    "cut": lambda r, words: r.partition(words, [name for name in r.nodes if name not in words]),
    "heal": lambda r, words: r.heal(),
}
"""What may happen: `kill N`, `unplug N`, `start N`, `slow N FACTOR`, `link A B rate=R delay=D`, `cut N...`, `heal`."""

WORDS = {
    "kill": (1, 1),
    "unplug": (1, 1),
    "start": (1, 1),
    "slow": (2, 2),
    "link": (3, 4),
    "cut": (1, 1000),
    "heal": (0, 0),
}
"""How many words each takes"""


def rehearse(plan: Plan) -> dict[str, Any]:
    """The outcome of a plan; the same seed gives the same one."""
    return Rehearsal(plan).run_all()
