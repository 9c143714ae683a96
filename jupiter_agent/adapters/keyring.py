"""What an agent holds of its cluster, kept in its state folder: keys, authority, ledger; and the tokens made of it."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from jupiter_agent.adapters.authority import ClusterAuthority
from jupiter_agent.adapters.curve import AccessKeys
from jupiter_agent.adapters.disk import replace_file
from jupiter_agent.adapters.grants import from_bytes
from jupiter_agent.adapters.keys import Token, encode_token, granted
from jupiter_agent.adapters.state import StateDir
from jupiter_agent.core.ledger import Issued, Ledger
from jupiter_agent.core.messages.membership import GRANT, TOKEN_REVOKED, Entry
from jupiter_agent.errors import PeerError, UsageError

LEDGER_FILE = "ledger"
log = logging.getLogger("jupiter")
_decoder = msgspec.msgpack.Decoder(list[Entry])


class Keyring:
    """Built before the network; UsageError for a folder that cannot be used."""

    def __init__(self, state: StateDir, token: Token | None) -> None:
        self._file = state.path / LEDGER_FILE
        self.ledger = Ledger()
        kept = Ledger()
        kept.load(_read(self._file))
        newest = kept.rotation.subject if kept.rotation else ""
        self.authority = ClusterAuthority(state.cluster_keys(token, newest), self.ledger, state.keep_cluster)
        self.ledger.load(entry for entry in kept.entries.values() if self.authority.verify_entry(entry))
        self._kept = self._tried = self.ledger.digest
        """of the ledger on disk, and of the one that was last to be written"""

    @property
    def role(self) -> str:
        return self.authority.keys.role

    @property
    def seeds(self) -> tuple[str, ...]:
        return self.authority.keys.seeds

    def access(self) -> AccessKeys:
        return self.authority.keys.access()

    def token(self, seeds: tuple[str, ...], role: str = "", expires_s: float = 0.0, uses: int = 0) -> Issued:
        """The token this node has itself or, with a role, a new one."""
        keys = self.authority.keys
        own = Token(keys.fingerprint, keys.join_secret, seeds, keys.door, keys.token_secret, keys.grant)
        if not role:
            return Issued(encode_token(own))
        token = granted(own, keys.issuer_secret, role, expires_s, uses)
        return Issued(encode_token(token), from_bytes(token.grant).id, token.grant)

    def record(self, entry: Entry) -> list[str]:
        """Keep the ledger with this new entry. The CURVE keys of operators who may call no more.

        Called with each entry of a batch, when the ledger has them all already: so the first writes, and what follows
        in the batch, an answer to whoever revoked, leaves when it is on disk. A full disk costs only the entries here,
        after the next start: the others have them, and tell them again; and `catch_up` tries again."""
        if self.ledger.digest != self._tried:
            self.catch_up()
        if entry.kind == GRANT and self.ledger.is_token_revoked(entry.subject):  # the revocation came first
            return _operators([entry])
        if entry.kind != TOKEN_REVOKED:
            return []
        return _operators(each for each in self.ledger.of_kind(GRANT) if each.subject == entry.subject)

    def catch_up(self) -> None:
        """Write the ledger, unless it is on disk as it is."""
        if self.ledger.digest == self._kept:
            return
        self._tried = self.ledger.digest
        raw = msgspec.msgpack.encode(list(self.ledger.entries.values()))
        try:
            replace_file(self._file, base64.b64encode(raw).decode(), sync=True)
        except OSError as error:
            log.error("the ledger cannot be kept: %s", error.strerror)
        else:
            self._kept = self.ledger.digest


def _operators(grants: Iterable[Entry]) -> list[str]:
    found = []
    for grant in grants:
        try:
            found.append(from_bytes(grant.data).operator)
        except PeerError:
            continue
    return found


def _read(path: Path) -> list[Entry]:
    """The entries of an earlier run. UsageError: without them what was revoked would be let in."""
    try:
        return _decoder.decode(base64.b64decode(path.read_bytes()))
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        hint = "remove it: the others' ledger replaces it, but what only this node knew of revocations is lost"
        raise UsageError(f"{path} is unreadable: {error}", hint) from error
