"""Settings: which layer wins, what is refused, and how the agent's own command ends."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from jupiter_agent.cli import agent_main
from jupiter_agent.config import Config, beacon_group, default_state_dir, load, parse_address, uses_mdns
from jupiter_agent.errors import JupiterError, UsageError


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('name = "file"\nprofile = "wan"\nbind = "127.0.0.1:1"\njoin = ["a:1", "b:2"]\n')
    env = {"JUPITER_NAME": "env", "JUPITER_PROFILE": "manet", "JUPITER_STATE_DIR": str(tmp_path)}
    config = load({"name": "flag", "profile": None, "join": None}, env, file)
    assert (config.name, config.profile, config.bind, config.http) == ("flag", "manet", "127.0.0.1:1", "")
    assert config.join == ("a:1", "b:2")
    assert config.state_dir == tmp_path


def test_a_drain_lasts_seconds_and_not_longer_than_a_day() -> None:
    assert load({}, {"JUPITER_DRAIN_S": "110"}).drain_s == 110.0
    for wrong in ("-1", "1e6", "nan", "long"):
        with pytest.raises(UsageError, match="JUPITER_DRAIN_S"):
            load({}, {"JUPITER_DRAIN_S": wrong})


def test_a_config_needs_nothing(tmp_path: Path) -> None:
    config = load({}, {"XDG_STATE_HOME": str(tmp_path)})
    assert config.name
    assert config.state_dir.name == "jupiter-agent"
    assert (config.bind, config.profile, config.log_level) == ("0.0.0.0:7421", "lan", "info")


def test_a_list_in_the_environment_has_commas_or_spaces() -> None:
    assert load({}, {"JUPITER_JOIN": "a:1, b:2 token"}).join == ("a:1", "b:2", "token")


def test_an_unknown_key_of_the_file_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('state-dir = "/x"\n')
    with pytest.raises(UsageError, match="unknown key 'state-dir'") as caught:
        load({}, {}, tmp_path / "agent.toml")
    assert caught.value.hint == "did you mean state_dir?"


@pytest.mark.parametrize("content", ["name = ", "name = 7", 'join = "\x00"', 'profile = "man"', "\xff"])
def test_a_wrong_file_is_a_usage_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "agent.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError):
        load({}, {}, tmp_path / "agent.toml")


@pytest.mark.parametrize("address", ["host:0", "two words:7000", "h:7\u0663"])
def test_what_others_could_not_dial_is_not_advertised(address: str) -> None:
    with pytest.raises(UsageError, match="advertise"):
        load({"advertise": address}, {})
    assert load({"advertise": "[fd00::1]:7421"}, {}).advertise == "[fd00::1]:7421"


def test_an_error_names_the_layer_it_is_in() -> None:
    with pytest.raises(UsageError, match="JUPITER_BIND: 'here' is not HOST:PORT"):
        load({}, {"JUPITER_BIND": "here"})
    with pytest.raises(UsageError, match="--name: 'a_b' is not a node name"):
        load({"name": "a_b"}, {})


@pytest.mark.parametrize("text", ["host:1", "10.0.0.1:65535", "[::1]:80", "h:0"])
def test_addresses_have_a_host_and_a_port(text: str) -> None:
    assert parse_address(text) == text


@pytest.mark.parametrize("text", ["", "host", ":1", "h:", "h:65536", "h:-1", "::1:80", "h:1x", "h:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.parametrize(
    ("flags", "env", "mdns", "beacon"),
    [
        ({}, {}, True, ""),
        ({"bind": "127.0.0.1:7000"}, {}, False, ""),
        ({"bind": "[::1]:7000", "profile": "manet"}, {}, False, ""),
        ({"bind": "127.0.0.1:7000", "mdns": "on", "beacon": "on"}, {}, True, "239.255.74.21:7423"),
        ({"mdns": "off"}, {}, False, ""),
        ({"profile": "manet"}, {}, False, "239.255.74.21:7423"),
        ({"profile": "manet", "beacon": "off"}, {}, False, ""),
        ({"beacon": "239.1.1.1:9"}, {}, True, "239.1.1.1:9"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False, ""),
    ],
)
def test_discovery_is_on_where_others_can_be_met(flags, env, mdns: bool, beacon: str) -> None:
    config = load(flags, env)
    assert (uses_mdns(config, env), beacon_group(config)) == (mdns, beacon)


@pytest.mark.parametrize("beacon", ["maybe", "10.0.0.1:7", "239.1.1.1", "239.1.1.1:0", "[ff02::1]:7"])
def test_a_beacon_needs_a_multicast_group_with_a_port(beacon: str) -> None:
    with pytest.raises(UsageError, match="--beacon"):
        load({"beacon": beacon}, {})


def test_the_state_folder_of_a_user_is_in_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_state_dir({"HOME": "/home/u"}) == Path("/home/u/.local/state/jupiter-agent")
    assert default_state_dir({"HOME": "/home/u", "XDG_STATE_HOME": "/s"}) == Path("/s/jupiter-agent")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.access", lambda *_: True)
    assert default_state_dir({"HOME": "/root"}) == Path("/var/lib/jupiter-agent")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Configs that an agent was started with, by an agent that does nothing."""
    configs: list[Config] = []
    module = ModuleType("jupiter_agent.agent")
    module.run_agent = configs.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jupiter_agent.agent", module)
    return configs


def test_run_starts_the_agent_with_its_flags(started: list[Config], tmp_path: Path) -> None:
    flags = ["--name", "n1", "--bind", "127.0.0.1:7000", "--join", "a:1", "--join", "t", "--state-dir", str(tmp_path)]
    assert agent_main.main(["run", *flags]) == 0
    (config,) = started
    assert (config.name, config.bind, config.join, config.state_dir) == ("n1", "127.0.0.1:7000", ("a:1", "t"), tmp_path)


@pytest.mark.parametrize(
    "arguments", [[], ["rnu"], ["run", "--nam", "x"], ["run", "--profile", "fast"], ["run", "--bind"]]
)
def test_wrong_arguments_of_the_agent_exit_2_with_error_and_hint(
    started: list[Config], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert agent_main.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert started == []


def test_an_agent_that_cannot_start_says_why_and_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("jupiter_agent.agent")

    def run_agent(config: Config) -> None:
        raise JupiterError("port 7000 is taken", "choose another with --bind")

    module.run_agent = run_agent  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jupiter_agent.agent", module)
    assert agent_main.main(["run"]) == 1
    assert capsys.readouterr().err == "error: port 7000 is taken\nhint: choose another with --bind\n"
