"""Scenario files: a story of a few lines, and under it the log of what the members saw, in virtual time.

    # A node whose host refuses connections is dead everywhere within 4 s.
    nodes a b c d e             these start at 0 s, all knowing the first
    profile lan                 the default
    at 5 kill b                 any verb of sim/world.py
    from 5                      the log begins here
    until 12                    and ends here
    ---
       6.6  b dead (refused)                          a c d e
      12.0  running: a c d e; all see each other

A line of the log says what was seen of whom, when first, and by whom within the next 2 s. Claims are named after who
made them. `python -m jupiter_agent.sim.scenario --rewrite FILE...` (or `scripts/test --rewrite-scenarios`) replaces the
logs by what happens now; read the difference before you keep it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from jupiter_agent.core.effects import Effect, Halt, Notice, Send
from jupiter_agent.core.membership import PROFILES, MemberChanged, Membership
from jupiter_agent.core.messages.membership import News
from jupiter_agent.errors import EXIT_OK, EXIT_USAGE, UsageError
from jupiter_agent.sim.cluster import Node
from jupiter_agent.sim.world import VERBS, Step, World

RULE = "---"
TOGETHER_S = 2.0
CLAIMS = ("suspected", "refused", "vouched for")


@dataclass
class Scenario:
    """A parsed file. `head` is all above the rule, word for word."""

    head: str
    log: list[str]
    names: list[str] = field(default_factory=list)
    profile: str = "lan"
    steps: list[Step] = field(default_factory=list)
    begin: float = 0.0
    end: float = 0.0

    def text(self, log: list[str]) -> str:
        return "\n".join([self.head, RULE, *log]) + "\n"


def parse(text: str, where: str = "scenario") -> Scenario:
    """UsageError with the line where it is wrong."""
    head, _, log = text.partition(f"\n{RULE}\n")
    found = Scenario(head, log.splitlines())
    for number, line in enumerate(head.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            _take(found, words)
        except (ValueError, LookupError, TypeError):
            raise UsageError(f"{where}:{number}: not understood: {line}", "see jupiter_agent/sim/scenario.py") from None
    if found.end <= found.begin:
        raise UsageError(f"{where}: no `until` after the start")
    return found


def _take(found: Scenario, words: list[str]) -> None:
    kind, *rest = words
    if kind == "nodes":
        found.names = rest
    elif kind == "profile":
        (found.profile,) = (name for name in rest if name in PROFILES)
    elif kind == "from":
        found.begin = float(rest[0])
    elif kind == "until":
        found.end = float(rest[0])
    elif kind == "at" and rest[1] in VERBS:
        found.steps.append(Step(float(rest[0]), rest[1], tuple(rest[2:])))
    else:
        raise ValueError(kind)


@dataclass
class Line:
    """One line of a log in the making: what was seen of whom, by whom."""

    at: float
    of: str
    what: str
    by: list[str]


class Stage(World):
    """A world that keeps the log of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(1, PROFILES[scenario.profile])
        self.scenario = scenario
        self.lines: list[Line] = []
        for i, name in enumerate(scenario.names):
            self.join(name, *scenario.names[:1][:i])
        self.schedule(scenario.steps)

    def on_effect(self, node: Node[Membership], effect: Effect) -> None:
        super().on_effect(node, effect)
        if isinstance(effect, Notice) and effect.event in {"member dead", "name conflict"}:
            why = f"dead ({effect.fields['why']})" if "why" in effect.fields else effect.event
            self._see(node, effect.fields["peer"], why)
        elif isinstance(effect, MemberChanged) and effect.state != "dead":
            self._see(node, effect.peer, self._changed(node, effect))
        elif isinstance(effect, Halt):
            self._see(node, node.seat.peer, f"stops: {effect.error}")
        elif isinstance(effect, Send) and isinstance(effect.message, News):
            for claim in effect.message.claims:
                if claim.by == node.seat.peer:
                    self._see(node, claim.subject, f"{CLAIMS[claim.kind]}, says")

    def _changed(self, node: Node[Membership], change: MemberChanged) -> str:
        name = self._name(change.peer)
        record = node.machine.members()[change.peer].record
        boot = f" (boot {change.boot})" if change.boot > 1 else ""
        elsewhere = "" if record.address == f"{name}:7000" else f" at {record.address}"
        return f"{change.state}{boot}{elsewhere}"

    def _name(self, peer: str) -> str:
        return next((name for name, node in self.nodes.items() if node.seat.peer == peer), peer)

    def _see(self, node: Node[Membership], peer: str, what: str) -> None:
        if self.now < self.scenario.begin:
            return
        name, of = node.seat.name, self._name(peer)
        for line in reversed(self.lines):
            if (line.of, line.what) == (of, what) and self.now - line.at <= TOGETHER_S:
                if name not in line.by:
                    line.by.append(name)
                return
        self.lines.append(Line(self.now, of, what, [name]))

    def log(self) -> list[str]:
        """The lines in order; of many seen alike at one time there is one."""
        alike: dict[tuple[str, str, str], list[str]] = {}
        for line in self.lines:
            alike.setdefault((f"{line.at:6.1f}", line.what, " ".join(sorted(line.by))), []).append(line.of)
        told = [(at, " ".join(sorted(of)), what, by) for (at, what, by), of in alike.items()]
        return [f"{at}  {of + ' ' + what:<40}  {by}" for at, of, what, by in sorted(told)]


def played(scenario: Scenario) -> list[str]:
    """The log of what happens now."""
    stage = Stage(scenario)
    stage.run(scenario.end)
    living = " ".join(node.seat.name for node in stage.running())
    verdict = "all see each other" if stage.agreed() else "they differ"
    return [*stage.log(), f"{scenario.end:6.1f}  running: {living}; {verdict}"]


def main(arguments: list[str]) -> int:
    """`[--rewrite] FILE...`: print the logs as they are now, or write them into the files."""
    rewrite = "--rewrite" in arguments
    named = [Path(name) for name in arguments if not name.startswith("-")]
    files = named or sorted(Path("tests/scenarios").glob("*.txt"))
    for path in files:
        try:
            scenario = parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UsageError) as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USAGE
        text = scenario.text(played(scenario))
        if not rewrite:
            print(text)
        elif text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(f"{path} rewritten", file=sys.stderr)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
