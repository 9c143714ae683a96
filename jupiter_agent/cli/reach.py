"""Which agent to ask and with which key (DESIGN 10, "Reaching a cluster").

Whom to ask: `--peer`, else the agents of `--dir`, else JUPITER_PEER, else JUPITER_DIR, else the seeds in the token of
`--token-file`, else `./.jupiter`, else this machine's agent, else in a pod the Service. The key: `--token-file`, else
`--dir`, JUPITER_TOKEN_FILE, JUPITER_DIR, `./.jupiter`, this machine's agent, the Secret mounted into a pod. With
`--context` or `--namespace` the agents are those of a Kubernetes cluster, reached through its API server
(cli/k8s/reaching.py); those of its own namespace a pod reaches itself. Reachability is judged before authorisation,
also without a key.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from jupiter_agent.cli.local_net import namespace_of
from jupiter_agent.config import default_state_dir, parse_address
from jupiter_agent.errors import JupiterError, UnauthorisedError, UnreachableError, UsageError

LOCAL_DIR = Path(".jupiter")
START_OR_NAME = "start some: `jupiter local up --nodes 3`; or name one: --peer HOST:PORT"
IN_POD = Path("/etc/jupiter/secret/token")
"""Where the manifests mount the token; a pod of yours may do the same"""
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
SYSTEM_DIR = Path("/var/lib/jupiter-agent")
CONNECT_TIMEOUT_S = 1.0


class Caller(Protocol):
    """What the verbs need of `adapters.client.Client`."""

    def call(self, verb: str, args: dict[str, Any], timeout_s: float = 30.0) -> Any: ...

    def write_blob(self, content: Path | bytes) -> Any: ...

    def read_blob(self, sha256: bytes, size: int, sink: BinaryIO) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Where:
    """What the user said of the cluster to reach."""

    peers: tuple[str, ...] = ()
    dir: Path | None = None
    token_file: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    context: str = ""
    namespace: str = ""
    """of a Kubernetes cluster"""


def read_agent_file(state_dir: Path) -> dict[str, Any] | None:
    """agent.json as the agent wrote it {pid, name, id, address, started_at, boot}; None while there is none."""
    try:
        content = json.loads((state_dir / "agent.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def agent_folders(folder: Path) -> list[Path]:
    """The state folders in a `local up` folder, node2 before node10; the folder itself when it is one."""
    if (folder / "agent.json").is_file():
        return [folder]
    found = (path.parent for path in folder.glob("*/agent.json"))
    return sorted(found, key=lambda path: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", path.name)])


def _addresses_in(folder: Path) -> list[str]:
    agents = (read_agent_file(path) for path in agent_folders(folder))
    return [str(agent["address"]) for agent in agents if agent and agent.get("address")]


def _machine_folder(env: Mapping[str, str]) -> Path:
    """The state folder of this machine's agent: this user's, else the system's."""
    own = Path(env["JUPITER_STATE_DIR"]) if env.get("JUPITER_STATE_DIR") else default_state_dir(env)
    return own if (own / "agent.json").is_file() else SYSTEM_DIR


def _env_folder(env: Mapping[str, str]) -> Path | None:
    return Path(env["JUPITER_DIR"]) if env.get("JUPITER_DIR") else None


def state_folders(where: Where) -> list[Path]:
    """State folders on this machine of the agents that are meant; [] with `--peer`, and while none has ever run."""
    if where.peers:
        return []
    named = where.dir or (None if where.env.get("JUPITER_PEER") else _env_folder(where.env))
    places = [named] if named else [LOCAL_DIR, _machine_folder(where.env)]
    return next((found for place in places if (found := agent_folders(place))), [])


def addresses(where: Where) -> list[str]:
    """Whom to ask, in order. UnreachableError when nobody is named anywhere."""
    peers = [peer for peer in re.split(r"[,\s]+", where.env.get("JUPITER_PEER", "")) if peer]
    if where.peers or (peers and not where.dir):
        return [_checked(peer) for peer in where.peers or peers]
    if folder := where.dir or _env_folder(where.env):
        if found := _addresses_in(folder):
            return found
        raise UnreachableError(f"no agent has ever run in {folder}", f"jupiter local up --nodes 3 --dir {folder}")
    if where.token_file and (seeds := _seeds(where.token_file)):
        return seeds
    for folder in (LOCAL_DIR, _machine_folder(where.env)):
        if found := _addresses_in(folder):
            return found
    if found := inside_pod(where.env):
        return found
    raise UnreachableError("no agent to ask", _further_up() or START_OR_NAME)


def _further_up() -> str:
    """What to say to somebody who went into a folder of the one with the cluster; '' where there is none."""
    here = Path.cwd()
    found = next((above / LOCAL_DIR for above in here.parents if agent_folders(above / LOCAL_DIR)), None)
    return f"there is a cluster in {found}: --dir {found}" if found else ""


def inside_pod(env: Mapping[str, str]) -> list[str]:
    """Where to find agents from inside any pod of a cluster: the Service, by the variables that pods of its namespace
    get, else by name. [] outside of pods."""
    if not env.get("KUBERNETES_SERVICE_HOST"):
        return []
    host, port = env.get("JUPITER_SERVICE_HOST"), env.get("JUPITER_SERVICE_PORT")  # of the Service `jupiter`
    return [f"{host}:{port}"] if host and port else ["jupiter:7421", "jupiter.jupiter.svc:7421"]


def _is_own_namespace(where: Where) -> bool:
    """Whether the namespace that is named is that of the pod we are in, and a key of its agents is here: then there is
    no need of the API server, of rights there, or of its client. A kubeconfig here means the cluster that it names."""
    env = where.env
    if where.context or not env.get("KUBERNETES_SERVICE_HOST") or _has_kubeconfig(env):
        return False
    try:
        own = POD_NAMESPACE.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        own = env.get("POD_NAMESPACE", "")  # as the manifests say it; a pod need not have an account
    if not (where.token_file or env.get("JUPITER_TOKEN_FILE") or IN_POD.is_file()):
        return False
    return where.namespace == own if own else IN_POD.is_file()


def _has_kubeconfig(env: Mapping[str, str]) -> bool:
    return bool(env.get("KUBECONFIG")) or (Path(env.get("HOME") or "~").expanduser() / ".kube" / "config").is_file()


def _checked(peer: str) -> str:
    try:
        return parse_address(peer)
    except ValueError as error:
        raise UsageError(f"--peer: {error}", "for example --peer 10.0.0.5:7421") from error


def _key_files(where: Where) -> Iterator[Path]:
    env = where.env
    if where.token_file:
        yield where.token_file
    elif where.dir:
        yield _newest(where.dir)
    else:
        if env.get("JUPITER_TOKEN_FILE"):
            yield Path(env["JUPITER_TOKEN_FILE"])
        if folder := _env_folder(env):
            yield folder / "token"
        yield _newest(LOCAL_DIR)
        yield _machine_folder(env) / "token"
        if inside_pod(env):
            yield IN_POD


def _newest(folder: Path) -> Path:
    """The token of a local cluster. After its join secret was changed a node of it has a newer one."""
    changed = [path.with_name("token") for path in folder.glob("*/ledger")]
    found = [path for path in (folder / "token", *changed) if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime) if found and changed else folder / "token"


def find_token(where: Where) -> tuple[str, Path | None]:
    """The token and the file it is from; ('', None) when there is none. UsageError for a named file that is missing."""
    for path in _key_files(where):
        try:
            return path.read_text("utf-8").strip(), path
        except (OSError, UnicodeDecodeError) as error:
            if path == where.token_file:
                raise UsageError(f"cannot read the token file {path}: {error}") from error
    return "", None


def _seeds(token_file: Path) -> list[str]:
    from jupiter_agent.adapters.keys import decode_token

    try:
        return [str(seed) for seed in decode_token(token_file.read_text("utf-8").strip()).seeds]
    except (OSError, UnicodeDecodeError, JupiterError):
        return []  # judged later, after reachability


def _somebody_listens(tried: list[str]) -> bool:
    for address in tried:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
        except OSError:
            continue
        return True
    return False


def _unreachable(where: Where, tried: list[str]) -> UnreachableError:
    """Local agents are looked after by `jupiter local`; of others the usual hint is all there is to say."""
    hint = ""
    for folder in {path.parent for path in state_folders(where)}:
        if (folder / "cluster.json").is_file() and _addresses_in(folder) == tried:
            at = "" if folder == LOCAL_DIR else f" --dir {folder}"
            hint = f"is it running? `jupiter local status{at}` shows it"
    return UnreachableError(f"no agent answers at {', '.join(tried)}", hint)


def _namespace(where: Where) -> str:
    """Of a local cluster on an emulated network: the path of a network namespace it can be reached from."""
    folders = {path.parent for path in state_folders(where)}
    return next((path for folder in folders if (path := namespace_of(folder))), "")


def open_client(where: Where) -> Caller:
    """A client of the first agent that answers. UnreachableError, UnauthorisedError or UsageError."""
    if where.namespace and _is_own_namespace(where):
        where = replace(where, namespace="")
    if where.context or where.namespace:
        from jupiter_agent.cli.k8s.reaching import open_client

        return open_client(where.context, where.namespace, where.peers, where.token_file)
    tried = addresses(where)
    token, origin = find_token(where)
    if not token:
        if not _somebody_listens(tried):
            raise _unreachable(where, tried)
        raise UnauthorisedError("no key for this cluster", "say where it is: --token-file FILE or --dir DIR")
    from jupiter_agent.adapters.client import Client

    if path := _namespace(where):
        from jupiter_agent.netlab.system import enter

        enter(path)
    try:
        return Client.open(tried, token)
    except UnreachableError as error:
        known = _unreachable(where, tried)
        raise (known if error.message == known.message else error) from error
    except JupiterError as error:
        if not _somebody_listens(tried):
            raise _unreachable(where, tried) from error
        origin_hint = f"the key is from {origin}; another one: --token-file FILE or --dir DIR"
        if isinstance(error, UnauthorisedError):
            why = error.message.partition("refused our key")[2]
            message = f"the agent at {' or '.join(tried)} refused our key{why}"
            raise UnauthorisedError(message, f"{error.hint}; {origin_hint}".lstrip("; ")) from error
        raise UnauthorisedError(error.message, error.hint or origin_hint) from error
