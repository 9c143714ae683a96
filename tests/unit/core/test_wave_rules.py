"""The rule of a third party decides, or does not: then the greedy one does, and says why. Literal time."""

from job_rig import CHAIN, Around, make_job, of_type, place, reg, sent

from jupiter_agent.core.effects import ChooseNode, Notice
from jupiter_agent.core.events import NodeChosen
from jupiter_agent.core.messages.jobs import Award
from jupiter_agent.core.wave import Wave
from jupiter_agent.core.wave_rules import ANSWER_S


def controller(mapper: str = "wave-rule:mine", me: str = "n1") -> Wave:
    """n1 hosts `a`, and so decides on `b`."""
    around = Around(me)
    job = place(make_job(CHAIN, mapper, seconds={"b": 1.0}, edge_bytes={"a>b": 5}), a="n1")
    return Wave(job, around, 0.0)


def chosen(node: str, error: str = "", task: str = "b") -> NodeChosen:
    return NodeChosen("job1", task, node, error)


def place_of(wave: Wave) -> tuple[str, str]:
    register = wave._job.registers["b"]
    return register.node, register.why


def test_the_rule_is_asked_once_with_what_this_node_knows():
    wave = controller()
    [asked] = of_type(wave.step(0.0), ChooseNode)
    assert (asked.task, asked.rule, asked.view["here"]) == ("b", "mine", "name-n1")
    assert [node[0] for node in asked.view["nodes"]] == ["name-home1", "name-n1", "name-n2", "name-n3"]
    assert asked.view["inputs"] == [["a", "name-n1", 5.0]]
    assert wave.step(1.0) == []


def test_its_choice_is_written_and_told():
    wave = controller()
    wave.step(0.0)
    effects = wave.on_chosen(chosen("name-n3"), 1.0)
    assert place_of(wave) == ("n3", "rule mine, of 4 nodes")
    assert [to for to, _ in sent(effects, Award)] == ["n3"]


def test_an_error_nonsense_or_a_node_that_left_means_that_the_greedy_rule_decides_and_says_so():
    for event, said in (
        (chosen("", "RuntimeError: no idea"), "rule mine failed: RuntimeError: no idea; lowest cost"),
        (chosen("mars"), "rule mine failed: it chose 'mars', which is none of the nodes; lowest cost"),
        (chosen("name-n2"), "rule mine failed: its node left; lowest cost"),
    ):
        wave = controller()
        wave.step(0.0)
        wave._around.gone.add("n2")
        effects = wave.on_chosen(event, 1.0)
        assert place_of(wave)[1].startswith(said)
        assert next(notice.event for notice in of_type(effects, Notice)) == "rule failed"


def test_an_answer_that_never_comes_is_not_waited_for_for_ever():
    wave = controller()
    wave.step(0.0)
    assert wave.next_deadline() <= ANSWER_S
    wave.on_deadline(ANSWER_S - 1.0)
    assert "b" not in wave._job.registers
    wave.on_deadline(ANSWER_S)
    assert place_of(wave)[1].startswith("rule mine failed: no answer; lowest cost")


def test_late_double_and_unasked_answers_change_nothing():
    wave = controller()
    assert wave.on_chosen(chosen("name-n3"), 0.0) == []
    wave.step(0.0)
    wave._job.merge([reg("b", "n2")])
    wave.on_chosen(chosen("name-n3"), 1.0)
    assert place_of(wave)[0] == "n2"
    assert wave.on_chosen(chosen("name-n3"), 2.0) == []


def test_a_lost_host_is_replaced_at_once_without_asking():
    wave = controller()
    wave._job.merge([reg("b", "n2")])
    wave._around.gone.add("n2")
    effects = wave.step(1.0)
    assert of_type(effects, ChooseNode) == []
    assert place_of(wave)[1].startswith("name-n2 is gone; lowest cost")
