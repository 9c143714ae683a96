"""Auctions as a job's nodes hold them: whom they ask, what they know, and that they decide as the simulated mapper."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from job_rig import CHAIN, VERSION, Around, job_spec, make_job, reg, sent, signed, task_specs

from jupiter_agent.core import wave as wave_module
from jupiter_agent.core.auction import LEASE_S, OFFERS_S
from jupiter_agent.core.bidding import BURST, Bidding
from jupiter_agent.core.effects import Effect, Send
from jupiter_agent.core.job import Job
from jupiter_agent.core.messages.auction import Bids, BidsWanted, Called, Offered, Price, Wanted
from jupiter_agent.core.messages.jobs import Award, Registers
from jupiter_agent.core.surroundings import LinkEstimate
from jupiter_agent.core.wave import TURN_WAIT_S, Wave
from jupiter_agent.core.wave_auction import SHORTLISTS
from schedulers import Problem, auction
from schedulers.generate import layered

AUCTION = "wave-auction"
NODES = ("home1", "n1", "n2", "n3")


class Hosting:
    """What `Bidding` reads of a job on its node."""

    def __init__(self, job: Job) -> None:
        self.job = job


class Node:
    """One node of a world without time: its part of the job, and its desk."""

    def __init__(self, me: str, spec: Any, nodes: tuple[str, ...]) -> None:
        self.around = Around(me, nodes)
        self.job = Job(signed(spec), spec, VERSION)
        self.wave = Wave(self.job, self.around, 0.0)
        self.bidding = Bidding(self.around, {spec.id: Hosting(self.job)})


def world(edges: dict[str, list[str]], nodes: tuple[str, ...] = NODES, **changes: Any) -> dict[str, Node]:
    spec = job_spec(edges, AUCTION, **changes)
    return {me: Node(me, spec, nodes) for me in nodes}


def deliver(
    nodes: dict[str, Node], effects: list[Effect], src: str, now: float = 0.0, deaf: tuple[str, ...] = ()
) -> int:
    """Hand over every message, in the order sent, until nobody says anything; how many were about auctions."""
    queue = deque((src, e.dst, e.message) for e in effects if isinstance(e, Send))
    count = 0
    while queue:
        sender, to, message = queue.popleft()
        node = nodes[to]
        if to in deaf:
            continue
        more: list[Effect] = []
        if isinstance(message, BidsWanted):
            more = node.bidding.on_wanted(sender, message, now)
        elif isinstance(message, Bids):
            more = node.wave.on_bids(sender, message, now)
        elif isinstance(message, Award | Registers):
            won = node.job.merge(message.registers)
            more = node.wave.on_registers(sender, message.registers, won, now)
        count += isinstance(message, BidsWanted | Bids)
        queue.extend((to, e.dst, e.message) for e in more if isinstance(e, Send))
    return count


def mapping(job: Job) -> dict[str, str]:
    return {task: register.node for task, register in job.registers.items()}


def started(nodes: dict[str, Node], deaf: tuple[str, ...] = ()) -> Job:
    deliver(nodes, nodes["home1"].wave.step(0.0), "home1", deaf=deaf)
    return nodes["home1"].job


# --- the same decisions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_live_nodes_map_a_job_as_the_simulated_mapper_does_given_the_same_knowledge(seed, monkeypatch):
    """All nodes are asked, one task at a time in the order of ranks; speeds, links and sizes are drawn."""
    rng, count = Random(seed), 5
    p = layered(18, count, seed)
    names = [f"t{t}" for t in range(p.n_tasks)]
    children: dict[str, list[str]] = {name: [] for name in names}
    edge_bytes = {}
    for t in range(p.n_tasks):
        for u, _ in p.parents[t]:
            children[names[u]].append(names[t])
            edge_bytes[f"{names[u]}>{names[t]}"] = rng.randrange(10**6, 10**8)
    seconds = {name: rng.uniform(0.5, 5.0) for name in names}
    ids = ("home1", *(f"n{n}" for n in range(1, count)))
    spec = {"seconds": seconds, "edge_bytes": edge_bytes}
    nodes = world(children, ids, **spec)
    speeds = [rng.choice([0.5, 1.0, 2.0, 4.0]) for _ in ids]
    latency = np.zeros((count, count))
    for a in range(count):
        for b in range(a):
            latency[a, b] = latency[b, a] = rng.uniform(0.001, 0.3)
    for a, node in enumerate(nodes.values()):
        node.around.profiles = {each: {"speed": speed} for each, speed in zip(ids, speeds, strict=True)}
        node.around.latencies = {each: latency[a, b] for b, each in enumerate(ids)}
    monkeypatch.setattr(wave_module, "WINDOW", 0.0)
    job = started(nodes)
    assert job.mapped

    entries = [names.index(entry) for entry in job.dag.entries]
    source = p.n_tasks
    times = [[seconds[name] / speed for speed in speeds] for name in names] + [[0.0] * count]
    edges = [(u, t, edge_bytes[f"{names[u]}>{names[t]}"]) for t in range(p.n_tasks) for u, _ in p.parents[t]]
    edges += [(source, entry, 0) for entry in entries]
    controls = {c for c in job.controllers.values() if c}
    away = [name in controls or job.controllers[name] is None for name in names]
    allowed = [[not (away[t] and n == 0) for n in range(count)] for t in range(p.n_tasks)] + [[True] * count]
    inv_rate = 1e-7 * (1 - np.eye(count))
    known = Problem(times, edges, latency, inv_rate, pinned={source: 0}, allowed=allowed)
    ranks = [*(job.ranks[name] for name in names), max(job.ranks.values()) + 1]
    monkeypatch.setattr(auction, "upward_rank", lambda problem: ranks)
    monkeypatch.setattr(auction.bidding, "WINDOW", 0.0)
    monkeypatch.setattr(auction.bidding, "CROWDED_WINDOW", 0.0)
    plan = auction.simulate(known, bidders=count, contention=True).schedule
    assert mapping(job) == {name: ids[plan.node[t]] for t, name in enumerate(names)}
    done = [job.registers[name].done_s for name in names]
    assert done == pytest.approx(plan.finish[:-1].tolist())


def test_a_task_costs_at_most_the_promised_messages():
    edges = {"a": ["b", "c", "d"], "b": ["e"], "c": ["e"], "d": ["e"], "e": []}
    nodes = world(edges, ("home1", *(f"n{n}" for n in range(30))))
    count = deliver(nodes, nodes["home1"].wave.step(0.0), "home1")
    assert nodes["home1"].job.mapped
    parents = sum(len(nodes["home1"].job.dag.parents(task)) for task in edges)
    assert count <= sum((2 * 10 + 4) for _ in edges) + 2 * parents


# --- who decides, who is asked -----------------------------------------------------------------------------------


def test_a_register_says_when_its_task_is_done_and_how_long_cards_are_busy():
    nodes = world(CHAIN, seconds={"a": 2.0, "b": 3.0}, edge_bytes={"a>b": 10**7})
    for node in nodes.values():
        node.around.profiles = {
            "n2": {"speed": 2.0},
            "n1": {"speed": 0.1},
            "n3": {"speed": 0.1},
            "home1": {"speed": 0.1},
        }
    job = started(nodes)
    assert mapping(job) == {"a": "n2", "b": "n2"}
    assert job.registers["a"].done_s == pytest.approx(1.0, abs=0.01)
    assert job.registers["b"].done_s == pytest.approx(2.5, abs=0.01)
    assert "best of" in job.registers["b"].why


def test_two_tasks_of_one_decider_do_not_pile_up_on_one_node():
    nodes = world({"a": ["b", "c", "d"], "b": [], "c": [], "d": []}, seconds={"b": 1.0, "c": 1.0, "d": 1.0})
    job = started(nodes)
    assert len({job.registers[task].node for task in "bcd"}) == 3


def test_a_second_job_goes_where_the_first_one_left_room():
    nodes = world({"a": []}, seconds={"a": 5.0})
    started(nodes)
    [first] = mapping(nodes["home1"].job).values()
    other = world({"a": []}, seconds={"a": 5.0}, id="job2")
    for me, node in other.items():
        node.bidding = nodes[me].bidding
    [second] = mapping(started(other)).values()
    assert second != first


def test_only_the_pinned_node_is_asked():
    tasks = task_specs({"a": []}, node="name-n3")
    nodes = world({"a": []}, tasks=tasks)
    effects = nodes["home1"].wave.step(0.0)
    assert [node for node, _ in sent(effects, BidsWanted)] == ["n3"]
    deliver(nodes, effects, "home1")
    assert mapping(nodes["home1"].job) == {"a": "n3"}


def test_a_node_that_takes_no_tasks_does_not_bid_though_it_is_asked():
    nodes = world({"a": []})
    for me in ("n1", "n2"):
        nodes[me].around.profiles = {me: {"draining": True}}
    assert mapping(started(nodes)) == {"a": "n3"}
    rows = {each.node: (each.cost_s is None, each.reasons) for each in nodes["home1"].wave.considered["a"]}
    assert rows.pop("name-n3")[0] is False
    assert rows == dict.fromkeys(["name-n1", "name-n2"], (True, ["no valid bid"]))


# --- faults and lies -----------------------------------------------------------------------------------------------


def test_who_never_answers_is_left_out_after_a_while():
    nodes = world({"a": []})
    assert started(nodes, deaf=("n1",)).registers == {}
    home = nodes["home1"].wave
    deliver(nodes, home.on_deadline(OFFERS_S), "home1", now=OFFERS_S, deaf=("n1",))
    assert mapping(nodes["home1"].job) in ({"a": "n2"}, {"a": "n3"})
    silent = [each.node for each in home.considered["a"] if each.reasons == ["no answer in time"]]
    assert silent == ["name-n1"]


def test_a_job_is_mapped_although_nobody_ever_bids():
    nodes = world(CHAIN)
    everybody = tuple(nodes)
    deliver(nodes, nodes["home1"].wave.step(0.0), "home1", deaf=everybody)
    home, now = nodes["home1"].wave, 0.0
    for _ in range(4 * SHORTLISTS):
        now = max(now + 0.01, home.next_deadline())
        home.on_deadline(now)
    assert "nobody bids" in nodes["home1"].job.registers["a"].why
    assert now < 2 + SHORTLISTS * 2 * OFFERS_S


def test_a_node_that_dies_with_a_grant_loses_it_to_the_next():
    nodes = world({"a": []})
    home = nodes["home1"]
    for node, message in sent(home.wave.step(0.0), BidsWanted):
        for _, answer in sent(nodes[node].bidding.on_wanted("home1", message, 0.0), Bids):
            granted = home.wave.on_bids(node, answer, 0.0)
    [(winner, _)] = sent(granted, BidsWanted)
    home.around.gone.add(winner)
    deliver(nodes, home.wave.step(0.1), "home1", now=0.1)
    assert mapping(home.job)["a"] not in (winner, "home1")


@pytest.mark.parametrize("lie", [Price(0.0, 0.0, 0.0, 0.0), Price(1.0, 5.0, 2.0, 0.0)])
def test_bids_that_cannot_be_true_win_nothing_and_are_counted(lie):
    nodes = world(CHAIN, seconds={"b": 1.0})
    n1 = nodes["n1"]
    n1.job.merge([msgspec.structs.replace(reg("a", "n1"), done_s=2.0)])
    effects = n1.wave.step(0.0)
    for node, message in sent(effects, BidsWanted):
        [(_, answer)] = sent(nodes[node].bidding.on_wanted("n1", message, 0.0), Bids)
        if node == "n2":
            answer = Bids("job1", [Offered("b", 1, lie)])
        effects = n1.wave.on_bids(node, answer, 0.0)
    deliver(nodes, effects, "n1")
    assert mapping(n1.job)["b"] != "n2"
    assert n1.wave.auctions.dropped >= 1


def test_an_answer_to_nothing_changes_nothing():
    nodes = world(CHAIN)
    n1 = nodes["n1"]
    n1.job.merge([reg("a", "n1")])
    n1.wave.step(0.0)
    bogus = Bids("job1", [Offered("zzz", 1, Price(0, 0, 0, 0)), Offered("b", 9, Price(0, 0, 0, 0))])
    assert n1.wave.on_bids("n2", bogus, 0.0) == []
    assert n1.wave.on_bids("stranger", Bids("job1", [Offered("b", 1, Price(0, 0, 0, 0))]), 0.0) == []


def test_who_takes_a_task_too_late_is_told_to_release_it_and_a_second_reply_of_the_host_is_not():
    nodes = world({"a": []})
    started(nodes)
    home = nodes["home1"]
    [winner] = mapping(home.job).values()
    late = Bids("job1", [], [Offered("a", 1, Price(1, 0, 1, 0), True)])
    other = next(node for node in ("n1", "n2", "n3") if node != winner)
    [(to, told)] = sent(home.wave.on_bids(other, late, 1.0), BidsWanted)
    assert (to, told.over) == (other, [("a", 1)])
    assert home.wave.on_bids(winner, late, 1.0) == []


def test_a_decider_that_lost_its_controller_task_takes_its_promises_back():
    nodes = world(CHAIN)
    n1 = nodes["n1"]
    n1.job.merge([reg("a", "n1")])
    for node, message in sent(n1.wave.step(0.0), BidsWanted):
        for _, answer in sent(nodes[node].bidding.on_wanted("n1", message, 0.0), Bids):
            granted = n1.wave.on_bids(node, answer, 0.0)
    [(winner, _)] = sent(granted, BidsWanted)
    n1.job.merge([reg("a", "n2", epoch=2)])
    [(to, told)] = sent(n1.wave.step(0.1), BidsWanted)
    assert (to, told.over) == (winner, [("b", 1)])
    assert n1.wave.auctions.next_deadline() == float("inf")


def test_a_less_urgent_task_waits_for_the_ones_of_others_but_not_for_long(monkeypatch):
    monkeypatch.setattr(wave_module, "WINDOW", 0.0)
    edges = {"a": ["b"], "x": ["y"], "b": [], "y": []}
    nodes = world(edges, seconds={"b": 1.0, "y": 9.0})
    n1 = nodes["n1"]
    n1.job.merge([reg("a", "n1"), reg("x", "n2")])
    assert sent(n1.wave.step(0.0), BidsWanted) == []
    assert n1.wave.next_deadline() <= TURN_WAIT_S
    assert sent(n1.wave.on_deadline(TURN_WAIT_S), BidsWanted)


# --- the desk ------------------------------------------------------------------------------------------------------


def wanted(task: str = "a", seconds: float = 1.0, job: str = "job1", **more: Any) -> BidsWanted:
    return BidsWanted(job, b"", **{kind: [Called(task, 1, seconds, [], limit)] for kind, limit in more.items()})


def cost(effects: list[Effect]) -> float:
    [(_, answer)] = sent(effects, Bids)
    [offer] = [*answer.offers, *answer.replies]
    assert offer.price is not None
    return offer.price.cost_s


def test_a_reservation_stays_while_a_register_names_this_node_and_goes_when_it_names_another():
    job = make_job(CHAIN, AUCTION)
    desk = Bidding(Around("n1"), {"job1": Hosting(job)})
    desk.on_wanted("n2", wanted(grants=None), 0.0)
    job.merge([reg("a", "n1")])
    for now in (3.0, 6.0, 9.0):
        desk.on_wanted("n2", wanted("b", calls=None), now)
    assert list(desk.bidder.held) == [("job1", "a", 1)]
    job.merge([reg("a", "n2", epoch=2)])
    desk.on_wanted("n2", wanted("b", calls=None), 10.0)
    assert not desk.bidder.held


def test_a_reservation_that_no_register_confirms_ends_with_its_lease():
    desk = Bidding(Around("n1"), {})
    desk.on_wanted("n2", wanted(seconds=50.0, grants=None), 0.0)
    assert cost(desk.on_wanted("n2", wanted("b", calls=None), 1.0)) == 51.0
    assert cost(desk.on_wanted("n2", wanted("b", calls=None), 1.0 + LEASE_S)) == 1.0


def test_a_task_that_is_told_to_run_elsewhere_frees_its_time():
    desk = Bidding(Around("n1"), {})
    desk.on_wanted("n2", wanted(seconds=50.0, grants=None), 0.0)
    assert desk.on_wanted("n2", BidsWanted("job1", b"", over=[("a", 1)]), 0.1) == []
    assert cost(desk.on_wanted("n2", wanted("b", calls=None), 0.2)) == 1.0


def test_hosted_pipelines_are_committed_load_once_their_time_in_the_plan_has_passed():
    job = make_job({"a": []}, AUCTION, seconds={"a": 2.0})
    desk = Bidding(Around("n1"), {"job1": Hosting(job)})
    desk.on_wanted("home1", wanted(seconds=2.0, grants=None), 0.0)
    job.merge([reg("a", "n1")])
    assert cost(desk.on_wanted("n2", wanted("x", 1.0, "job2", calls=None), 1.0)) == pytest.approx(2.0), "behind it"
    assert cost(desk.on_wanted("n2", wanted("x", 1.0, "job3", calls=None), 9.0)) == 3.0, "beside it"
    job.end("cancelled")
    assert cost(desk.on_wanted("n2", wanted("x", 1.0, "job4", calls=None), 9.0)) == 1.0


def test_who_asks_without_end_is_not_answered_for_a_while():
    desk = Bidding(Around("n1"), {})
    message = BidsWanted("job1", b"", [Called("a", 1, 1.0, [])] * 64)
    answers = [desk.on_wanted("n2", message, 0.0) for _ in range(int(BURST) // 64 + 3)]
    assert answers[0]
    assert not any(sent(answer, Bids) for answer in answers[-3:])
    assert [len(answer) for answer in answers[-3:]] == [1, 0, 0], "it is said once"
    assert desk.dropped
    assert desk.on_wanted("n3", message, 0.0)
    assert desk.on_wanted("n2", message, 1.0)


def test_who_knows_no_way_from_an_input_answers_without_an_offer():
    around = Around("n1")
    around.link = lambda peer: LinkEstimate(0.0, 0.0, 0, "estimated")  # type: ignore[method-assign]
    message = BidsWanted("job1", b"", [Called("a", 1, 1.0, [Wanted("n3", 0.0, 5)])])
    [(_, answer)] = sent(Bidding(around, {}).on_wanted("n2", message, 0.0), Bids)
    assert answer.offers == [Offered("a", 1, None)]


def test_a_node_that_promises_to_be_far_faster_than_it_says_of_itself_is_believed_in_part():
    nodes = world(CHAIN, seconds={"b": 10.0})
    n1 = nodes["n1"]
    n1.job.merge([reg("a", "n1")])
    for node, message in sent(n1.wave.step(0.0), BidsWanted):
        [(_, answer)] = sent(nodes[node].bidding.on_wanted("n1", message, 0.0), Bids)
        if node == "n2":
            answer = Bids("job1", [Offered("b", 1, Price(0.001, 0.0, 0.001, 0.0))])
        granted = n1.wave.on_bids(node, answer, 0.0)
    [(winner, message)] = sent(granted, BidsWanted)
    assert winner == "n2"
    n1.wave.on_bids("n2", Bids("job1", [], [Offered("b", 1, Price(0.001, 0.0, 0.001, 0.0), True)]), 0.0)
    assert n1.job.registers["b"].done_s == pytest.approx(1.0)
    assert n1.wave.auctions.dropped == 2


def test_a_node_that_bids_and_decides_loads_no_numpy():
    code = (
        "import sys; import jupiter_agent.core.peer, jupiter_agent.core.wave_auction, schedulers.bidding; "
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
