"""Port-forwarding over a websocket, as the API server and the kubelet do it (`v4.channel.k8s.io`).

Each port has a channel for data and one for errors. The first frame on either is the port's number, little-endian.
"""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import struct
from typing import Any

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PROTOCOL = "v4.channel.k8s.io"
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
CHUNK = 64 * 1024


def forward(handler: Any, host: str, port: int) -> None:
    """Upgrade this request and carry bytes to host:port until either end is closed."""
    _upgrade(handler)
    for channel in (0, 1):
        _send(handler, BINARY, bytes([channel]) + struct.pack("<H", port))
    try:
        far = socket.create_connection((host, port), 5.0)
    except OSError as error:
        _send(handler, BINARY, b"\x01" + f"error forwarding port {port} to pod: {error}".encode())
        _send(handler, CLOSE, b"")
        return
    far.settimeout(None)
    handler.connection.settimeout(None)
    with far:
        _carry(handler, far)


def _carry(handler: Any, far: socket.socket) -> None:
    """One thread for both ways: a TLS connection bears no two."""
    near, rest = handler.connection, b""
    while True:
        ready = [near] if near.pending() else select.select([near, far], [], [])[0]
        if far in ready:
            if not (data := far.recv(CHUNK)):
                _send(handler, CLOSE, b"")
                return
            _send(handler, BINARY, b"\x00" + data)
        if near in ready:
            if not (data := near.recv(CHUNK)):
                return
            frames, rest = _frames(rest + data)
            for kind, content in frames:
                if kind == CLOSE:
                    return
                if kind == PING:
                    _send(handler, PONG, content)
                elif kind == BINARY and content[:1] == b"\x00":
                    far.sendall(content[1:])


def _upgrade(handler: Any) -> None:
    key = (handler.headers.get("sec-websocket-key") or "").encode()
    offered = [part.strip() for part in (handler.headers.get("sec-websocket-protocol") or "").split(",")]
    handler.send_response(101)
    handler.send_header("upgrade", "websocket")
    handler.send_header("connection", "Upgrade")
    handler.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode())
    if PROTOCOL in offered:
        handler.send_header("sec-websocket-protocol", PROTOCOL)
    handler.end_headers()
    handler.wfile.flush()


def _send(handler: Any, kind: int, data: bytes) -> None:
    size = len(data)
    head = bytes([0x80 | kind])
    if size < 126:
        head += bytes([size])
    elif size < 1 << 16:
        head += b"\x7e" + struct.pack(">H", size)
    else:
        head += b"\x7f" + struct.pack(">Q", size)
    handler.connection.sendall(head + data)


def _frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames (kind, content) in it, and what is left over."""
    found = []
    while len(data) >= 2:
        size, at = data[1] & 0x7F, 2
        if size == 126 and len(data) >= 4:
            (size,), at = struct.unpack(">H", data[2:4]), 4
        elif size == 127 and len(data) >= 10:
            (size,), at = struct.unpack(">Q", data[2:10]), 10
        elif size >= 126:
            break
        masked = 4 if data[1] & 0x80 else 0
        if len(data) < at + masked + size:
            break
        mask, content = data[at : at + masked] or b"\0\0\0\0", data[at + masked : at + masked + size]
        key = (mask * (size // 4 + 1))[:size]
        found.append((data[0] & 0x0F, (int.from_bytes(content) ^ int.from_bytes(key)).to_bytes(size)))
        data = data[at + masked + size :]
    return found, data
