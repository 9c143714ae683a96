"""The DAG: order, edges, and carry sets against counting every path one by one."""

import collections
import itertools
import random
import time

import networkx as nx
import pytest

from jupiter_agent.core.dag import Dag, find_cycle
from jupiter_agent.core.messages.jobs import TaskSpec
from jupiter_agent.errors import UsageError


def make(**children: str) -> Dag:
    return Dag([TaskSpec(name, children=text.split()) for name, text in children.items()])


def random_dag(rng: random.Random, size: int) -> list[TaskSpec]:
    names = [f"t{i}" for i in range(size)]
    rng.shuffle(names)
    tasks = []
    for i, name in enumerate(names):
        later = names[i + 1 :]
        children = rng.sample(later, min(len(later), rng.choice([0, 1, 1, 2, 2, 3])))
        tasks.append(TaskSpec(name, children=[*children, "home"] if rng.random() < 0.15 else children))
    rng.shuffle(tasks)
    return tasks


def brute_force(tasks: list[TaskSpec], fed: set[str] = frozenset()) -> tuple[dict, dict]:
    """The same sets from the list of all paths; SOURCE and SINK are different vertices."""
    out = {t.name: [c if c != "home" else "SINK" for c in t.children] or ["SINK"] for t in tasks}
    has_parent = {c for children in out.values() for c in children}
    out["SOURCE"] = [name for name in out if name not in has_parent or name in fed]
    paths: collections.Counter = collections.Counter()

    def walk(start: str, at: str) -> None:
        paths[start, at] += 1
        for child in out.get(at, []):
            walk(start, child)

    for name in [*out, "SINK"]:
        walk(name, name)
    plain = {"SOURCE": "home", "SINK": "home"}
    carry, need = {}, {"home": frozenset()}
    for u, children in out.items():
        for v in children:
            travels = frozenset(
                plain.get(a, a)
                for a in out
                if paths[a, u] and any(paths[v, w] and paths[a, w] > 1 for w in [*out, "SINK"])
            )
            carry[plain.get(u, u), plain.get(v, v)] = travels
            if u != "SOURCE":
                need[u] = need.get(u, frozenset()) | travels - {u}
    return carry, need


def test_a_chain_carries_no_stamps() -> None:
    dag = make(a="b", b="c", c="home")
    assert set(dag.carry.values()) == {frozenset()}
    assert dag.order == ["a", "b", "c"]
    assert (dag.entries, dag.sinks) == (["a"], ["c"])


def test_a_diamond_carries_its_top_and_source_on_to_home_but_not_its_arms() -> None:
    dag = make(top="left right", left="join", right="join", join="home")
    assert dag.carry["left", "join"] == {"home", "top"}
    assert dag.carry["join", "home"] == {"home", "top"}
    assert dag.carry["home", "top"] == {"home"}
    assert dag.need["left"] == dag.need["join"] == {"home", "top"}
    assert dag.need["top"] == {"home"}


def test_a_fan_joins_at_home() -> None:
    dag = make(top="one two", one="home", two="")
    assert dag.sinks == ["one", "two"]
    assert dag.carry["one", "home"] == dag.carry["two", "home"] == {"home", "top"}


def test_two_entries_meet_at_home_so_the_source_is_carried_all_the_way() -> None:
    dag = make(a="home", b="c", c="home")
    assert set(dag.carry.values()) == {frozenset({"home"})}
    assert dag.in_edges("home") == ["a", "c"]
    assert dag.out_edges("home") == ["a", "b"]


def test_a_task_that_feeds_home_early_is_carried_by_what_follows_it() -> None:
    dag = make(a="home b", b="home")
    assert dag.carry["a", "home"] == {"home", "a"}
    assert dag.carry["b", "home"] == {"home", "a"}
    assert dag.need["a"] == {"home"}


def test_carry_sets_equal_the_ones_counted_path_by_path() -> None:
    rng = random.Random(7)
    for _ in range(300):
        tasks = random_dag(rng, rng.randint(1, 9))
        dag, (carry, need) = Dag(tasks), brute_force(tasks)
        assert dag.carry == carry
        assert dag.need == need


def test_carry_sets_count_the_paths_of_what_home_feeds_besides() -> None:
    rng = random.Random(8)
    for _ in range(300):
        tasks = random_dag(rng, rng.randint(1, 8))
        names = [t.name for t in tasks]
        entries = rng.sample(names, rng.randint(0, len(names)))
        fed = rng.sample(names, rng.randint(0, min(2, len(names))))
        dag, (carry, need) = Dag(tasks, entries, fed), brute_force(tasks, {*entries, *fed})
        assert dag.carry == carry
        assert dag.need == need
        assert all((v in dag.out_edges(u)) for u, v in carry)
        assert {u for u, v in carry if v == "home"} == set(dag.in_edges("home"))
        assert all(set(dag.in_edges(v)) == {u for u, w in carry if w == v} for v in names)


def test_named_entries_get_items_and_other_sources_tokens() -> None:
    tasks = [TaskSpec("a", children=["c"]), TaskSpec("b", children=["c"]), TaskSpec("c"), TaskSpec("d")]
    dag = Dag(tasks, entries=["c", "a"], fed=["d", "c"])
    assert dag.entries == ["a", "c"]
    assert dag.sources == dag.out_edges("home") == ["a", "b", "c", "d"]
    assert dag.unreachable == ["b"]
    assert dag.in_edges("c") == ["a", "b", "home"]
    assert dag.in_edges("b") == ["home"]
    assert dag.parents("c") == ["a", "b"]
    assert dag.carry["home", "c"] == {"home"}


def test_without_named_entries_every_task_without_a_parent_is_one() -> None:
    dag = Dag([TaskSpec("a", children=["c"]), TaskSpec("b"), TaskSpec("c")], fed=["c"])
    assert (dag.entries, dag.sources, dag.unreachable) == (["a", "b"], ["a", "b", "c"], [])
    dag = Dag([TaskSpec("a", children=["c"]), TaskSpec("b"), TaskSpec("c")], entries=[])
    assert (dag.entries, dag.sources, dag.unreachable) == ([], ["a", "b"], ["a", "b"])


def test_home_feeds_known_tasks_only() -> None:
    for given in ({"entries": ["x"]}, {"fed": ["x"]}):
        with pytest.raises(UsageError, match="home feeds the unknown task 'x'"):
            Dag([TaskSpec("a")], **given)


def test_order_is_topological_and_ties_follow_the_file() -> None:
    rng = random.Random(3)
    for _ in range(100):
        tasks = random_dag(rng, rng.randint(1, 30))
        graph = nx.DiGraph()
        graph.add_nodes_from(t.name for t in tasks)
        graph.add_edges_from((t.name, c) for t in tasks for c in t.children if c != "home")
        place = {t.name: i for i, t in enumerate(tasks)}
        assert Dag(tasks).order == list(nx.lexicographical_topological_sort(graph, key=place.__getitem__))


def test_parents_come_in_file_order_and_children_as_written() -> None:
    dag = make(z="join", a="join home b", b="join", join="")
    assert dag.parents("join") == ["z", "a", "b"]
    assert dag.children("a") == ["join", "b"]
    assert dag.out_edges("a") == ["join", "home", "b"]
    assert dag.out_edges("join") == ["home"]
    assert (dag.in_edges("z"), dag.in_edges("b")) == (["home"], ["a"])


def test_a_cycle_is_refused_and_printed() -> None:
    with pytest.raises(UsageError, match="b -> c -> b"):
        make(a="b", b="c", c="b home")
    with pytest.raises(UsageError, match="a -> a"):
        make(a="a")


def test_unknown_children_and_taken_names_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown child 'x'"):
        make(a="x")
    with pytest.raises(UsageError, match="'home' is taken"):
        make(home="a", a="")
    with pytest.raises(UsageError, match="'a' is taken"):
        Dag([TaskSpec("a"), TaskSpec("a")])


def test_a_cycle_is_found_exactly_when_networkx_finds_one() -> None:
    rng = random.Random(11)
    for _ in range(300):
        names = range(rng.randint(1, 7))
        edges = [p for p in itertools.product(names, names) if rng.random() < 0.15]
        found = find_cycle({str(a): [str(v) for u, v in edges if u == a] for a in names})
        assert bool(found) == (not nx.is_directed_acyclic_graph(nx.DiGraph(edges)))
        assert all((int(a), int(b)) in edges for a, b in itertools.pairwise(found))
        assert not found or found[0] == found[-1]


def test_upward_ranks_count_the_way_home() -> None:
    dag = make(a="b c", b="home", c="")
    ranks = dag.upward_ranks({"a": 1.0, "b": 2.0, "c": 4.0}, {"a>b": 1000, "b>home": 500, "c>home": 0}, 0.1, 0.001)
    assert ranks["b"] == pytest.approx(2.0 + 0.1 + 0.5)
    assert ranks["c"] == pytest.approx(4.1)
    assert ranks["a"] == pytest.approx(1.0 + max(0.1 + 1.0 + 2.6, 0.1 + 4.1))


@pytest.mark.parametrize("degree", [3, 40])
def test_two_hundred_tasks_take_less_than_fifty_milliseconds(degree: int) -> None:
    rng = random.Random(1)
    tasks = [
        TaskSpec(f"t{i}", children=[f"t{j}" for j in sorted(rng.sample(range(i + 1, 200), min(degree, 199 - i)))])
        for i in range(200)
    ]
    best = min(_timed(tasks) for _ in range(5))
    assert best < 0.05, f"{best * 1000:.1f} ms"


def _timed(tasks: list[TaskSpec]) -> float:
    start = time.process_time()
    Dag(tasks)
    return time.process_time() - start


def test_a_chain_of_five_thousand_tasks_is_no_recursion() -> None:
    assert len(Dag([TaskSpec(f"t{i}", children=[f"t{i + 1}"] if i < 4999 else []) for i in range(5000)]).order) == 5000
