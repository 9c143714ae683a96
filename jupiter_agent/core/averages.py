"""Averages over nodes and links as one node knows them: home sends them along with a job, so that all rank alike."""

from __future__ import annotations

from statistics import fmean

from jupiter_agent.core.messages.jobs import Averages
from jupiter_agent.core.surroundings import Surroundings


def averages(around: Surroundings) -> Averages:
    """Of the nodes that take tasks, and of the links that they published or that start here; the usual without any."""
    usual = Averages()
    nodes = [node for node in around.alive() if around.profile(node).takes_tasks]
    own = [around.link(node) for node in nodes if node != around.me]
    links = [(link.latency_s, link.bytes_per_s) for link in own if link.source != "estimated"]
    links += [link for node in nodes if node != around.me for link in around.links(node).values()]
    rates = [bytes_per_s for _, bytes_per_s in links if bytes_per_s >= 1]
    return Averages(
        latency_s=fmean(latency for latency, _ in links) if links else usual.latency_s,
        inv_rate=fmean(1 / rate for rate in rates) if rates else usual.inv_rate,
        pace=fmean(1 / around.profile(node).speed for node in nodes) if nodes else usual.pace,
    )
