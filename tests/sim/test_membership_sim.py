"""Clusters in virtual time with faults: nobody falsely dead, everybody agreed by a deadline."""

import msgspec
import pytest

from jupiter_agent.core.effects import Halt, Notice, Send
from jupiter_agent.core.membership import MemberChanged, Membership
from jupiter_agent.core.messages.membership import News
from jupiter_agent.sim.cluster import Cluster, Node, add_member

Nodes = Cluster[Membership]


def booted(count: int, seed: int = 1, settled_s: float = 3.0) -> Nodes:
    """n0 is everybody's seed; all see all."""
    cluster = Nodes(seed)
    for i in range(count):
        add_member(cluster, f"n{i}", ["n0"] if i else [])
    assert agreed_within(cluster, 5.0) is not None
    cluster.run(settled_s)
    return cluster


def agreed(cluster: Nodes) -> bool:
    living = sorted(node.seat.peer for node in cluster.running())
    return all(node.machine.alive() == living for node in cluster.running())


def agreed_within(cluster: Nodes, seconds: float) -> float | None:
    return cluster.run_until(lambda: agreed(cluster), seconds)


def is_everywhere(cluster: Nodes, name: str, state: str) -> bool:
    peer = cluster.nodes[name].seat.peer
    others = [node for node in cluster.running() if node.seat.peer != peer]
    return all(node.machine.members()[peer].state == state for node in others)


def changes_to(cluster: Nodes, state: str, since: float = 0.0) -> list[MemberChanged]:
    told = [effect for when, _, effect in cluster.effects if when >= since and isinstance(effect, MemberChanged)]
    return [change for change in told if change.state == state]


def publish(node: Node[Membership], **content: object) -> None:
    node.perform(node.machine.publish("resources", content, node.cluster.now))
    node.stepped()


def leave(node: Node[Membership]) -> None:
    node.perform(node.machine.leave(node.cluster.now))
    node.stepped()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.smoke
def test_five_nodes_with_one_seed_all_see_all_within_a_second(seed):
    cluster = Nodes(seed)
    for i in range(5):
        add_member(cluster, f"n{i}", ["n0"] if i else [])
    assert agreed_within(cluster, 1.0) is not None


@pytest.mark.parametrize("seed", range(3))
def test_agents_booting_at_once_with_mutual_seeds_make_one_cluster(seed):
    cluster = Nodes(seed)
    names = ["n0", "n1", "n2"]
    for name in names:
        add_member(cluster, name, names)
    assert agreed_within(cluster, 2.0) is not None


@pytest.mark.smoke
def test_two_islands_that_each_grew_alone_become_one_through_a_seed():
    cluster = Nodes(4)
    for i in range(3):
        add_member(cluster, f"a{i}", ["a0"] if i else [])
        add_member(cluster, f"b{i}", ["b0"] if i else [])
    cluster.run(5.0)
    add_member(cluster, "between", ["a0", "b0"])
    assert agreed_within(cluster, 5.0) is not None


def test_workers_without_the_issuer_key_are_admitted_by_the_founder():
    cluster = Nodes(2)
    for i in range(5):
        add_member(cluster, f"n{i}", ["n0"] if i else [], admin=i == 0)
    assert agreed_within(cluster, 1.0) is not None


def test_a_late_joiner_is_seen_by_all_within_a_second():
    cluster = booted(24)
    add_member(cluster, "late", ["n3"])
    assert agreed_within(cluster, 1.0) is not None


def test_one_cut_off_right_after_it_was_admitted_becomes_a_member_when_it_is_back():
    """Longer than its sponsor keeps the place of a guest: by then nobody knows its key."""
    cluster = booted(5)
    node = add_member(cluster, "late", ["n0", "n1"])
    assert cluster.run_until(lambda: node.machine.joined, 5.0, every_s=0.001) is not None
    cluster.partition(["late"])
    cluster.run(90.0)
    assert not any(node.seat.peer in other.machine.alive() for other in cluster.running() if other is not node)
    cluster.heal()
    assert agreed_within(cluster, 30.0) is not None


@pytest.mark.parametrize("count", [2, 3, 5, 24])
@pytest.mark.smoke
def test_a_killed_node_is_dead_everywhere_within_four_seconds(count):
    cluster = booted(count)
    cluster.crash("n1")
    assert cluster.run_until(lambda: is_everywhere(cluster, "n1", "dead"), 4.0) is not None
    assert agreed(cluster)


@pytest.mark.parametrize("count", [2, 3, 5, 24])
@pytest.mark.smoke
def test_a_silent_node_is_dead_everywhere_within_fifteen_seconds(count):
    cluster = booted(count)
    cluster.crash("n1", "silent")
    assert cluster.run_until(lambda: is_everywhere(cluster, "n1", "dead"), 15.0) is not None
    assert agreed(cluster)


def test_a_third_killed_at_once_are_dead_everywhere_and_nobody_else():
    cluster = booted(24)
    for i in range(0, 24, 3):
        cluster.crash(f"n{i}")
    assert agreed_within(cluster, 4.0) is not None


def test_nobody_is_falsely_dead_while_some_stand_still_for_three_seconds():
    cluster = booted(24)
    for i in range(1, 6):
        cluster.stop(f"n{i}")
    cluster.run(3.0)
    for i in range(1, 6):
        cluster.cont(f"n{i}")
    cluster.run(15.0)
    assert agreed(cluster)
    assert changes_to(cluster, "dead") == []


def test_one_that_stood_still_long_enough_to_be_suspected_refutes_it():
    cluster = booted(12)
    cluster.stop("n5")
    assert cluster.run_until(lambda: is_everywhere(cluster, "n5", "suspect"), 10.0) is not None
    cluster.cont("n5")
    assert cluster.run_until(lambda: is_everywhere(cluster, "n5", "alive"), 1.0) is not None
    cluster.run(15.0)
    assert changes_to(cluster, "dead") == []
    assert cluster.nodes["n5"].machine.self_record.incarnation > 0


def test_one_given_up_while_it_stood_still_comes_back_by_itself():
    cluster = booted(12)
    cluster.stop("n5")
    assert cluster.run_until(lambda: is_everywhere(cluster, "n5", "dead"), 15.0) is not None
    cluster.cont("n5")
    assert agreed_within(cluster, 5.0) is not None


@pytest.mark.parametrize("count", [4, 24])
def test_a_partition_of_half_a_minute_heals_within_five_seconds(count):
    cluster = booted(count)
    cluster.partition([f"n{i}" for i in range(count // 2)])
    cluster.run(30.0)
    assert not agreed(cluster)
    cluster.heal()
    assert agreed_within(cluster, 5.0) is not None
    healed_at = cluster.now
    cluster.run(15.0)
    assert agreed(cluster)
    assert changes_to(cluster, "dead", since=healed_at) == []


@pytest.mark.smoke
def test_a_cut_edge_is_blamed_and_not_its_ends():
    cluster = booted(8)
    a, b = (cluster.nodes[name].seat.address for name in ("n1", "n2"))
    cluster.network.cuts |= {(a, b), (b, a)}
    cluster.run(40.0)
    assert agreed(cluster)
    assert changes_to(cluster, "dead") == []


def test_a_tenth_of_all_messages_lost_kills_nobody():
    cluster = booted(24)
    cluster.network.loss = 0.1
    cluster.run(40.0)
    assert changes_to(cluster, "dead") == []
    assert agreed(cluster)


@pytest.mark.parametrize("name", ["n0", "n7", "n23"])
def test_a_published_value_is_everywhere_within_two_and_a_half_seconds(name):
    cluster = booted(24)
    node = cluster.nodes[name]
    publish(node, cpu=4)
    peer = node.seat.peer

    def everywhere() -> bool:
        return all(other.machine.board.get(peer, "resources") == {"cpu": 4} for other in cluster.running())

    assert cluster.run_until(everywhere, 2.5) is not None


def test_a_published_value_arrives_although_a_tenth_of_all_messages_is_lost():
    cluster = booted(12)
    cluster.network.loss = 0.1
    for node in cluster.running():
        publish(node, by=node.seat.name)
    everywhere = cluster.run_until(
        lambda: all(len(node.machine.board.items("resources")) == 12 for node in cluster.running()), 10.0
    )
    assert everywhere is not None


def test_a_restarted_node_has_a_higher_boot_and_is_back_everywhere():
    cluster = booted(8)
    cluster.crash("n3")
    cluster.run(0.3)
    cluster.start("n3")
    peer = cluster.nodes["n3"].seat.peer
    assert cluster.run_until(lambda: _boots(cluster, peer) == {2}, 2.0) is not None
    cluster.run(10.0)
    assert agreed(cluster)


def test_a_worker_that_lost_its_boot_counter_gets_a_higher_one_from_its_sponsor():
    cluster = Nodes(2)
    for i in range(4):
        add_member(cluster, f"n{i}", ["n0"] if i else [], admin=i == 0)
    cluster.run(3.0)
    cluster.crash("n3")
    cluster.run(5.0)
    cluster.nodes["n3"].boot = 0
    cluster.start("n3")
    assert agreed_within(cluster, 2.0) is not None
    assert _boots(cluster, cluster.nodes["n3"].seat.peer) == {2}


def _boots(cluster: Nodes, peer: str) -> set[int]:
    return {node.machine.members()[peer].record.boot for node in cluster.running()}


def test_leaving_is_known_everywhere_within_a_second():
    cluster = booted(24)
    leave(cluster.nodes["n5"])
    assert cluster.run_until(lambda: is_everywhere(cluster, "n5", "left"), 1.0) is not None
    cluster.crash("n5")
    cluster.run(10.0)
    assert agreed(cluster)
    assert changes_to(cluster, "dead") == []


def test_a_second_node_under_a_living_name_is_stopped():
    cluster = booted(4)
    node = add_member(cluster, "n9", ["n0"], admin=False)
    cluster.crash("n9")
    draft = node.machine.self_record

    def named_like_another(boot, rng, now):
        trust = node.machine._context.trust
        record = msgspec.structs.replace(draft, name="n2", boot=boot)
        return Membership(record, trust, node.machine._context.settings, ["n0:7000"], rng, now)

    node.build = named_like_another
    cluster.start("n9")
    cluster.run(3.0)
    halted = [effect for _, name, effect in cluster.effects if name == "n9" and isinstance(effect, Halt)]
    assert "name is taken" in halted[0].error
    assert agreed(cluster)


def test_a_forged_record_told_by_a_member_reaches_nobody():
    cluster = booted(5)
    liar, victim = cluster.nodes["n1"], cluster.nodes["n2"].machine.self_record
    forged = msgspec.structs.replace(victim, left=True)
    for node in cluster.running():
        if node is not liar:
            liar.perform([Send(node.seat.peer, News([forged], []))])
    cluster.run(5.0)
    assert agreed(cluster)
    counted = [node.machine.counters["peer_error: record: bad signature"] for node in cluster.running()]
    assert sum(counted) == 4, "everybody but the liar"


def test_a_member_that_forges_loses_all_its_links_but_is_not_called_dead_and_comes_back():
    cluster = booted(8)
    bad, victim = cluster.nodes["n3"], cluster.nodes["n5"]
    lie = msgspec.structs.replace(victim.machine.self_record, incarnation=7, left=True)
    for _ in range(8):
        for other in cluster.running():
            if other is not bad:
                bad.send(Send(other.seat.peer, News([lie], [])))
        cluster.run(0.5)
    assert all(other.machine.counters["bans"] == 1 for other in cluster.running() if other is not bad)
    assert all(bad.seat.peer not in other.transport.sessions for other in cluster.running())
    cluster.run(40.0)
    assert not changes_to(cluster, "dead")
    cluster.run(40.0)
    assert len(bad.transport.sessions) >= 4
    assert agreed(cluster)


def test_links_stay_few_and_traffic_small_when_idle():
    cluster = booted(24)
    before = [node.transport.counters()["bytes_out"] for node in cluster.running()]
    cluster.run(10.0)
    counters = [node.transport.counters() for node in cluster.running()]
    assert max(counter["sessions"] for counter in counters) <= 16
    assert max(c["bytes_out"] - b for c, b in zip(counters, before, strict=True)) < 20_000


def test_churn_ends_in_agreement_without_false_deaths():
    cluster = booted(10, seed=5)
    gone: set[str] = set()
    for i in range(8):
        victim = f"n{i + 1}"
        gone.add(cluster.nodes[victim].seat.peer)
        cluster.crash(victim)
        add_member(cluster, f"new{i}", ["n0"])
        cluster.run(2.0)
    assert agreed_within(cluster, 5.0) is not None
    assert {change.peer for change in changes_to(cluster, "dead")} <= gone


def test_the_same_seed_replays_exactly():
    def story(seed: int) -> list[object]:
        cluster = booted(8, seed)
        cluster.network.loss = 0.05
        cluster.crash("n3", "silent")
        cluster.run(12.0)
        return [(when, name, effect) for when, name, effect in cluster.effects if not isinstance(effect, Notice)]

    assert story(9) == story(9)
    assert story(9) != story(10)
