import pytest

from jupiter_agent.cli.kinds import _state


@pytest.mark.parametrize(
    ("state", "reachable", "shown"),
    [
        ("alive", True, "alive"),
        ("alive", False, "alive,unreachable"),
        ("alive", "via node3", "alive,via node3"),
        ("dead", False, "dead"),
    ],
)
def test_how_a_node_is_reached_stands_beside_its_state(state: str, reachable: bool | str, shown: str) -> None:
    assert _state({"state": state, "reachable": reachable}) == shown
