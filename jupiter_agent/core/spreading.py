"""How registers get to those who need them: one job's news, on one node.

The writer tells whoever it concerns: the new host, the hosts of the parents, which will send there, and those who
decide on the children. While a job has few participants it tells all of them; where there are many, passing news on is
left to the first hosts of entry tasks, known to everybody from the first award: they collect for a moment, and each
tells all the others unless one before it has done so. So a register costs each node one message, whatever the size of
the job, and no node but those few needs a session with all. What is lost on the way is found by comparing one digest
with a random other participant from time to time.

A node that takes part for the first time gets an award with all there is to know; one that is known to take part gets
the register alone. Both are repeated, as an award, until they are confirmed.
"""

from __future__ import annotations

from math import inf

from jupiter_agent.core.effects import Effect, Notice, Send
from jupiter_agent.core.intervals import FinishedSet
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.jobs import Award, Awarded, Finished, Register, RegisterDigest, Registers
from jupiter_agent.core.surroundings import Surroundings

AWARD_AGAIN_S = 1.0
DIGEST_S = 1.0
"""While a job is being mapped: so long after the last news"""
DIGEST_CALM_S = 5.0
FEW = 8
"""Participants up to which everybody is told directly"""
HUBS = 3
COLLECT_S, COLLECT_MOST_S, BUSY = 0.03, 0.3, 3
"""News collect for so long at the first hub, each of the next waits three times longer; and `BUSY` times as long as the
last telling was late, for telling is what keeps a crowded machine busy"""
EACH_S, EACH_MOST_S = 0.005, 1.0
"""Until the job is mapped they collect so much longer for each that will be told: whom it concerns was told at once"""


class Spreading:
    """What is told, to whom, until when. `finished`: items that are over spread with the registers."""

    def __init__(self, job: Job, around: Surroundings, now: float) -> None:
        self._job, self._around = job, around
        self.finished = FinishedSet()
        self._award_due: dict[str, float] = {}
        self._joined: set[str] = set()
        """nodes that confirmed an award of ours"""
        self._news: dict[str, Register] = {}
        """task -> what this hub has to pass on"""
        self._told: set[str] = set()
        """nodes this hub has passed something on to; to others it passes all on, for what came before they took part"""
        self._news_at, self._late_s = inf, 0.0
        self._digest_at = now + DIGEST_S * (0.5 + around.rng.random())

    def announce(self, written: list[Register], now: float) -> list[Effect]:
        """Tell what was written here: to the nodes it names, and to every other participant, or through the hubs."""
        if not written:
            return []
        job, me = self._job, self._around.me
        effects: list[Effect] = [
            Notice(
                "info", "task mapped", {"job": job.id, "task": r.task, "to": self._around.name(r.node), "why": r.why}
            )
            for r in written
        ]
        chosen = dict.fromkeys(register.node for register in written if register.node != me)
        fresh = {register.task for register in written}
        taking_part = self._joined.union(r.node for r in job.registers.values() if r.task not in fresh)
        news = Registers(job.id, job.home, written)
        for node in chosen:
            if node in taking_part and not self._around.is_gone(node):
                self._award_due[node] = now + AWARD_AGAIN_S
                effects.append(Send(node, Registers(job.id, job.home, written, True)))
            else:
                effects += self.award(node, now)
        others = [node for node in self._listeners(written) if node not in chosen and node != me]
        if me in self._hubs():
            self._collect(written, now)
        return effects + [Send(node, news) for node in others]

    def award(self, node: str, now: float) -> list[Effect]:
        """Tell a node that it takes part, again until it says so."""
        self._award_due[node] = now + AWARD_AGAIN_S
        return [Send(node, Award(self._job.signed, self._job.home, self._job.tellable(self._around)))]

    def on_awarded(self, src: str, message: Awarded) -> None:
        self._award_due.pop(src, None)
        self._joined.add(src)

    def on_unknown(self, src: str, now: float) -> list[Effect]:
        """It was told of a job that it does not know (any more): it takes part if anything ever named it."""
        self._joined.discard(src)
        return self.award(src, now) if src in self._job.participants() else []

    def _pass_on(self, src: str, won: list[Register], now: float) -> list[Effect]:
        """News from `src`: hosts of entry tasks pass it on."""
        job, me = self._job, self._around.me
        if not won or job.home.writer == me or not any(job.host(entry) == me for entry in job.dag.entries):
            return []
        if self._is_large():
            if me in self._hubs():
                self._collect(won, now)
            return []
        news = Registers(job.id, job.home, won)
        return [Send(node, news) for node in job.participants() if node not in (me, src)]

    # --- many participants -----------------------------------------------------------------------------------------

    def _is_large(self) -> bool:
        return len(self._job.participants()) > FEW

    def _hubs(self) -> list[str]:
        """The first living hosts of entry tasks that are not home, which passes nothing on."""
        if not self._is_large():
            return []
        hosts = dict.fromkeys(host for entry in self._job.dag.entries if (host := self._job.host(entry)))
        return [host for host in hosts if host != self._job.home.writer and not self._around.is_gone(host)][:HUBS]

    def _listeners(self, written: list[Register]) -> list[str]:
        """Whom the writer tells itself."""
        job = self._job
        if not self._is_large():
            return job.participants()
        tasks = [r.task for r in written if r.task in job.tasks]
        parents = [parent for task in tasks for parent in job.dag.parents(task)]
        deciders = [job.controllers[child] for task in tasks for child in job.dag.children(task)]
        near = (job.host(task) for task in [*parents, *deciders] if task is not None)
        hubs = self._hubs() or job.participants()
        return list(dict.fromkeys(node for node in [*hubs, *near] if node))

    def _collect(self, registers: list[Register], now: float) -> None:
        """For the others, a moment later: hubs after the first leave it time to do it."""
        place = self._hubs().index(self._around.me)
        collected = now + min(COLLECT_MOST_S, max(COLLECT_S, BUSY * self._late_s)) * 3**place
        if self._job.mapped:
            self._news_at = min(self._news_at, collected)
        elif not self._news:
            self._news_at = collected + min(EACH_MOST_S, EACH_S * len(self._job.participants()))
        self._news |= {register.task: register for register in registers}

    def _told_by(self, src: str, told: list[Register]) -> None:
        """An earlier hub has passed these on."""
        hubs = self._hubs() if self._news else []
        if src in hubs and self._around.me in hubs and hubs.index(src) < hubs.index(self._around.me):
            for register in told:
                mine = self._news.get(register.task)
                if mine is not None and register.version() >= mine.version():
                    del self._news[register.task]
            if not self._news:
                self._news_at = inf

    def _tell_news(self) -> list[Effect]:
        job, me = self._job, self._around.me
        news, self._news, self._news_at = list(self._news.values()), {}, inf
        if not news:
            return []
        others = [node for node in job.participants() if node != me and not self._around.is_gone(node)]
        fresh = {node for node in others if node not in self._told}
        self._told |= fresh
        some = Registers(job.id, job.home, news)
        all_ = Registers(job.id, job.home, job.tellable(self._around)) if fresh else some
        return [Send(node, all_ if node in fresh else some) for node in others]

    # --- digests ---------------------------------------------------------------------------------------------------

    def _hear(self, now: float) -> None:
        """There is news. While it comes, everybody knows something else: to compare would only tell it all twice."""
        self._digest_at = max(self._digest_at, now + DIGEST_S * (0.5 + self._around.rng.random()))

    def digest(self, answer: bool = False, asker: str = "") -> RegisterDigest:
        """What is known here, as numbers."""
        return RegisterDigest(self._job.id, self._job.digest(), self.finished.digest(), answer, asker)

    def on_digest(self, src: str, message: RegisterDigest) -> list[Effect]:
        """Tell who knows something else what is known here, and ask for the rest; both in one exchange.

        What home may not tell others, because it did not decide it, their deciders tell at its request.
        """
        job, other = self._job, message.asker or src
        effects: list[Effect] = []
        if message.finished != self.finished.digest() and not message.asker:
            effects.append(Send(src, Finished(job.id, job.home, self.finished.to_intervals())))
        if message.digest != job.digest():
            told = job.tellable(self._around)
            if told or job.home.epoch > 1:
                effects.append(Send(other, Registers(job.id, job.home, told)))
            if not message.asker:
                writers = {r.writer for r in job.registers.values()} - {r.writer for r in told} - {src}
                asked = RegisterDigest(job.id, message.digest, message.finished, True, src)
                effects += [Send(writer, asked) for writer in sorted(writers)]
        return [*effects, Send(src, self.digest(answer=True))] if effects and not message.answer else effects

    # --- time ------------------------------------------------------------------------------------------------------

    def _next_telling(self) -> float:
        return min([self._digest_at, self._news_at, *self._award_due.values()])

    def _tell_due(self, now: float) -> list[Effect]:
        """Awards again, what was collected, a digest."""
        effects: list[Effect] = []
        for node, due in list(self._award_due.items()):
            if due <= now:
                del self._award_due[node]
                if not self._around.is_gone(node) and self._job.hosted_by(node):
                    effects += self.award(node, now)
        if self._news_at <= now:
            self._late_s = now - self._news_at
            effects += self._tell_news()
        if self._digest_at <= now:
            self._digest_at = now + (DIGEST_CALM_S if self._job.mapped else DIGEST_S)
            others = [n for n in self._job.participants() if n != self._around.me and not self._around.is_gone(n)]
            if others:
                effects.append(Send(self._around.rng.choice(others), self.digest()))
        return effects
