"""One frozen Config for an agent: defaults < TOML file (`--config`) < JUPITER_* environment < flags.

Every setting has one name in all places: `state_dir` in the file, `JUPITER_STATE_DIR`, `--state-dir`. An unknown key of
the file is an error. The state folder is /var/lib/jupiter-agent for root where /var/lib is writable, else
$XDG_STATE_HOME/jupiter-agent, else ~/.local/state/jupiter-agent.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jupiter_agent.core.ids import is_node_name
from jupiter_agent.errors import UsageError

DEFAULT_BIND = "0.0.0.0:7421"
"""An agent listens on this port and the next one, both below 32768: the kernel never lends them to clients."""

PROFILES = ("lan", "wan", "manet")
ISOLATION = ("auto", "bwrap", "none")
MAX_LABELS = 32
SWITCH = ("auto", "on", "off")
DEFAULT_DRAIN_S, MOST_DRAIN_S = 5.0, 86400.0
DEFAULT_BEACON = "239.255.74.21:7423"
"""A group of the range that networks keep to themselves"""
DEFAULT_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts it"""
LOG_LEVELS = ("debug", "info", "warning", "error")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a word that is none of the known ones."""
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def parse_address(text: str) -> str:
    """HOST:PORT as given, or ValueError; an IPv6 host is written in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r}: an IPv6 address needs brackets, [{host}]:{port}")
    return text


def default_state_dir(env: Mapping[str, str]) -> Path:
    """Where this user's agent keeps its state unless told otherwise."""
    if os.geteuid() == 0 and os.access("/var/lib", os.W_OK):
        return Path("/var/lib/jupiter-agent")
    base = env.get("XDG_STATE_HOME") or Path(env.get("HOME") or "~").expanduser() / ".local" / "state"
    return Path(base) / "jupiter-agent"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    return value


def _optional_address(value: Any) -> str:
    return parse_address(_text(value)) if value else ""


def _advertised(value: Any) -> str:
    """As others take it in a record."""
    address = _optional_address(value)
    if address:
        from jupiter_agent.core.trust import is_address  # not at every start

        if not is_address(address):
            raise ValueError(f"{value!r} is no address that others can dial")
    return address


def _name(value: Any) -> str:
    if _text(value) and not is_node_name(value):
        raise ValueError(f"{value!r} is not a node name: letters, digits, '.' and '-', at most 63")
    return str(value)


def _folder(value: Any) -> Path:
    return Path(value).expanduser().absolute()


def _folder_or_none(value: Any) -> Path:
    return Path() if value in ("", "off") else _folder(value)


def _list(value: Any) -> tuple[str, ...]:
    """A list of strings, or one string with commas or spaces between (the environment)."""
    parts = re.split(r"[,\s]+", value) if isinstance(value, str) else value
    return tuple(_text(part) for part in parts if part)


def _folders(value: Any) -> tuple[Path, ...]:
    return tuple(map(_folder, _list(value)))


def parse_reserve(text: Any) -> int | float | None:
    """Disk to be kept free: '512M' or '2G' as bytes, '5%' as a share, '' as None. ValueError for anything else."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([KMG%]|)", str(text).strip().removesuffix("iB"))
    if match is None or (match[2] == "%" and float(match[1]) > 90):
        raise ValueError(f"{text!r} is neither a size as 512M nor a share as 5%")
    if match[2] == "%":
        return float(match[1]) / 100
    return int(float(match[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[match[2]])


def _reserve(value: Any) -> str:
    parse_reserve(value)
    return str(value)


def _labels(value: Any) -> tuple[str, ...]:
    """Pairs KEY=VALUE; a table of them in the file will do as well."""
    pairs = [f"{key}={text}" for key, text in value.items()] if isinstance(value, Mapping) else _list(value)
    for pair in pairs:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}=[A-Za-z0-9._/-]{0,63}", pair):
            raise ValueError(f"{pair!r} is not KEY=VALUE of letters, digits, '.', '_', '/' and '-'")
    if len(pairs) > MAX_LABELS:
        raise ValueError(f"more than {MAX_LABELS} labels")
    return tuple(pairs)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not 0 <= float(value) <= MOST_DRAIN_S:
        raise ValueError(f"{value!r} is no number of seconds up to {MOST_DRAIN_S:g}")
    return float(value)


def _one_of(known: tuple[str, ...]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
        return str(value)

    return parse


def _beacon(value: Any) -> str:
    """GROUP:PORT, or one of `SWITCH`."""
    if value in SWITCH:
        return str(value)
    host, _, port = parse_address(_text(value)).rpartition(":")
    try:
        multicast = ipaddress.IPv4Address(host).is_multicast
    except ValueError:
        multicast = False
    if not multicast or not int(port):
        raise ValueError(f"{value!r} is no IPv4 multicast group with a port, as {DEFAULT_BEACON}")
    return str(value)


def _setting(parse: Callable[[Any], Any], metavar: str, text: str, default: Any = "") -> Any:
    return field(default=default, metadata={"parse": parse, "metavar": metavar, "help": text})


@dataclass(frozen=True)
class Config:
    """What one agent was told. Addresses are HOST:PORT or ''; the agent uses PORT and PORT+1."""

    name: str = _setting(_name, "N", "name of this node (default: the host's)")
    bind: str = _setting(_optional_address, "HOST:PORT", f"where to listen (default {DEFAULT_BIND})", DEFAULT_BIND)
    advertise: str = _setting(_advertised, "HOST:PORT", "the address others reach this agent at")
    state_dir: Path = _setting(_folder, "DIR", "keys, journal and objects of this agent", Path())  # noqa: RUF009 - it is a field()
    foreign_state: str = _setting(
        _one_of(("refuse", "aside")),
        "refuse|aside",
        "what to do with a DIR of another cluster than the token's",
        "refuse",
    )
    join: tuple[str, ...] = _setting(_list, "TOKEN|HOST:PORT", "whom to join; may be given more than once", ())
    profile: str = _setting(_one_of(PROFILES), "|".join(PROFILES), "timing and byte budgets (default lan)", "lan")
    http: str = _setting(_optional_address, "HOST:PORT", "serve health and metrics here (default: off)")
    http_token: str = _setting(_text, "TOKEN", "bearer token that lets other machines read health and metrics")
    open_health: str = _setting(
        _one_of(("on", "off")), "on|off", "show other machines whether it is healthy and ready, without a token", "off"
    )
    drain_s: float = _setting(
        _seconds, "SECONDS", "how long a stop may take for what runs and is kept here (default 5)", DEFAULT_DRAIN_S
    )
    token_file: str = _setting(_text, "FILE", "a file with the token to join with")
    isolation: str = _setting(
        _one_of(ISOLATION),
        "|".join(ISOLATION),
        "task processes: in bubblewrap where it works, always, or never",
        "auto",
    )
    expose: tuple[Path, ...] = _setting(_folders, "DIR", "a folder tasks may read in a place hidden from them", ())
    mdns: str = _setting(
        _one_of(SWITCH), "|".join(SWITCH), "find agents nearby by mDNS (auto: not on loopback, in pods, manet)", "auto"
    )
    beacon: str = _setting(
        _beacon,
        "GROUP:PORT",
        f"multicast beacon, on or off (default auto: {DEFAULT_BEACON} with --profile manet)",
        "auto",
    )
    service_account: Path = _setting(  # noqa: RUF009 - it is a field()
        _folder_or_none,
        "DIR",
        "a pod's token and CA for the API server of Kubernetes (off: it is not asked)",
        DEFAULT_ACCOUNT,
    )
    disk_reserve: str = _setting(
        _reserve,
        "SIZE|SHARE%",
        "with less free disk no tasks and no input are taken (default: 5%, at most 512M)",
    )
    labels: tuple[str, ...] = _setting(_labels, "KEY=VALUE", "what tasks may ask for in a node; with commas", ())
    resource_profiler: str = _setting(
        _text, "NAME", "who reads this node's resources, an entry point of jupiter.resource_profilers", "builtin"
    )
    network_profiler: str = _setting(
        _text, "NAME", "who measures links, an entry point of jupiter.network_profilers", "builtin"
    )
    transport: str = _setting(
        _text, "NAME", "what moves large objects, an entry point of jupiter.transports", "builtin"
    )
    log_level: str = _setting(_one_of(LOG_LEVELS), "|".join(LOG_LEVELS), "least level to log", "info")


SETTINGS = {f.name: f for f in fields(Config)}


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", "the file is TOML: key = value, strings in quotes") from error


def _merge(into: dict[str, Any], layer: Mapping[str, Any], origin: str) -> None:
    for key, value in layer.items():
        if key not in SETTINGS:
            raise UsageError(f"{origin}: unknown key {key!r}", did_you_mean(key, SETTINGS))
        try:
            into[key] = SETTINGS[key].metadata["parse"](value)
        except (ValueError, TypeError) as error:
            place = origin if origin.startswith(("--", "JUPITER_")) else f"{origin}: {key}"
            raise UsageError(f"{place}: {error}", SETTINGS[key].metadata["help"]) from error


def load(flags: Mapping[str, Any], env: Mapping[str, str], config_file: Path | None = None) -> Config:
    """Merge the layers; UsageError for a wrong value, naming where it came from. Flags left out are None."""
    values: dict[str, Any] = {}
    if path := config_file or (Path(env["JUPITER_CONFIG"]) if env.get("JUPITER_CONFIG") else None):
        _merge(values, _read_toml(path), str(path))
    for name in SETTINGS:
        if value := env.get(variable := f"JUPITER_{name.upper()}"):
            _merge(values, {name: value}, variable)
    for name, value in flags.items():
        if value is not None:
            _merge(values, {name: value}, f"--{name.replace('_', '-')}")
    values["name"] = values.get("name") or _host_name()
    values.setdefault("state_dir", default_state_dir(env))
    return Config(**values)


def uses_mdns(config: Config, env: Mapping[str, str]) -> bool:
    """Left alone: where others can be met and nothing better is there. A pod's cluster has DNS, manets have beacons."""
    if config.mdns != "auto":
        return config.mdns == "on"
    return not (_is_loopback(config.bind) or "KUBERNETES_SERVICE_HOST" in env or config.profile == "manet")


def beacon_group(config: Config) -> str:
    """Where beacons go, or ''."""
    wanted = config.beacon
    if wanted == "auto":
        wanted = "on" if config.profile == "manet" and not _is_loopback(config.bind) else "off"
    return {"on": DEFAULT_BEACON, "off": ""}.get(wanted, wanted)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_name() -> str:
    """This host's name as a node name; 'node' when nothing of it can be used."""
    cleaned = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).lstrip(".-")[:63]
    return cleaned if is_node_name(cleaned) else "node"
