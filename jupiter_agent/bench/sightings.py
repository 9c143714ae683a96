"""What a fleet's agents have seen: their traces, put together.

Each agent of a fleet writes what its membership concludes, as JSON lines with the machine's monotonic time, into one
file (see `traced`). Here they become every agent's view, and the answers to "since when has everybody seen that?".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

PRESENT = ("alive", "suspect")


@dataclass(frozen=True, slots=True)
class Sighting:
    """At `t`, agent `by` took member `subject` for `state`; a published value is the state `profile`."""

    t: float
    by: str
    subject: str
    state: str


@dataclass
class Seen:
    """One agent as its trace tells it: when it started and joined, and whom it holds for what."""

    started: float
    joined: float | None = None
    view: dict[str, tuple[str, float]] = field(default_factory=dict)
    """name -> (state, since when)"""


class Sightings:
    """The traces read so far. Members are called by their names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._names: dict[str, str] = {}
        self._waiting: dict[str, list[tuple[float, str, str]]] = {}
        self.agents: dict[str, Seen] = {}
        self.history: list[Sighting] = []

    def read(self) -> None:
        """Take in what was written since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read()
        end = whole.rfind(b"\n") + 1
        self._offset += end
        self.take(whole[:end].decode().splitlines())

    def take(self, lines: Iterable[str]) -> None:
        for line in lines:
            t, by, what, *rest = json.loads(line)
            if what == "start":
                self._names[rest[0]] = by
                self.agents[by] = Seen(t)
                for at, observer, state in self._waiting.pop(rest[0], []):
                    self._note(at, observer, by, state)
            elif what == "joined":
                self.agents[by].joined = t
            elif rest[0] in self._names:
                self._note(t, by, self._names[rest[0]], what)
            else:  # it is seen by others before its own first line is written
                self._waiting.setdefault(rest[0], []).append((t, by, what))

    def _note(self, t: float, by: str, subject: str, state: str) -> None:
        self.history.append(Sighting(t, by, subject, state))
        if state != "profile":
            self.agents[by].view[subject] = (state, t)

    # --- questions ---

    def alive_in(self, by: str) -> set[str]:
        """Whom this agent holds present, itself apart."""
        return {name for name, (state, _) in self.agents[by].view.items() if state in PRESENT}

    def all_see_all(self, names: Iterable[str]) -> float | None:
        """Since when each of these holds present exactly the others; None while that is not so."""
        running = set(names)
        since = 0.0
        for name in running:
            seen = self.agents.get(name)
            if seen is None or self.alive_in(name) != running - {name}:
                return None
            since = max([since, seen.started, *(t for _, t in seen.view.values())])
        return since

    def everywhere(self, subject: str, states: Iterable[str], observers: Iterable[str], after: float) -> float | None:
        """When the last of the observers first saw the subject in one of these states, after a time; None: not yet."""
        wanted = set(states)
        waiting, last = set(observers) - {subject}, 0.0
        for each in self._since(after):
            if each.subject == subject and each.state in wanted and each.by in waiting:
                waiting.discard(each.by)
                last = max(last, each.t)
        return None if waiting else last

    def dead_since(self, after: float, observers: Iterable[str], but: Iterable[str] = ()) -> list[Sighting]:
        """Deaths concluded after a time by these observers, about others than `but`."""
        told, expected = set(observers), set(but)
        return [s for s in self._since(after) if s.state == "dead" and s.by in told and s.subject not in expected]

    def _since(self, after: float) -> Iterable[Sighting]:
        """Lines of different agents may be a little out of order in the file."""
        return [each for each in self.history if each.t > after]
