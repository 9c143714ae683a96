"""The board: small values that every node publishes about itself and everybody holds (resources, links, tasks hosted
...).

A value belongs to its owner, who alone signs and versions it; order is (boot, version), the newer replaces the older
whatever way it came, so merging commutes and may be repeated. Values of an earlier boot disappear with the first of a
later one. The board knows neither who is alive nor how values travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from jupiter_agent.core.messages.membership import VALUE_BYTES, Value
from jupiter_agent.errors import CapacityError, PeerError

KEYS_PER_OWNER = 32

_NONE: Mapping[str, int] = {}

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode


class Board:
    """owner -> key -> value."""

    def __init__(self) -> None:
        self._signed: dict[str, dict[str, Value]] = {}
        self._plain: dict[str, dict[str, dict[str, Any]]] = {}
        self._boots: dict[str, int] = {}
        self._versions: dict[str, dict[str, int]] = {}

    def get(self, node: str, key: str) -> dict[str, Any] | None:
        """The newest value known, or None. Do not change it."""
        return self._plain.get(node, {}).get(key)

    def items(self, key: str) -> dict[str, dict[str, Any]]:
        """node -> value, of every node that has published this key, whether or not it is alive."""
        return {node: values[key] for node, values in self._plain.items() if key in values}

    def signed(self, node: str, key: str) -> Value | None:
        return self._signed.get(node, {}).get(key)

    def versions(self, node: str) -> tuple[int, Mapping[str, int]]:
        """(boot, key -> version), the live mapping; boot 0 where nothing is known."""
        return self._boots.get(node, 0), self._versions.get(node, _NONE)

    def version(self, node: str, key: str) -> tuple[int, int]:
        version = self._versions.get(node, _NONE).get(key)
        return (self._boots[node], version) if version else (0, 0)

    def lacks(self, owner: str, key: str, boot: int, version: int) -> bool:
        """Whether this version would be news. A key of an older boot than the owner's other keys is not."""
        known = self._boots.get(owner, 0)
        return boot > known or (boot == known and version > self._versions.get(owner, _NONE).get(key, 0))

    def lacking(self, owner: str, boot: int, versions: Mapping[str, int]) -> list[str]:
        """Those of an owner's keys whose versions would be news, at once for a line of a digest."""
        known = self._boots.get(owner, 0)
        if boot != known:
            return list(versions) if boot > known else []
        mine = self._versions.get(owner, _NONE)
        return [key for key, version in versions.items() if version > mine.get(key, 0)]

    def put(self, value: Value) -> None:
        """Take a verified value that is news. PeerError, and nothing changed, if it is no small dict."""
        plain = from_data(value.data)
        boot, versions = self.versions(value.owner)
        if value.boot != boot:
            self.drop(value.owner)
        elif len(versions) >= KEYS_PER_OWNER and value.key not in versions:
            raise PeerError("value: too many keys")
        self._signed.setdefault(value.owner, {})[value.key] = value
        self._plain.setdefault(value.owner, {})[value.key] = plain
        self._versions.setdefault(value.owner, {})[value.key] = value.version
        self._boots[value.owner] = value.boot

    def drop(self, node: str) -> None:
        self._signed.pop(node, None)
        self._plain.pop(node, None)
        self._versions.pop(node, None)
        self._boots.pop(node, None)


def to_data(value: Mapping[str, Any]) -> bytes:
    """CapacityError if it is over the limit."""
    data = _encode(value)
    if len(data) > VALUE_BYTES:
        raise CapacityError(f"a published value of {len(data)} bytes is over the limit of {VALUE_BYTES}")
    return data


def from_data(data: bytes) -> dict[str, Any]:
    """PeerError for anything but a MessagePack map with text keys."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise PeerError("value: malformed") from error
