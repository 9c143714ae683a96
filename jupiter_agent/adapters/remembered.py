"""What an agent remembers of its cluster between runs: where members were, and its own admission."""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path

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
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            fresh.rename(self._path)
        except OSError:
            return
        self._saved = text
