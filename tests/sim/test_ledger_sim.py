"""The ledger in virtual time: revocations and rotations reach everybody, through partitions and restarts."""

import pytest

from jupiter_agent.core.effects import Halt
from jupiter_agent.core.membership import Membership
from jupiter_agent.core.messages.membership import NODE_REVOKED
from jupiter_agent.sim.cluster import Cluster, Node, add_member

Nodes = Cluster[Membership]


def booted(count: int, seed: int) -> Nodes:
    cluster = Nodes(seed)
    for i in range(count):
        add_member(cluster, f"n{i}", ["n0"] if i else [])
    living = sorted(node.seat.peer for node in cluster.nodes.values())
    assert cluster.run_until(lambda: all(n.machine.alive() == living for n in cluster.running()), 10.0) is not None
    cluster.run(3.0)
    return cluster


def expel(cluster: Nodes, by: str, name: str) -> None:
    """As `token revoke --node` does it."""
    node = cluster.nodes[by]
    peer = cluster.nodes[name].seat.peer
    entry = node.machine.trust.authority.signed_entry(NODE_REVOKED, peer)
    assert entry is not None
    now = cluster.now
    node.perform(node.machine.decided(now, lambda notary: notary.enter(entry, "", now)))
    node.perform(node.machine.decided(now, lambda notary: notary.rotate("", now)))
    node.stepped()


def doors(nodes: list[Node[Membership]]) -> set[str]:
    return {node.machine.trust.authority.door()[0] for node in nodes}


def out_for(nodes: list[Node[Membership]], peer: str) -> bool:
    return all(node.machine.members()[peer].state == "dead" for node in nodes)


@pytest.mark.parametrize("seed", range(5))
def test_who_is_expelled_is_dead_for_all_within_a_second_and_stays_so(seed):
    cluster = booted(20, seed)
    peer = cluster.nodes["n7"].seat.peer
    rest = [node for name, node in cluster.nodes.items() if name != "n7"]
    expel(cluster, "n3", "n7")
    took = cluster.run_until(lambda: out_for(rest, peer), 5.0)
    assert took is not None
    assert took < 1.0
    assert any(isinstance(effect, Halt) for _, name, effect in cluster.effects if name in ("n7", peer))
    assert cluster.run_until(lambda: len(doors(rest)) == 1 and doors(rest) != {""}, 10.0) is not None
    cluster.run(60.0)
    assert out_for(rest, peer)
    assert all(len(node.machine.alive()) == 19 for node in rest)


@pytest.mark.parametrize("seed", range(5))
def test_halves_that_expelled_and_rotated_apart_agree_when_they_meet(seed):
    cluster = booted(12, seed)
    names = sorted(cluster.nodes)
    left, right = names[:6], names[6:]
    cluster.partition(left, right)
    cluster.run(2.0)
    expel(cluster, left[0], left[5])
    expel(cluster, right[0], right[5])
    expel(cluster, right[1], right[4])
    cluster.run(20.0)
    cluster.heal()
    gone = [cluster.nodes[name] for name in (left[5], right[5], right[4])]
    rest = [node for node in cluster.nodes.values() if node not in gone]

    def agreed() -> bool:
        digests = {node.machine.trust.ledger.digest for node in rest}
        return len(digests) == 1 and len(doors(rest)) == 1 and all(len(n.machine.alive()) == 9 for n in rest)

    assert cluster.run_until(agreed, 60.0) is not None
    assert all(out_for(rest, node.seat.peer) for node in gone)
    assert doors(rest) == {cluster.nodes[right[1]].machine.trust.authority.door()[0]}, "the later rotation holds"
