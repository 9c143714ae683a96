"""What an agent remembers of its cluster between runs: where members were, and its own admission."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

import msgspec

from jupiter_agent.adapters.disk import replace_file
from jupiter_agent.core.membership import Membership
from jupiter_agent.core.messages.membership import Record

MOST = 64
MOST_RECORDS = 256
_decoder = msgspec.msgpack.Decoder(list[Record])


class Remembered:
    """`peers.json` of a state folder. A damaged file is an empty one: it is a hint, nothing more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.addresses: list[str] = []
        self.admission = b""
        self.records: list[Record] = []
        """members met before, the living first"""
        self._saved = ""
        try:
            content = json.loads(path.read_text())
            self.addresses = [str(address) for address in content["addresses"]][:MOST]
            self.admission = base64.b64decode(content["admission"])
            self.records = _decoder.decode(base64.b64decode(content.get("records", "kA==")))
        except (OSError, ValueError, KeyError, TypeError, binascii.Error, msgspec.MsgspecError):
            return

    def save(self, membership: Membership) -> None:
        """Keep the living members' addresses and all members' records, when they changed. A full disk costs
        the hint, not the agent."""
        me = membership.self_record.id
        living = [membership.members()[node].record.address for node in membership.alive() if node != me]
        self.addresses = living[:MOST] or self.addresses
        known = [member for node, member in membership.members().items() if node != me]
        known.sort(key=lambda member: not member.present)
        met = [member.record for member in known]
        names = {record.id for record in met}
        self.records = [*met, *(record for record in self.records if record.id not in names)][:MOST_RECORDS]
        raw = msgspec.msgpack.encode(self.records)
        encoded = {"admission": base64.b64encode(self.admission).decode(), "records": base64.b64encode(raw).decode()}
        content = {"addresses": self.addresses, **encoded}
        text = json.dumps(content)
        if text == self._saved:
            return
        try:
            replace_file(self._path, text)
        except OSError:
            return
        self._saved = text
