"""Sealing for relays: NaCl boxes between two nodes' CURVE keys, which are the same Curve25519 keys."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from functools import lru_cache

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from zmq.utils import z85

from jupiter_agent.adapters.curve import CurvePair

BOXES = 256
"""peers whose shared key is kept: computing one costs 50 us, using it 2 us"""

log = logging.getLogger("jupiter")


class NodeSealer:
    """`core.trust.Sealer` with this node's CURVE secret. Of a member whose key is none it seals nothing: the frame is
    empty, and nobody can open it."""

    def __init__(self, pair: CurvePair, counters: Counter[str] | None = None) -> None:
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._secret = PrivateKey(z85.decode(pair.secret))
        self._box = lru_cache(maxsize=BOXES)(self._make_box)

    def seal(self, curve_key: str, data: bytes) -> bytes:
        box = self._box(curve_key)
        if box is None:
            self.counters["unsealable"] += 1
            return b""
        return bytes(box.encrypt(data))

    def unseal(self, curve_key: str, sealed: bytes) -> bytes | None:
        box = self._box(curve_key)
        try:
            return bytes(box.decrypt(sealed)) if box is not None else None
        except (CryptoError, ValueError, TypeError):
            return None

    def _make_box(self, curve_key: str) -> Box | None:
        """None, said once, for what is no key: no Z85, or a point that gives no secret."""
        try:
            return Box(self._secret, PublicKey(z85.decode(curve_key)))
        except (CryptoError, KeyError, ValueError, TypeError, struct.error):
            log.warning("a member cannot be reached through others: %r is no CURVE key", curve_key)
            return None
