"""Jobs mapped by auction while nodes die, come, are cut off, lie or say nothing: the mapping still completes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from math import inf, nan
from random import Random
from typing import Any

import pytest
from job_grid import acting, formed, home_of, left_behind, local_of, mapping

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.dag import Dag
from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.messages.auction import Bids, BidsWanted, Offered, Price
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.core.wave_auction import SHORTLISTS
from jupiter_agent.sim.grid import Grid, SimApp
from schedulers.bidding import BIDDERS, EXPLORERS

NODES, TASKS = 12, 40


def layered(tasks: int, seed: int, width: int = 6) -> SimApp:
    """One entry, then layers whose tasks have one to three parents in the layer above."""
    rng = Random(seed)
    names = [f"t{n}" for n in range(tasks)]
    layers = [names[:1], *(names[at : at + width] for at in range(1, tasks, width))]
    children: dict[str, list[str]] = {name: [] for name in names}
    for above, below in pairwise(layers):
        for name in below:
            for parent in rng.sample(above, min(len(above), rng.randrange(1, 4))):
                children[parent].append(name)
    specs = [TaskSpec(name, script="x.py", children=own) for name, own in children.items()]
    spec = AppSpec(name=f"layered{seed}", tasks=specs)
    return SimApp(spec, {name: lambda inputs: b"x" for name in names}, dict.fromkeys(names, 0.05))


def submitted(grid: Grid, seed: int = 1, home: str = "node1", **args: Any) -> str:
    """A job that is being mapped: its id."""
    app = layered(TASKS, seed)
    return str(grid.submit(home, app, {}, mapper="wave-auction", keep_open=True, **args)["id"])


def mapped(grid: Grid, job: str, seconds: float = 20.0) -> float:
    """Run until its acting home knows a living host of every task; how long that took."""

    def done() -> bool:
        known = home_of(grid, acting(grid, job), job).job
        living = {grid.id(node.seat.name) for node in grid.running()}
        return known.mapped and all(register.node in living for register in known.registers.values())

    took = grid.run_until(done, seconds, 0.02)
    assert took is not None, mapping(grid, acting(grid, job), job)
    return took


def answering(grid: Grid, name: str, answer: Callable[[str, BidsWanted], list[Effect]]) -> None:
    """Have a node answer calls for bids like this from now on."""
    machine = grid.nodes[name].machine
    machine.jobs.bidding.on_wanted = lambda src, message, now: answer(src, message)


@pytest.mark.smoke
def test_a_large_job_is_mapped_in_a_fraction_of_a_second_with_few_messages_per_task():
    grid = formed(NODES)
    began = len(grid.sent)
    job = submitted(grid)
    assert mapped(grid, job) < 1.0
    count = sum(isinstance(s.message, BidsWanted | Bids) for _, _, s in grid.sent[began:])
    dag = Dag(layered(TASKS, 1).spec.tasks)
    promised = sum(2 * (len(dag.parents(task)) + BIDDERS + EXPLORERS) + 4 for task in dag.order)
    assert count <= promised


def test_the_same_seed_gives_the_same_mapping():
    maps = []
    for _ in range(2):
        grid = formed(NODES)
        job = submitted(grid, seed=3)
        mapped(grid, job)
        maps.append(mapping(grid, "node1", job))
    assert maps[0] == maps[1]


@pytest.mark.parametrize("seed", range(6))
def test_nodes_that_die_in_mid_mapping_only_delay_it(seed):
    grid, rng = formed(NODES, seed + 1), Random(seed)
    job = submitted(grid, seed)
    for name in rng.sample([f"node{n + 2}" for n in range(NODES - 1)], 3):
        how = rng.choice(["closed", "silent"])
        grid.network.after(rng.uniform(0.0, 0.4), lambda name=name, how=how: grid.crash(name, how))
    grid.run(0.5)
    assert mapped(grid, job, 30.0) < 30.0


@pytest.mark.parametrize("seed", range(3))
def test_the_death_of_home_in_mid_mapping_does_not_end_it(seed):
    grid, rng = formed(NODES, seed + 1), Random(seed)
    job = submitted(grid, seed)
    grid.run(rng.uniform(0.02, 0.3))
    grid.crash("node1", "closed")
    assert grid.run_until(lambda: len(grid.running()) == NODES - 1, 5.0) is not None
    grid.run(10.0)
    mapped(grid, job, 20.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_partition_in_mid_mapping_is_over_with_one_mapping_on_both_sides(seed):
    grid, rng = formed(NODES, seed + 1), Random(seed)
    job = submitted(grid, seed)
    grid.run(rng.uniform(0.02, 0.2))
    side = rng.sample(list(grid.nodes), NODES // 2)
    grid.partition(side, [name for name in grid.nodes if name not in side])
    grid.run(rng.choice([1.0, 12.0]))
    grid.heal()
    grid.run(15.0)
    mapped(grid, job, 30.0)
    grid.run(15.0)
    known = {node.machine.jobs.local[job].job.digest() for node in grid.running() if job in node.machine.jobs.local}
    assert len(known) == 1


def test_nodes_that_join_in_mid_mapping_may_get_tasks_and_disturb_nothing():
    grid = formed(4)
    job = submitted(grid, 2)
    for n in range(5, 9):
        grid.add_peer(f"node{n}", ["node1"], speed=8.0)
    mapped(grid, job)


@pytest.mark.parametrize("silent", [3, NODES - 1])
def test_nodes_that_never_answer_are_left_out(silent):
    grid = formed(NODES)
    for n in range(NODES - silent, NODES):
        answering(grid, f"node{n + 1}", lambda src, message: [])
    job = submitted(grid)
    took = mapped(grid, job)
    dumb = {f"node{n + 1}" for n in range(NODES - silent, NODES)}
    places = mapping(grid, "node1", job)
    if silent < NODES - 1:
        assert not dumb & set(places.values())
        assert took < 3.0
    else:
        assert "nobody bids" in " ".join(r.why for r in local_of(grid, "node1", job).job.registers.values())
    assert took < 20.0 * SHORTLISTS


IMPOSSIBLE = [
    Price(0.0, 0.0, 0.0, 0.0),
    Price(nan, nan, nan, nan),
    Price(inf, 0.0, inf, 0.0),
    Price(1e300, 1e300, 1e300, 0.0),
    Price(-1.0, -2.0, -1.0, 0.0),
]


@pytest.mark.parametrize("lie", IMPOSSIBLE)
def test_bidders_with_absurd_numbers_do_not_stop_the_mapping(lie):
    """Work that costs nothing is believed to cost a little and counted; the rest are no bids."""
    grid = formed(NODES)
    liars = ["node3", "node7", "node9"]

    def lying(src: str, message: BidsWanted) -> list[Effect]:
        offers = [Offered(called.task, called.epoch, lie) for called in message.calls]
        replies = [Offered(called.task, called.epoch, lie, True) for called in message.grants]
        return [Send(src, Bids(message.job, offers, replies))]

    for name in liars:
        answering(grid, name, lying)
    job = submitted(grid)
    mapped(grid, job)
    got = Counter(mapping(grid, "node1", job).values())
    if lie.cost_s == 0:
        assert (
            sum(
                node.machine.jobs.local[job].wave.auctions.dropped
                for node in grid.running()
                if job in node.machine.jobs.local
            )
            > 0
        )
    else:
        assert not got.keys() & set(liars)


def test_what_is_said_about_cards_of_nodes_that_have_no_part_in_it_is_not_believed():
    grid = formed(NODES)
    real = {name: grid.nodes[name].machine.jobs.bidding.on_wanted for name in grid.nodes}

    def slandering(name: str) -> Callable[[str, BidsWanted], list[Effect]]:
        def answer(src: str, message: BidsWanted) -> list[Effect]:
            effects = real[name](src, message, grid.now)
            for each in [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Bids)]:
                for offer in [*each.offers, *each.replies]:
                    if offer.price:
                        offer.price.sends.append((grid.id("node2"), 1e11))
            return effects

        return answer

    answering(grid, "node5", slandering("node5"))
    job = submitted(grid)
    mapped(grid, job)
    registers = local_of(grid, "node1", job).job.registers
    for register in registers.values():
        hosts = {registers[parent].node for parent in local_of(grid, "node1", job).job.dag.parents(register.task)}
        assert {host for host, _ in register.sends} <= hosts | {grid.id("node1")}


def test_several_jobs_at_once_leave_each_other_room():
    grid = formed(NODES)
    homes = ["node1", "node5", "node9"]
    seqs = []
    for seed, home in enumerate(homes):
        app = layered(TASKS, seed)
        grid.install(app, home)
        fields = {"bundle": app.bundle.hex(), "size": len(app.spec.name), "app": app.spec.name, "ep": "off"}
        seqs.append(grid.call(home, "submit", **fields, inputs=[], mapper="wave-auction", keep_open=True))
    assert grid.run_until(lambda: all(seq in grid.answers for seq in seqs), 10.0) is not None
    jobs = [grid.answers[seq].body["id"] for seq in seqs]
    for job in jobs:
        mapped(grid, job)
    grid.run(1.0)
    alone = formed(NODES)
    only = submitted(alone, 0)
    mapped(alone, only)
    busiest = max(Counter(place for job in jobs for place in mapping(grid, acting(grid, job), job).values()).values())
    before = max(Counter(mapping(alone, "node1", only).values()).values())
    assert busiest <= 3 * before


def test_nothing_stays_reserved_once_a_job_is_over():
    grid = formed(NODES)
    job = submitted(grid)
    mapped(grid, job)
    assert any(node.machine.jobs.bidding.bidder.held for node in grid.running())
    grid.ask("node1", "cancel", job=job)
    grid.run(10.0)
    for node in grid.running():
        desk = node.machine.jobs.bidding
        desk.on_wanted(node.machine.me, BidsWanted("other", b"", over=[("x", 1)]), grid.now)
        desk.bidder.forget(node.now)
        assert not desk.bidder.held
    assert left_behind(grid) == []
