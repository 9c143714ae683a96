"""Bytes from clients: parts of bundles and inputs on their way into the store (`BlobWrite`).

The last part of an object is answered when the whole is verified. Small objects are kept at hand for a while: they
travel inside messages from here on.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Any

from jupiter_agent.core.effects import Effect, Send, WriteChunk
from jupiter_agent.core.events import ObjectStored
from jupiter_agent.core.messages.control import Answer, BlobWrite
from jupiter_agent.core.messages.jobs import CHUNK_BYTES, INLINE_BYTES
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.errors import EXIT_OK, JupiterError, UsageError

SMALL_BYTES = 32 * 1024 * 1024


def accepted(src: str, seq: int, body: Any) -> Send:
    return Send(src, Answer(seq, EXIT_OK, body))


def refusal(src: str, seq: int, error: JupiterError) -> Send:
    return Send(src, Answer(seq, error.exit_code, None, error.message, error.hint))


class Uploads:
    """What clients are uploading to this agent."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self._waiting: dict[bytes, list[tuple[str, int]]] = {}
        self._small: OrderedDict[bytes, bytes] = OrderedDict()
        self._small_bytes = 0

    def on_blob(self, src: str, message: BlobWrite, now: float) -> list[Effect]:
        """Store a part; the last one is answered when the whole is verified."""
        whole = message.offset == 0 and len(message.data) == message.size <= INLINE_BYTES
        if whole and sha256(message.data).digest() == message.sha256:
            self._remember(message.sha256, message.data)
        done = message.offset + len(message.data)
        if len(message.data) > CHUNK_BYTES or done > message.size or len(message.sha256) != 32:
            return [refusal(src, message.seq, UsageError("a part of an upload does not fit its object"))]
        if message.sha256 in self._transfers.stored:
            return [accepted(src, message.seq, {"offset": message.size})]
        effects: list[Effect] = [WriteChunk(message.sha256, message.size, message.offset, message.data)]
        if done == message.size:
            self._waiting.setdefault(message.sha256, []).append((src, message.seq))
            return effects
        return [*effects, accepted(src, message.seq, {"offset": done})]

    def on_stored(self, event: ObjectStored) -> list[Effect]:
        """The object is complete and right, or was thrown away: answer who waits for that."""
        asked = self._waiting.pop(event.sha256, ())
        if event.error:
            error = JupiterError(f"the upload was refused: {event.error}")
            return [refusal(src, seq, error) for src, seq in asked]
        return [accepted(src, seq, {"offset": event.size}) for src, seq in asked]

    def _remember(self, digest: bytes, data: bytes) -> None:
        """Keep small uploads at hand: they travel inside messages."""
        if digest not in self._small:
            self._small[digest] = data
            self._small_bytes += len(data)
        while self._small_bytes > SMALL_BYTES:
            self._small_bytes -= len(self._small.popitem(last=False)[1])

    def with_bytes(self, args: dict[str, Any], most: int | None = None) -> dict[str, Any]:
        """The same arguments, small inputs with their bytes: those that fit into `most` bytes, if that is given."""
        if not args.get("inputs"):
            return args
        left = (most or 0) - sum(len(entry.get("data") or b"") for entry in args["inputs"] if isinstance(entry, dict))

        def filled(entry: dict[str, Any]) -> dict[str, Any]:
            nonlocal left
            data = self._small.get(bytes.fromhex(str(entry.get("sha256", ""))))
            if data is None or entry.get("data") is not None or (most is not None and len(data) > left):
                return entry
            left -= len(data)
            return {**entry, "data": data}

        try:
            return {**args, "inputs": [filled(entry) for entry in args["inputs"]]}
        except (ValueError, TypeError, AttributeError):
            raise UsageError("an input lacks its name, digest or size") from None
