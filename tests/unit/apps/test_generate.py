"""The generator of dummy applications: shapes as asked for, the same bytes again, results that hold."""

import hashlib
from pathlib import Path

import networkx as nx
import pytest
from app_evaluation import evaluate

from jupiter_agent.adapters.bundle import check_folder
from jupiter_agent.apps.generate import generated
from jupiter_agent.apps.lint import lint
from jupiter_agent.apps.shape import MIN_EDGE, Graph, Shape, draw, read_shape
from jupiter_agent.apps.templates import write_app
from jupiter_agent.errors import UsageError

QUICK = Shape(total_num=30, comp_mu=0.001, comp_sigma=0.0002, rate=1e7, items=2)


def graph_of(shape: Shape) -> nx.DiGraph:
    graph = nx.DiGraph()
    found = draw(shape)
    graph.add_nodes_from(range(len(found.seconds)))
    graph.add_edges_from(found.edges)
    return graph


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("total", [3, 30, 117, 200])
def test_a_graph_has_one_entry_one_exit_and_as_many_tasks_as_asked_for(total: int, seed: int) -> None:
    graph = graph_of(Shape(total_num=total, seed=seed))
    assert len(graph) == total
    assert nx.is_directed_acyclic_graph(graph)
    assert [v for v in graph if not graph.in_degree(v)] == [0]
    assert [v for v in graph if not graph.out_degree(v)] == [total - 1]


@pytest.mark.parametrize(("depth", "total"), [(3, 30), (8, 30), (8, None), (30, 200), (30, 30), (1, None), (2, 2)])
def test_depth_is_the_longest_path_when_every_level_has_a_task(depth: int, total: int | None) -> None:
    shape = Shape(depth=depth, total_num=total, seed=4)
    assert len(draw(shape).levels) == depth
    assert nx.dag_longest_path_length(graph_of(shape)) == depth - 1


@pytest.mark.parametrize("seed", range(10))
def test_inner_levels_keep_their_widths(seed: int) -> None:
    levels = draw(Shape(depth=12, width_min=2, width_max=6, total_num=50, seed=seed)).levels
    assert [len(levels[0]), len(levels[-1]), sum(map(len, levels))] == [1, 1, 50]
    assert all(2 <= len(level) <= 6 for level in levels[1:-1])


@pytest.mark.parametrize("ccr", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("total", [30, 200])
def test_the_realised_ccr_is_within_ten_percent(total: int, ccr: float) -> None:
    for seed in range(5):
        shape = Shape(total_num=total, ccr=ccr, link_comm_sigma=0.8, deg_mu=3, seed=seed)
        graph = draw(shape)
        compute, transfer = sum(graph.seconds), sum(graph.edges.values()) / shape.rate
        assert transfer / compute == pytest.approx(ccr, rel=0.1)
        assert min(graph.edges.values()) >= MIN_EDGE


def test_a_ccr_out_of_reach_is_refused_and_none_is_as_little_as_can_be() -> None:
    with pytest.raises(UsageError, match="ccr 1e-06 is out of reach"):
        draw(Shape(ccr=1e-6))
    assert set(draw(Shape(ccr=0)).edges.values()) == {MIN_EDGE}
    with pytest.raises(UsageError, match="an item would move"):
        draw(Shape(ccr=1e5))


def test_seconds_and_children_follow_their_means() -> None:
    graph = draw(
        Shape(total_num=2000, width_min=20, width_max=40, ccr=0.1, deg_mu=3, comp_mu=0.5, comp_sigma=0.1, seed=2)
    )
    assert sum(graph.seconds) / 2000 == pytest.approx(0.5, rel=0.02)
    assert len(graph.edges) / 2000 == pytest.approx(3, rel=0.1)
    assert min(graph.seconds) >= 0.5 / 20


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (Shape(depth=5, width_max=3, total_num=30), "30 tasks do not fit: 3 inner levels of"),
        (Shape(depth=30, total_num=10), "10 tasks do not fit"),
        (Shape(depth=5, width_min=9, total_num=20), "20 tasks do not fit"),
        (Shape(width_min=5, width_max=3), "width-min 5 is above width-max 3"),
        (Shape(depth=2, total_num=3), "3 tasks do not fit: depth 2 has 2"),
        (Shape(depth=5, total_num=2), "2 tasks make no 5 levels"),
    ],
)
def test_a_shape_that_no_graph_has_is_refused(shape: Shape, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        draw(shape)
    assert caught.value.hint


@pytest.mark.parametrize("contract", ["native", "v5", "v4"])
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(contract: str) -> None:
    shape = QUICK._replace(contract=contract)
    assert generated(shape, "x").files == generated(shape, "x").files
    assert generated(shape, "x").files != generated(shape._replace(seed=1), "x").files


def test_a_seed_means_the_same_graph_on_any_machine() -> None:
    assert hashlib.sha256(repr(draw(QUICK)).encode()).hexdigest()[:8] == "94a4a593"


@pytest.mark.parametrize("work", ["sleep", "spin"])
@pytest.mark.parametrize("contract", ["native", "v5", "v4"])
def test_an_app_passes_lint_and_gives_the_results_it_expects(tmp_path: Path, contract: str, work: str) -> None:
    folder = tmp_path / "app"
    write_app(folder, generated(QUICK._replace(contract=contract, work=work), "app").files)
    assert lint(folder) == []
    assert (len(check_folder(folder).tasks), len(check_folder(folder).samples)) == (30, 2)
    expected = {p.relative_to(folder / "expected").as_posix(): p.read_bytes() for p in folder.glob("expected/*/*/*")}
    assert evaluate(folder, tmp_path / "scratch") == expected
    assert len(expected) == 2


def test_edges_carry_what_was_drawn(tmp_path: Path) -> None:
    graph: Graph = draw(QUICK)
    made = generated(QUICK, "app")
    assert made.facts["bytes"] == sum(graph.edges.values())
    assert made.facts["ccr"] == pytest.approx(0.5, rel=0.1)
    assert f"{made.facts['ccr']:.4f}" in made.files["README.md"].decode()


# --- SPEC.yaml and flags -------------------------------------------------------------------------------------


def test_flags_win_over_the_file_and_sections_count_as_if_their_keys_stood_at_the_top(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("depth: 6\ngraph:\n  width_min: 2\n  deg_mu: 1.5\nccr: 2\nseed: 9\ncontract: v4\n")
    shape = read_shape(spec, {"seed": 3, "work": "spin"})
    assert shape == Shape(depth=6, width_min=2, deg_mu=1.5, ccr=2.0, seed=3, contract="v4", work="spin")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("depth: 6\nwidht_min: 2\n", r"spec.yaml:2: unknown key 'widht_min'"),
        ("ccr: much\n", r"spec.yaml:1: ccr must be a number from 0"),
        ("\ntotal_num: 2.5\n", r"spec.yaml:2: total_num must be a whole number"),
        ("comp_mu: 0\n", r"spec.yaml:1: comp_mu must be a number"),
        ("ccr: .nan\n", r"spec.yaml:1: ccr must be a number"),
        ("contract: v6\n", r"spec.yaml:1: contract 'v6' is unknown"),
        ("- a\n", r"spec.yaml:1: the file must be a mapping"),
    ],
)
def test_a_mistake_in_the_file_is_refused_with_its_line(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(UsageError, match=what) as caught:
        read_shape(tmp_path / "spec.yaml", {})
    assert caught.value.hint


def test_a_flag_out_of_range_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--deg-mu: deg_mu must be a number"):
        read_shape(None, {"deg_mu": -1.0})
    with pytest.raises(UsageError, match="No such file"):
        read_shape(tmp_path / "none.yaml", {})
