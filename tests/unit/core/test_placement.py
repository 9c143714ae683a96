from job_rig import CHAIN, DIAMOND, VERSION, Around, make_job, of_type, sent

from jupiter_agent.core.effects import Solve
from jupiter_agent.core.estimate import PRIOR_BANDWIDTH_BPS, PRIOR_LATENCY_S
from jupiter_agent.core.events import Solved
from jupiter_agent.core.messages.links import Links, LinksWanted
from jupiter_agent.core.placement import PULL_S, Placement

Row = dict[str, tuple[float, float, int]]


def placement(around: Around, own: Row | None = None, **spec: object) -> Placement:
    return Placement(make_job(spec.pop("edges", CHAIN), "heft", **spec), around, own or {}, 7)


def test_every_other_node_is_asked_for_its_links_and_the_last_answer_solves():
    around = Around("home1")
    machine = placement(around)
    asked = sent(machine.begin(0.0), LinksWanted)
    assert [node for node, _ in asked] == ["n1", "n2", "n3"]
    assert machine.on_links("n1", Links(7, {}), 0.1) == []
    assert machine.on_links("n1", Links(7, {}), 0.1) == [], "twice is once"
    assert machine.on_links("n2", Links(6, {}), 0.1) == [], "of an earlier question"
    machine.on_links("n2", Links(7, {}), 0.1)
    [solve] = of_type(machine.on_links("n3", Links(7, {}), 0.2), Solve)
    assert (solve.job, solve.mapper, solve.seed) == ("job1", "heft", 1)


def test_who_does_not_answer_in_time_is_not_waited_for_and_does_not_solve_again():
    around = Around("home1")
    machine = placement(around)
    machine.begin(1.0)
    assert machine.next_deadline() == 1.0 + PULL_S
    assert machine.on_deadline(1.2) == []
    assert len(of_type(machine.on_deadline(1.0 + PULL_S), Solve)) == 1
    for node in ("n1", "n2", "n3"):
        assert machine.on_links(node, Links(7, {}), 2.0) == []


def test_a_node_alone_solves_at_once():
    assert of_type(placement(Around("home1", ())).begin(0.0), Solve)


def test_draining_nodes_get_nothing():
    around = Around("home1")
    around.profiles = {"n2": {"draining": True}}
    machine = placement(around)
    machine.begin(0.0)
    assert machine.nodes == ["home1", "n1", "n3"]


def test_the_problem_has_home_pinned_at_both_ends():
    machine = placement(Around("home1"), edges=DIAMOND, seconds={"a": 2.0}, edge_bytes={"home>a": 5, "a>b": 7})
    machine.begin(0.0)
    problem = machine.problem()
    assert problem["pinned"] == {4: 0, 5: 0}
    assert problem["edges"] == [(4, 0, 5), (0, 1, 7), (0, 2, 7), (1, 3, 7), (2, 3, 7), (3, 5, 7)]
    times = problem["times"]
    assert times[0] == [2.0] * 4
    assert times[4] == times[5] == [0.0] * 4


def test_inputs_come_from_where_they_are_put_and_results_go_home():
    edges = {"a": ["c"], "b": ["c"], "c": []}
    sizes = {"home>a": 5, "home>b": 6}
    machine = placement(Around("home1"), edges=edges, input_at={"b": "n2"}, edge_bytes=sizes)
    machine.begin(0.0)
    problem = machine.problem()
    assert problem["pinned"] == {3: 0, 4: 2, 5: 0}
    assert problem["edges"][:3] == [(3, 0, 5), (0, 2, 5), (4, 1, 6)]
    assert len(problem["times"]) == len(problem["allowed"]) == 6
    machine.job.inputs["b"] = ("n3", 70)
    problem = machine.problem()
    assert (problem["pinned"], problem["edges"][2]) == ({3: 0, 4: 3, 5: 0}, (4, 1, 70)), "what was seen counts more"


def test_inputs_of_a_node_that_is_gone_are_at_home():
    machine = placement(Around("home1"), input_at={"a": "n9"})
    machine.begin(0.0)
    problem = machine.problem()
    assert (problem["pinned"], problem["edges"][0]) == ({2: 0, 3: 0}, (2, 0, 0))


def test_times_follow_the_speeds():
    around = Around("home1")
    around.profiles = {"n1": {"speed": 4.0}}
    machine = placement(around, seconds={"a": 2.0})
    machine.begin(0.0)
    assert machine.problem()["times"][0] == [2.0, 0.5, 2.0, 2.0]


def test_links_count_both_ways_and_unmeasured_ones_are_the_median_never_zero():
    around = Around("home1", ("n1", "n2"))
    machine = placement(around, {"n1": (0.010, 1000.0, 3), "n2": (0.030, 0.0, 1)})
    machine.begin(0.0)
    machine.on_links("n1", Links(7, {}), 0.1)
    problem = machine.problem()
    latency, inv_rate = problem["latency"], problem["inv_rate"]
    assert latency[0] == [0.0, 0.010, 0.030]
    assert latency[1] == [0.010, 0.0, 0.020]
    assert inv_rate[0] == [0.0, 1 / 1000, 1 / 1000], "no bandwidth measured: the usual one"
    assert [inv_rate[i][i] for i in range(3)] == [0.0] * 3


def test_without_any_measurement_there_is_a_prior():
    machine = placement(Around("home1", ("n1",)))
    machine.begin(0.0)
    problem = machine.problem()
    assert problem["latency"][0][1] == PRIOR_LATENCY_S
    assert problem["inv_rate"][0][1] == 1 / PRIOR_BANDWIDTH_BPS


def test_the_solution_names_nodes_and_explain_has_the_fastest_first():
    around = Around("home1")
    around.profiles = {"n2": {"speed": 2.0}}
    machine = placement(around)
    machine.begin(0.0)
    assert machine.on_solved(Solved("job1", [1, 3, 0, 0], [], [], 0.1)) == {"a": "n1", "b": "n3"}
    rows = machine.considered()
    assert (rows["a"][0].node, rows["a"][0].cost_s) == ("name-n2", 0.5)
    assert VERSION.writer == "home1"
