"""What the settings say of an agent's place: whom it joins, where others reach it, how it finds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jupiter_agent.adapters.discovery import Sources
from jupiter_agent.adapters.keys import Token, decode_token, is_token
from jupiter_agent.adapters.pod import Account
from jupiter_agent.adapters.state import StateDir, has_cluster, set_aside
from jupiter_agent.config import Config, beacon_group, parse_address, uses_mdns
from jupiter_agent.errors import UsageError

if TYPE_CHECKING:
    from jupiter_agent.adapters.kube_node import HostNode


def joins(config: Config) -> tuple[Token | None, list[str]]:
    """The token among `--join` and `--token-file` (at most one cluster's), and the plain addresses."""
    given = list(config.join)
    if config.token_file:
        try:
            given.append(Path(config.token_file).read_text().strip())
        except OSError as error:
            raise UsageError(f"cannot read the token file {config.token_file}: {error.strerror}") from error
    tokens = [decode_token(each) for each in given if is_token(each)]
    if len({(token.join_secret, token.secret) for token in tokens}) > 1:
        raise UsageError("the tokens are of different clusters", "give one")
    try:
        addresses = [parse_address(each) for each in given if not is_token(each)]
    except ValueError as error:
        raise UsageError(f"--join: {error}, and no token either", "`jupiter ctl token` prints a cluster's") from None
    if addresses and not tokens and not has_cluster(config.state_dir):
        raise UsageError(
            f"--join {addresses[0]}: an address is enough only for a node that holds its cluster's secret",
            "give the token the first time: --join TOKEN, or JUPITER_TOKEN_FILE=FILE",
        )
    return (tokens[0] if tokens else None), addresses


def open_state(config: Config) -> StateDir:
    """The state folder; one of another cluster than the token is set aside before, where the settings say so."""
    token = joins(config)[0] if config.foreign_state == "aside" else None
    aside = set_aside(config.state_dir, token.fingerprint) if token else None
    state = StateDir(config.state_dir)
    if aside:
        what = "of another cluster than the token" if has_cluster(aside) else "what is left of one that was removed"
        state.notices.append(f"{config.state_dir} was {what}; that is {aside} now")
    return state


def advertised(config: Config, bound: str) -> str:
    """The address others reach this agent at: as told, else as bound; of a wildcard the host's own address."""
    if config.advertise:
        return config.advertise
    host, _, port = bound.rpartition(":")
    if host in ("0.0.0.0", "[::]", "*"):
        host = own_address()
    return f"{host}:{port}"


def own_address() -> str:
    """The address this host would use towards others; loopback when it has no route."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: a route is looked up
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def sources(config: Config, env: Mapping[str, str]) -> Sources:
    """Which sources of discovery are switched on."""
    return Sources(uses_mdns(config, env), beacon_group(config), account(config, env))


def account(config: Config, env: Mapping[str, str]) -> Account | None:
    """Of the pod that this agent runs in."""
    return Account.of_pod(env, config.service_account) if config.service_account != Path() else None


def host_node(config: Config, env: Mapping[str, str]) -> HostNode | None:
    """What is known of the machine below this pod. Imported here: only pods have a use for it."""
    found = account(config, env)
    if found is None:
        return None
    from jupiter_agent.adapters.kube_node import HostNode

    return HostNode(found)
