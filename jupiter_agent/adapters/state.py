"""The state folder of an agent: its keys, its cluster's, its boot counter, and the lock that makes it one agent's.

    node.json      signing seed and CURVE secret           0600
    cluster.json   fingerprint, join secret, issuer key    0600
    boot           how often this node has started
    lock           held (flock) while an agent runs; the text in it is that agent's process id

The folder is 0700. Looser modes of our own files are tightened, and `notices` says so; files of another user are
refused. Files are replaced atomically: written aside, synced, renamed, the folder synced.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import zmq

from jupiter_agent.adapters.curve import CurvePair
from jupiter_agent.adapters.disk import capacity, replace_file
from jupiter_agent.adapters.keys import DOOR_BYTES, ClusterKeys, NodeKeys, Token, door_mark, issuer_of
from jupiter_agent.errors import UsageError

NODE_FILE, CLUSTER_FILE, BOOT_FILE, LOCK_FILE = "node.json", "cluster.json", "boot", "lock"
_VERSION = 1
log = logging.getLogger("jupiter")
_T = TypeVar("_T")


class StateDir:
    """An open, locked state folder. UsageError when it cannot be used, with the reason and how to mend it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notices: list[str] = []
        self._owed: dict[str, str] = {}
        """what found no room, by file"""
        self._writing = threading.RLock()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._tighten(path, 0o700)
            self._lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise UsageError(
                f"another agent (process {pid}) uses {path}", "stop it, or give this one its own --state-dir"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let the next agent have it."""
        if self._lock >= 0:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = -1

    def next_boot(self) -> int:
        """One more than ever before, on disk before it is returned."""
        path = self.path / BOOT_FILE
        try:
            boot = int(path.read_text()) + 1
        except FileNotFoundError:
            boot = 1
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is unreadable: {error}", "write the number of earlier starts into it") from error
        self._write(BOOT_FILE, f"{boot}\n")
        return boot

    def set_boot(self, boot: int) -> None:
        """The cluster remembers more starts of this node than we do (its folder was restored): adopt its number.
        Without room later: until then a restart is told of it again."""
        self.keep(BOOT_FILE, f"{boot}\n")

    def node_keys(self) -> NodeKeys:
        """This node's keys, made on the first start."""
        keys = self._load(NODE_FILE, _node_from)
        if keys is None:
            keys = NodeKeys.new()
            self._write(NODE_FILE, _node_text(keys))
        return keys

    def cluster_keys(self, token: Token | None = None, newest: str = "") -> ClusterKeys:
        """The cluster this folder belongs to; on the first start the token's, or without one a new cluster. `newest`:
        the door of the last rotation known here, which no older token replaces."""
        known = self._load(CLUSTER_FILE, _cluster_from)
        if known is None:
            found = _joining(token) if token else ClusterKeys.found()
        elif token is None:
            return known
        elif token.fingerprint != known.fingerprint:
            raise UsageError(
                f"{self.path} belongs to another cluster than the token",
                "use another --state-dir, or start without --join to stay in that cluster",
            )
        else:
            found = self._given_again(known, token, newest)
        if found != known:
            self._write(CLUSTER_FILE, _cluster_text(found))
        return found

    def _given_again(self, known: ClusterKeys, token: Token, newest: str) -> ClusterKeys:
        """Another token for a node that has one. It may open a door that was changed meanwhile; it makes nobody less
        than it was. UsageError."""
        given = _joining(token)
        if known.role == "admin" and given.role != "admin":
            raise UsageError(
                f"the node of {self.path} is of role admin, the token of role {given.role}",
                f"start without --join to stay admin, or use another --state-dir for a node of role {given.role}",
            )
        seeds = token.seeds or known.seeds
        mark, mine = door_mark(given.access()), door_mark(known.access())
        if (mine == newest and mark != newest) or (known.join_secret and mark == mine):
            return replace(known, seeds=seeds)
        issuer, secret = given.issuer or known.issuer, given.issuer_secret or known.issuer_secret
        return replace(given, seeds=seeds, issuer=issuer, issuer_secret=secret)

    def keep_cluster(self, keys: ClusterKeys) -> None:
        """The cluster's keys have changed. Without room `settle` has them on disk before anybody hears of it."""
        self.keep(CLUSTER_FILE, _cluster_text(keys))

    def keep(self, name: str, text: str) -> None:
        """Replace a file while the agent runs: now or, if that fails, with `catch_up`."""
        with self._writing:
            try:
                replace_file(self.path / name, text, sync=name in (BOOT_FILE, CLUSTER_FILE))
                self._owed.pop(name, None)
            except OSError as error:
                if name not in self._owed:
                    log.error("%s cannot be written, and will be later: %s", self.path / name, error.strerror)
                self._owed[name] = text

    def catch_up(self) -> None:
        """Try again what found no room."""
        with self._writing:
            for name, text in list(self._owed.items()):
                self.keep(name, text)

    def settle(self) -> None:
        """The keys of the cluster are on disk when this returns. CapacityError: there is no room. From any thread."""
        if not self._owed:
            return
        with self._writing, capacity(f"writing {CLUSTER_FILE}"):
            if text := self._owed.get(CLUSTER_FILE):
                replace_file(self.path / CLUSTER_FILE, text, sync=True)
                del self._owed[CLUSTER_FILE]

    def _load(self, name: str, parse: Callable[[Path], _T]) -> _T | None:
        path = self.path / name
        if not path.exists():
            return None
        self._tighten(path, 0o600)
        return parse(path)

    def _tighten(self, path: Path, mode: int) -> None:
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise UsageError(f"{path} belongs to another user", "use another --state-dir, or change its owner")
        if found.st_mode & 0o077:
            path.chmod(mode)
            self.notices.append(f"{path} was open to others (mode {found.st_mode & 0o777:o}); now it is {mode:o}")

    def _write(self, name: str, text: str) -> None:
        try:
            replace_file(self.path / name, text, sync=True)
        except OSError as error:
            raise _unusable(self.path, error) from error


def _joining(token: Token) -> ClusterKeys:
    keys = ClusterKeys(token.fingerprint, token.join_secret, token.seeds)
    if token.issuer_secret:
        return replace(keys, issuer=issuer_of(token.issuer_secret), issuer_secret=token.issuer_secret)
    return replace(keys, door=token.door, token_secret=token.secret, grant=token.grant)


def has_cluster(path: Path) -> bool:
    """Whether this state folder belongs to a cluster already."""
    return (path / CLUSTER_FILE).exists()


def set_aside(path: Path, fingerprint: bytes) -> Path | None:
    """Make room for the cluster of this fingerprint where a machine's disk outlives deployments: a state folder of
    another cluster is named after that one, and what was named so of this one comes back, so a cluster that returns
    finds its node. A folder of no cluster is what is left of one whose removal was cut short: nothing of it may be
    in another's. Where what was in the way is now; None if nothing was. UsageError, also while an agent uses it."""
    earlier = [each for each in _aside(path, fingerprint.hex()[:16]) if _is_of(each, fingerprint)]
    aside: Path | None = None
    try:
        if has_cluster(path) or (path.is_dir() and (earlier or _has_content(path))):
            state = StateDir(path)  # nobody else may run in it
            try:
                known = read_cluster(path).fingerprint if has_cluster(path) else None
                if known == fingerprint:
                    return None
                aside = _free(path, known.hex()[:16] if known else "leftovers")
                path.rename(aside)
            finally:
                state.close()
        if earlier and not path.exists():
            earlier[-1].rename(path)
    except OSError as error:
        raise _unusable(path, error) from error
    return aside


def _has_content(path: Path) -> bool:
    return any(each.name != LOCK_FILE for each in path.iterdir())


def _aside(path: Path, mark: str) -> list[Path]:
    """What was set aside under this mark, oldest first. That of a cluster is its fingerprint: a digest of its issuer's
    public key, and no secret."""
    plain = f"{path.name}-{mark}"
    found = [each for each in path.parent.glob(f"*{mark}*") if each.name == plain or each.name.startswith(f"{plain}.")]
    return sorted(found, key=lambda each: (len(each.name), each.name))


def _free(path: Path, mark: str) -> Path:
    """A name that is not taken."""
    taken = {each.name for each in _aside(path, mark)}
    plain, number = f"{path.name}-{mark}", 2
    while taken and f"{plain}.{number}" in taken:
        number += 1
    return path.with_name(f"{plain}.{number}" if taken else plain)


def _is_of(path: Path, fingerprint: bytes) -> bool:
    try:
        return has_cluster(path) and read_cluster(path).fingerprint == fingerprint
    except UsageError:
        return False


def read_cluster(path: Path) -> ClusterKeys:
    """The cluster keys in a state folder, without opening it: for operators on the same machine. UsageError."""
    return _cluster_from(path / CLUSTER_FILE)


def _unusable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot use {path}: {error.strerror}", "name a writable folder with --state-dir")


def _node_text(keys: NodeKeys) -> str:
    return json.dumps({"version": _VERSION, "seed": keys.seed.hex(), "curve_secret": keys.curve.secret}) + "\n"


def _node_from(path: Path) -> NodeKeys:
    data = _read(path)
    try:
        seed, secret = bytes.fromhex(data["seed"]), data["curve_secret"]
        if len(seed) != 32:
            raise ValueError("a seed has 32 bytes")
        return NodeKeys(seed, CurvePair(zmq.curve_public(secret.encode()).decode(), secret))
    except (KeyError, ValueError, AttributeError, TypeError, zmq.ZMQError) as error:
        raise _damaged(path) from error


def _cluster_text(keys: ClusterKeys) -> str:
    fields = {"fingerprint": keys.fingerprint, "join_secret": keys.join_secret, "issuer": keys.issuer}
    fields |= {"door": keys.door, "token_secret": keys.token_secret, "grant": keys.grant} if keys.grant else {}
    hexed = {name: value.hex() for name, value in {**fields, "issuer_secret": keys.issuer_secret}.items()}
    return json.dumps({"version": _VERSION, "seeds": list(keys.seeds), **hexed}) + "\n"


def _cluster_from(path: Path) -> ClusterKeys:
    data = _read(path)
    try:
        names = ("fingerprint", "join_secret", "issuer", "issuer_secret")
        mark, secret, issuer, issuer_secret = (bytes.fromhex(data[name]) for name in names)
        door, own, grant = (bytes.fromhex(data.get(name, "")) for name in ("door", "token_secret", "grant"))
        if (len(door), len(own)) != (DOOR_BYTES, 32) if grant else len(secret) != 32:
            raise ValueError("a secret is not whole")
        seeds = tuple(str(seed) for seed in data["seeds"])
        return ClusterKeys(mark, secret, seeds, issuer, issuer_secret, door, own, grant)
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(path) from error


def _read(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name the folder of an agent of yours") from error
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise UsageError(f"{path} was written by another version", "use that version, or a new --state-dir")
    return data


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path} is damaged", "restore it from a copy, or start afresh with a new --state-dir")
