"""The deputies of one acting home: who they are, what they hold, and what waits for it (DESIGN.md 7 rules 4, 6, 8).

Home numbers its changes; each goes to every deputy on a stream. What must not be said before it is durable is gated by
a number: `safe` when every living deputy has it, `full` when besides there are as many deputies as the job wants. A
deputy counts when it confirmed the register that names it and all there was. While fewer count, the job is `degraded`;
home then names living nodes, those that hold copies first, then near ones, and never one that drains or is full.

The register (home version, deputies) is journaled by home before it is sent, then told to every participant until each
confirmed it; `complete` says that whoever was replaced may let go. Where there is no other member, living or dead, that
could hold a copy, nothing is withheld: the home's own disk is all there is (DESIGN.md 79).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import takewhile
from math import inf, log2

from jupiter_agent.core.copies import Stream
from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import Copied, Deputies, HomeKnown, HomeNews, HomeVersion
from jupiter_agent.core.records import FORMER, Entry
from jupiter_agent.core.surroundings import Surroundings

Then = Callable[[float], list[Effect]]
NEWS_AGAIN_S = 1.0
NEWS_AGAIN_MAX_S = 8.0
KNOW_S = 3.0
"""After a start: how long a deputy that nobody has heard of counts as living"""
STREAMS = 1 << 20
"""More than one home begins: who is home once more must not number its streams as before, or they pass for those"""
Told = tuple[HomeVersion, int, bool]
_NOTHING: Told = (HomeVersion(0, "", 0), 0, False)


class Replication:
    """`records` gives the whole state of home as entries, the job's own record first."""

    def __init__(self, job: Job, around: Surroundings, records: Callable[[], Iterator[Entry]]) -> None:
        self.deputies = Deputies()
        self.last = 0
        """number of the last change"""
        self.holders: set[str] = set()
        """nodes known to have copies: named first"""
        self._job, self._around, self._records = job, around, records
        self._version = job.home
        self._wanted = job.spec.replicas
        self._streams: dict[str, Stream] = {}
        self._begun = 0
        self._boots: dict[str, int] = {}
        """node -> its boot when its stream began: a later one may have forgotten"""
        self._gates: list[tuple[int, bool, Then]] = []
        self._known: dict[str, Told] = {}
        """node -> the register it confirmed"""
        self._news: dict[str, tuple[float, int]] = {}
        """node -> when it is told again, how often it was told"""
        self._told: dict[str, Told] = {}
        """node -> the register it was sent last"""
        self._said: tuple[HomeVersion, int] | None = None
        """the register that was complete once: it stays so"""
        self._patient_until = -inf
        self._pump_at = inf

    # --- what is durable where ---------------------------------------------------------------------------------

    @property
    def register(self) -> tuple[HomeVersion, Deputies]:
        return self._job.home, self.deputies

    def living(self) -> list[str]:
        """Deputies that are not known to be gone."""
        return [node for node in self.deputies.nodes if not self._is_gone(node)]

    def _is_gone(self, node: str) -> bool:
        unheard = not self._around.knows(node) and self._patient_until == -inf
        return self._around.is_gone(node) or unheard

    def _counting(self) -> list[Stream]:
        """Streams to deputies that confirmed the register and all there was."""
        n, streams = self.deputies.n, self._streams
        knowing = [node for node in self.living() if self._known.get(node, _NOTHING)[:2] == (self._job.home, n)]
        return [streams[node] for node in knowing if node in streams and streams[node].whole]

    @property
    def degraded(self) -> bool:
        return len(self._counting()) < self._wanted

    def standing(self) -> dict[str, str]:
        """Deputy -> why it counts, or does not."""
        counting = {stream.to for stream in self._counting()}
        said: dict[str, str] = {}
        for node in self.deputies.nodes:
            stream = self._streams.get(node)
            if self._is_gone(node):
                said[node] = "gone"
            elif stream is None or (stream.whole and node not in counting):
                said[node] = "has not confirmed that it is deputy"
            else:
                said[node] = stream.standing
        return said

    def lacks(self, takers: Collection[str]) -> bool:
        """There are fewer copies than wanted, and of these nodes another one could have one."""
        return len(self._counting()) < min(self._wanted, len(takers))

    def _alone(self) -> bool:
        """There is nobody who could hold a copy, and nobody who might come back."""
        around = self._around
        others = [node for node in [*around.alive(), *around.dead()] if node != around.me]
        return not any(map(around.may_be_home, others))

    def safe(self, number: int, full: bool = False) -> bool:
        """The change of this number is on every living deputy; `full`: and there are as many as wanted."""
        if not all(stream is not None and stream.has(number) for stream in self._to_living()):
            return False
        if not full or self._alone():
            return True
        return sum(stream.has(number) for stream in self._counting()) >= self._wanted

    def _to_living(self) -> list[Stream | None]:
        return [self._streams.get(node) for node in self.living()]

    def _upto(self) -> float:
        """No later change is on all living deputies; so many need not be looked at one by one."""
        return min((stream.upto if stream is not None else 0 for stream in self._to_living()), default=inf)

    def safe_among(self, numbers: dict[str, int]) -> list[str]:
        """The names whose change is safe, of numbers in their order; the deputies are looked at once for all."""
        upto, known = self._upto(), [stream for stream in self._to_living() if stream is not None]
        near = takewhile(lambda each: each[1] <= upto, numbers.items())
        return [name for name, number in near if all(stream.has(number) for stream in known)]

    def when(self, full: bool, then: Then, now: float) -> list[Effect]:
        """Do this once all changes so far are safe (or full)."""
        if self.safe(self.last, full):
            return then(now)
        self._gates.append((self.last, full, then))
        return []

    def waiting(self) -> bool:
        """Something waits for deputies that live."""
        return any(not self.safe(number) for number, _, _ in self._gates)

    def open_gates(self, now: float) -> list[Effect]:
        """Do what waited and need not any longer; news, too, when the job is complete or no longer so."""
        upto = self._upto()
        ready = [gate for gate in takewhile(lambda gate: gate[0] <= upto, self._gates) if self.safe(gate[0], gate[1])]
        if ready:
            passed = set(map(id, ready))
            self._gates = [gate for gate in self._gates if id(gate) not in passed]
        return [*(effect for _, _, then in ready for effect in then(now)), *self.tell(now)]

    # --- changes -----------------------------------------------------------------------------------------------

    def add(self, change: Entry, now: float) -> None:
        """A change of home's state, already journaled: to all deputies, with what else happens in this turn."""
        self.last += 1
        for stream in self._streams.values():
            stream.push(self.last, change)
        self._pump_at = now if self._streams else inf

    def _pump(self, now: float) -> list[Effect]:
        self._pump_at = inf
        streams = [self._streams[node] for node in self.living() if node in self._streams]
        return [effect for stream in streams for effect in stream.pump(self.register, now)]

    def on_copied(self, src: str, message: Copied, now: float) -> list[Effect]:
        """A deputy confirms."""
        stream = self._streams.get(src)
        if stream is None or not stream.on_copied(message, now):
            return []
        if stream.forgotten:
            self._begin(src)
        self._known[src] = max(self._known.get(src, _NOTHING), (message.home, message.n, False))
        return self._pump(now) + self.open_gates(now)

    def _begin(self, node: str) -> None:
        self._begun += 1
        self._boots[node] = self._around.boot_of(node)
        ident = (self._around.boot, self._job.home.epoch * STREAMS + self._begun)
        self._streams[node] = Stream(self._job.id, node, ident, self._records(), self.last)

    # --- who -----------------------------------------------------------------------------------------------------

    def start(self, deputies: Deputies, patient_until: float = -inf) -> None:
        """Take up a register from the journal, or from a home before this one."""
        self.deputies, self._patient_until = deputies, patient_until
        for node in deputies.nodes:
            self._begin(node)

    def replace(self) -> bool:
        """Name other deputies where some are gone, drain or were never there; True when the register changed."""
        staying = self.living()
        leaving = [node for node in staying if self._around.profile(node).draining]
        lacking = self._wanted - len(staying) + len(leaving)
        fresh = self._candidates(staying)[:lacking] if lacking > 0 else []
        for node in leaving[: max(0, len(fresh) - (lacking - len(leaving)))]:
            staying.remove(node)
        for node in staying:
            if self._around.boot_of(node) > self._boots[node]:
                self._begin(node)
        nodes = [*staying, *fresh]
        if not fresh:
            return False
        self.deputies = self._next(nodes, self.deputies.nodes)
        self._streams = {node: stream for node, stream in self._streams.items() if node in nodes}
        for node in fresh:
            self._begin(node)
        return True

    def _next(self, nodes: list[str], former: Iterable[str]) -> Deputies:
        """The next register. It names former homes and holders until they know that they may let go."""
        named = dict.fromkeys([*filter(self._is_unaware, self.deputies.former), *former])
        others = [node for node in named if node not in (self._around.me, *nodes)]
        return Deputies(self.deputies.n + 1, nodes, others[-FORMER:])

    def _is_unaware(self, node: str) -> bool:
        return self._known.get(node) != (self._version, self.deputies.n, True)

    def name_former(self, nodes: list[str]) -> bool:
        """These may have copies from another home; True when the register changed."""
        register = self._next(self.deputies.nodes, filter(self._is_unaware, nodes))
        if set(register.former) <= set(self.deputies.former):
            return False
        self.deputies = register
        return True

    def led(self) -> list[str]:
        """Who may take this home for the acting one, and has copies or was home itself."""
        others = filter(self._is_unaware, [*self.deputies.former, *sorted(self.holders)])
        nodes = dict.fromkeys([*others, *self.deputies.nodes])
        return [node for node in nodes if node not in (self._around.me, self._job.home.writer)][-FORMER:]

    def _candidates(self, taken: list[str]) -> list[str]:
        """Who may become a deputy, the best first."""
        around = self._around
        nodes = [node for node in around.alive() if node != around.me and node not in taken]
        able = [node for node in nodes if around.profile(node).takes_tasks and around.may_be_home(node)]

        def worth(node: str) -> tuple[bool, float, float]:
            distance = max(0.0, float(int(log2(max(around.link(node).latency_s, 1e-3) / 1e-3))))
            return (node not in self.holders, distance, around.rng.random())

        return sorted(able, key=worth) if self._wanted else []

    def want_one(self) -> bool:
        """A job without deputies gets one, to which home can be given; True when it wanted none before."""
        before, self._wanted = self._wanted, max(1, self._wanted)
        return before == 0

    def heir(self) -> str | None:
        """The first deputy that has all there is and stays."""
        full = {stream.to for stream in self._counting() if stream.idle}
        staying = (node for node in self.deputies.nodes if not self._around.profile(node).draining)
        return next((node for node in staying if node in full), None)

    def notice(self) -> Notice:
        names = [self._around.name(node) for node in self.deputies.nodes]
        return Notice("info", "deputies named", {"job": self._job.id, "deputies": names})

    # --- telling ---------------------------------------------------------------------------------------------------

    def _truth(self) -> Told:
        register = (self._job.home, self.deputies.n)
        if self._said != register and not self.degraded and all(stream.idle for stream in self._counting()):
            self._said = register
        return (*register, self._said == register)

    def news(self) -> HomeNews:
        """The register as this home says it."""
        return HomeNews(self._job.id, self._job.home, self.deputies, self._truth()[2])

    def tell(self, now: float) -> list[Effect]:
        """The register to every participant that has not confirmed it, and to former homes: they may act yet."""
        truth = self._truth()
        if self.deputies.n == 0 and self._job.home.epoch == 1:
            return []
        message = self.news()
        effects: list[Effect] = []
        for node in dict.fromkeys([*self._job.participants(), *sorted(self.holders), *self.deputies.former]):
            if node == self._around.me:
                continue
            if self._known.get(node) == truth or self._around.is_gone(node) or not self._around.knows(node):
                self._news.pop(node, None)
                if self._around.is_gone(node):
                    self._known.pop(node, None)
                continue
            due, tries = self._news.get(node, (-inf, 0))
            if due <= now or self._told.get(node) != truth:
                self._news[node] = (now + min(NEWS_AGAIN_MAX_S, NEWS_AGAIN_S * 2**tries), min(tries + 1, 8))
                self._told[node] = truth
                effects.append(Send(node, message))
        return effects

    def on_known(self, src: str, message: HomeKnown, now: float) -> list[Effect]:
        """A participant has the register."""
        self._known[src] = max(self._known.get(src, _NOTHING), (message.home, message.n, message.complete))
        return self.open_gates(now)

    def next_deadline(self) -> float:
        due = [stream.next_deadline() for node, stream in self._streams.items() if not self._is_gone(node)]
        patient = inf if self._patient_until == -inf else self._patient_until
        return min([*due, *(at for at, _ in self._news.values()), patient, self._pump_at])

    def on_deadline(self, now: float) -> list[Effect]:
        """Batches nobody confirmed, news nobody confirmed, and an end to patience."""
        streams = [self._streams[node] for node in self.living() if node in self._streams]
        again = [effect for stream in streams for effect in stream.on_deadline(self.register, now)]
        if self._patient_until <= now:
            self._patient_until = -inf
        return again + self._pump(now) + self.open_gates(now)
