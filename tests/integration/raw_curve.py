"""A ZMTP 3 CURVE client on a plain socket (RFC 23, 26): it can do what libzmq would never do."""

from __future__ import annotations

import os
import socket
import struct

from nacl.public import Box, PrivateKey, PublicKey
from zmq.utils import z85

from jupiter_agent.adapters.curve import CurvePair

GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00CURVE".ljust(23, b"\0") + b"\0" * 32
METADATA = b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER" + b"\x08Identity" + struct.pack(">I", 0)


class RawClient:
    """Handshaken when it is made."""

    def __init__(self, address: tuple[str, int], pair: CurvePair, server_key: str) -> None:
        self.sock = socket.create_connection(address, 5)
        self._nonce = 0
        server, mine = PublicKey(z85.decode(server_key)), PrivateKey(z85.decode(pair.secret))
        short = PrivateKey.generate()
        self.sock.sendall(GREETING)
        self._take(64)
        signed = self._sealed(Box(short, server), b"CurveZMQHELLO---", b"\0" * 64)
        self._command(b"\x05HELLO\x01\x00" + b"\0" * 72 + bytes(short.public_key) + signed)
        welcome = self._take(2 + 168)[2:]
        opened = Box(short, server).decrypt(welcome[24:], b"WELCOME-" + welcome[8:24])
        self._box = Box(short, PublicKey(opened[:32]))
        fresh = os.urandom(16)
        vouched = bytes(short.public_key) + bytes(server)
        vouch = Box(mine, PublicKey(opened[:32])).encrypt(vouched, b"VOUCH---" + fresh).ciphertext
        said = bytes(mine.public_key) + fresh + vouch + METADATA
        self._command(b"\x08INITIATE" + opened[32:] + self._sealed(self._box, b"CurveZMQINITIATE", said))
        head = self._take(2)
        assert self._take(head[1])[:6] == b"\x05READY"

    def send(self, part: bytes, more: bool) -> None:
        """One part of a message; blocks, or raises when the connection is cut."""
        body = b"\x07MESSAGE" + self._sealed(self._box, b"CurveZMQMESSAGEC", bytes([more]) + part)
        self.sock.sendall(b"\x02" + struct.pack(">Q", len(body)) + body)

    def _sealed(self, box: Box, prefix: bytes, plain: bytes) -> bytes:
        self._nonce += 1
        nonce = struct.pack(">Q", self._nonce)
        return nonce + box.encrypt(plain, prefix + nonce).ciphertext

    def _command(self, body: bytes) -> None:
        large = len(body) > 255
        self.sock.sendall((b"\x06" + struct.pack(">Q", len(body)) if large else bytes([4, len(body)])) + body)

    def _take(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            more = self.sock.recv(size - len(found))
            assert more, "the other end hung up"
            found += more
        return found
