"""The verbs about nodes, and what agents ask each other (DESIGN.md, section 10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from jupiter_agent import __version__
from jupiter_agent.core.effects import Effect
from jupiter_agent.core.listing import missing
from jupiter_agent.core.messages.control import HERE, Call
from jupiter_agent.core.paging import page, paged
from jupiter_agent.core.profiling.run_log import in_wall_time
from jupiter_agent.core.token_verbs import token
from jupiter_agent.core.uploads import accepted
from jupiter_agent.core.views import Row, explanation
from jupiter_agent.errors import UsageError

if TYPE_CHECKING:
    from jupiter_agent.core.control import Control
    from jupiter_agent.core.local import Local


def _events(control: Control, src: str, call: Call, now: float) -> list[Effect]:
    since = int(call.args.get("since", 0))
    fresh = [event for event in control.events if event["seq"] >= since]
    shown = page(fresh)
    following = fresh[len(shown)]["seq"] if len(shown) < len(fresh) else control.event_seq
    return [accepted(src, call.seq, {"events": shown, "next": following, "more": len(shown) < len(fresh)})]


def _drain(control: Control, src: str, call: Call, now: float) -> list[Effect]:
    """Have a node hand its tasks over and take no others."""
    node = control.around.find(str(call.args.get("node") or ""))
    if node is None:
        raise missing("living node", str(call.args.get("node") or ""), map(control.around.name, control.around.alive()))
    if node != control.around.me:
        return control.forward(src, call, node, now)
    body = {"node": control.around.name(node), "draining": True}
    return [*control.drain(now), accepted(src, call.seq, body)]


def _forget(control: Control, src: str, call: Call, now: float) -> list[Effect]:
    """Strike a node that will not come back from everybody's list."""
    ref = str(call.args.get("node") or "")
    gone = [row for row in control.nodes.rows(now) if row["state"] in ("dead", "left")]
    found = [row for row in gone if ref in (row["name"], row["id"])]
    effects = [effect for row in found for effect in control.forget(row["id"])]
    if control.came_through_a_peer(call):
        return [*effects, accepted(src, call.seq, {"forgotten": ref})]
    if not found:
        raise UsageError(f"there is no dead node '{ref}'", "only nodes that are dead or have left can be forgotten")

    def everywhere(bodies: list[Any], when: float) -> list[Effect]:
        return [accepted(src, call.seq, {"forgotten": found[0]["name"]})]

    others = set(control.around.alive()) - {control.around.me}
    return effects + control.gather(others, Call(0, "forget", {"node": found[0]["id"], HERE: True}), everywhere, now)


def _forget_profiles(control: Control, src: str, call: Call, now: float) -> list[Effect]:
    """Forget, everywhere, what was learned of the runs of an app; without one, all that was learned, links too."""
    ref = str(call.args.get("id") or "")
    bundles = control.profiler.bundles_of(ref)
    if ref and not bundles:
        raise UsageError(f"no app '{ref}' is known here", "list them with: jupiter ctl get apps")
    wanted: list[bytes | None] = [*bundles] or [None]
    effects = [each for bundle in wanted for each in control.profiler.forget(bundle)]
    told = {"forgotten": ref or "all that was learned"}
    if control.came_through_a_peer(call):
        return [*effects, accepted(src, call.seq, told)]

    def everywhere(bodies: list[Any], when: float) -> list[Effect]:
        return [accepted(src, call.seq, told)]

    others = set(control.around.alive()) - {control.around.me}
    named = [bundle.hex() for bundle in bundles] or [""]
    for name in named[1:]:
        effects += control.gather(others, Call(0, call.verb, {"id": name, HERE: True}), lambda bodies, when: [], now)
    return effects + control.gather(others, Call(0, call.verb, {"id": named[0], HERE: True}), everywhere, now)


def _diagnose(control: Control, src: str, call: Call, now: float) -> list[Effect]:
    """What this agent finds wrong with the cluster as it sees it."""
    checks = [
        _check("members", control, ("suspect", "dead"), "look at that machine and its agent's log; `ctl forget` later"),
        _check("reachable", control, ("unreachable",), "is a firewall between them? PORT and PORT+1 must be open"),
    ]
    body = {"name": control.around.name(control.around.me), "time": control.around.wall(now), "version": __version__}
    return [accepted(src, call.seq, {**body, "checks": checks})]


def _check(name: str, control: Control, states: tuple[str, ...], hint: str) -> Row:
    rows = control.nodes.rows(control.now)
    state = "unreachable" if name == "reachable" else ""
    found = [
        f"{row['name']} is {state or row['state']}"
        for row in rows
        if row["state"] in states or (state and row["state"] == "alive" and not row["reachable"] and len(rows) <= 8)
    ]
    detail = ", ".join(found) or f"{sum(row['state'] == 'alive' for row in rows)} of {len(rows)} nodes are alive"
    return {"name": name, "ok": not found, "detail": detail, "hint": hint if found else ""}


def _considered(control: Control, src: str, call: Call, now: float) -> list[Effect]:
    """What this node weighed when it decided where these tasks run."""
    local = control.jobs.known(str(call.args.get("job", "")))
    tasks = [str(task) for task in call.args.get("tasks", ())]
    return [accepted(src, call.seq, {"tasks": explanation(local, control.around.name, tasks) if local else []})]


def _runs(control: Control, src: str, call: Call, now: float) -> list[Effect]:
    """The records of the runs of a job on this node, in wall time."""
    local = control.jobs.known(str(call.args.get("job", "")))
    job = local.job.id if local else str(call.args.get("job", ""))
    return [accepted(src, call.seq, paged("runs", call.args, {"runs": own_runs(control, job, local)}))]


def own_runs(control: Control, job: str, local: Local | None) -> list[Row]:
    """item, task, node, enter, execute, finish (wall seconds), bytes in and out of each run here; what it used, and
    per edge the bytes, and for those in when they began to come and when they were here. Of earlier lives, too."""
    node, wall = control.around.name(control.around.me), control.around.wall
    runs = [in_wall_time(run, wall) for run in local.execution.counters.runs] if local else []
    return [{"node": node, **msgspec.structs.asdict(run)} for run in [*control.profiler.log.earlier(job), *runs]]


NODE_VERBS: dict[str, Callable[[Control, str, Call, float], list[Effect]]] = {
    "events": _events,
    "token": token,
    "drain": _drain,
    "forget": _forget,
    "forget-profiles": _forget_profiles,
    "diagnose": _diagnose,
    "considered": _considered,
    "runs": _runs,
}
