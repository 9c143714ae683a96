"""Mappers of a third party: `mine` decides for all tasks at home, `calm` for one task on the node that controls it."""

import numpy as np

from schedulers.replay import replay


def mine(p, *, seed, contention, **options):
    """Every task on the node where it takes least, links ignored. `p`: schedulers.Problem."""
    p.require_placeable()
    times = p.times if p.placeable is None else np.where(p.placeable, p.times, np.inf)
    return replay(p, times.argmin(axis=1), contention=contention)


def calm(view):
    """The node with the fewest tasks of this job, then the least load; ties by name. `view`: schedulers.rules.View."""

    def cost(node):
        ways = [view.transfer_s(given.node, node.name, given.bytes) or 0.0 for given in view.inputs]
        return (node.committed, node.load / node.cpus, max(ways, default=0.0), node.name)

    return min(view.nodes, key=cost).name
