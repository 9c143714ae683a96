"""What an agent remembers of its cluster between runs: where members were, and its own admission."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

from jupiter_agent.adapters.disk import replace_file
from jupiter_agent.core.membership import Membership

MOST = 64


class Remembered:
    """`peers.json` of a state folder. A damaged file is an empty one: it is a hint, nothing more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.addresses: list[str] = []
        self.admission = b""
        self._saved = ""
        try:
            content = json.loads(path.read_text())
            self.addresses = [str(address) for address in content["addresses"]][:MOST]
            self.admission = base64.b64decode(content["admission"])
        except (OSError, ValueError, KeyError, TypeError, binascii.Error):
            return

    def save(self, membership: Membership) -> None:
        """Keep the addresses of the living members, when they changed. A full disk costs the hint, not the agent."""
        me = membership.self_record.id
        living = [membership.members()[node].record.address for node in membership.alive() if node != me]
        self.addresses = living[:MOST] or self.addresses
        content = {"addresses": self.addresses, "admission": base64.b64encode(self.admission).decode()}
        text = json.dumps(content)
        if text == self._saved:
            return
        try:
            replace_file(self._path, text)
        except OSError:
            return
        self._saved = text
