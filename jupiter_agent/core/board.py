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

_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode


class Board:
    """owner -> key -> value."""

    def __init__(self) -> None:
        self._signed: dict[str, dict[str, Value]] = {}
        self._plain: dict[str, dict[str, dict[str, Any]]] = {}

    def get(self, node: str, key: str) -> dict[str, Any] | None:
        """The newest value known, or None. Do not change it."""
        return self._plain.get(node, {}).get(key)

    def items(self, key: str) -> dict[str, dict[str, Any]]:
        """node -> value, of every node that has published this key, whether or not it is alive."""
        return {node: values[key] for node, values in self._plain.items() if key in values}

    def signed(self, node: str, key: str) -> Value | None:
        return self._signed.get(node, {}).get(key)

    def versions(self, node: str) -> tuple[int, Mapping[str, int]]:
        """(boot, key -> version); boot 0 where nothing is known."""
        values = self._signed.get(node)
        if not values:
            return 0, {}
        return next(iter(values.values())).boot, {key: value.version for key, value in values.items()}

    def version(self, node: str, key: str) -> tuple[int, int]:
        value = self.signed(node, key)
        return (value.boot, value.version) if value else (0, 0)

    def is_news(self, value: Value) -> bool:
        """Newer than what is held. A key of an older boot than the owner's other keys is not."""
        boot, versions = self.versions(value.owner)
        return value.boot > boot or (value.boot == boot and value.version > versions.get(value.key, 0))

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

    def drop(self, node: str) -> None:
        self._signed.pop(node, None)
        self._plain.pop(node, None)


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
