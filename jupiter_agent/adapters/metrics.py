"""/metrics: what an agent counts, as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Mapping

from jupiter_agent.core.peer import Peer

PREFIX = "jupiter_"


def metrics_text(machine: Peer, counters: Mapping[str, int], backlog: int) -> str:
    """Members by state, jobs and items by state, queues, bytes and drops by reason, mapping seconds."""
    lines: list[str] = []

    def family(name: str, kind: str, about: str, samples: list[tuple[str, float]]) -> None:
        lines.append(f"# HELP {PREFIX}{name} {about}")
        lines.append(f"# TYPE {PREFIX}{name} {kind}")
        lines.extend(f"{PREFIX}{name}{labels} {value:g}" for labels, value in samples)

    members = [str(member.state) for member in machine.membership.members().values()]
    family("members", "gauge", "Members known, by state.", _by("state", members))
    homes = machine.jobs.homes()
    family("jobs", "gauge", "Jobs whose home is here, by state.", _by("state", [home.state for home in homes]))
    states = [item.state for home in homes for item in home.items.values()]
    family("items", "gauge", "Items of these jobs, by state.", _by("state", states))
    family("runs_running", "gauge", "Runs in task processes now.", [("", len(machine.queue.running))])
    family("runs_committed", "gauge", "Runs waiting or running here.", [("", machine.queue.committed())])
    family("inbox", "gauge", "Events waiting for the machine.", [("", backlog)])
    family("fetched_bytes_total", "counter", "Bytes of objects fetched.", [("", machine.transfers.moved_bytes)])
    mapped = [home.mapping_s for home in homes if home.mapping_s is not None]
    family("mapping_seconds_sum", "counter", "Seconds from submit to a complete mapping.", [("", sum(mapped))])
    family("mapping_seconds_count", "counter", "Jobs mapped.", [("", len(mapped))])
    for name, count in sorted(counters.items()):
        if not name.startswith("dropped"):
            family(f"{name}_total", "counter", "Counted by the transport.", [("", count)])
    drops = {name: count for name, count in counters.items() if name.startswith("dropped")}
    drops |= {f"membership: {reason}": count for reason, count in machine.membership.counters.items()}
    drops["job message refused"] = machine.refused
    drops["execution profile or run without sense"] = machine.profiler.book.dropped
    drops["published value without sense"] = machine.published.senseless
    samples = [(f'{{reason="{_label(reason)}"}}', float(count)) for reason, count in sorted(drops.items())]
    family("drops_total", "counter", "Dropped or refused, by reason.", samples)
    return "\n".join(lines) + "\n"


def _by(label: str, values: list[str]) -> list[tuple[str, float]]:
    return [(f'{{{label}="{value}"}}', float(values.count(value))) for value in sorted(set(values))]


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
