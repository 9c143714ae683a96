"""Tokens for the fuzzer: the target, and what it begins with."""

from __future__ import annotations

import base64
from dataclasses import replace

from jupiter_agent.adapters import grants, keys


def token(data: bytes) -> None:
    text = data[1:].decode("utf-8", "replace")
    if data[:1] >= b"\x80":  # as of other targets: put the checksum right
        raw = data[1:] + keys._check(data[1:])
        text = keys.TOKEN_PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    keys.is_token(text)
    found = keys.decode_token(text)
    assert keys.decode_token(keys.encode_token(found)).join_secret == found.join_secret


TOKEN_READERS = (keys.decode_token, keys._decode_granted, keys._decode_founding, keys._seeds, keys.is_token)


def tokens() -> list[bytes]:
    good = keys.Token(b"f" * keys.FINGERPRINT_BYTES, b"s" * keys.SECRET_BYTES, ("h:1", "[::1]:7000"))
    text = keys.encode_token(good)
    body = bytes([1]) + good.fingerprint + good.join_secret
    texts = [text, text[:-3], "jup2." + text[5:], "no token", "jup1.$$$", text[:20] + "A" + text[21:]]
    secret, issuer = b"o" * keys.SECRET_BYTES, b"i" * keys.SECRET_BYTES
    grant = grants.to_bytes(grants.issue(issuer, secret, "admin", 2_000_000_000))
    of_role = replace(good, join_secret=b"", door=b"d" * keys.DOOR_BYTES, secret=secret, grant=grant)
    founding = replace(good, fingerprint=keys.fingerprint(keys.issuer_of(issuer)), issuer_secret=issuer)
    bodies = [body + b"h:1,[::1]:70", b"\x07" + body[1:], b"", *(_body(each) for each in (of_role, founding))]
    bodies += [_body(replace(of_role, grant=b"\xc1" * 8)), _body(replace(founding, fingerprint=good.fingerprint))]
    bodies += [_body(replace(of_role, secret=issuer))]
    return [*(b"\0" + t.encode() for t in texts), *(b"\xff" + each for each in bodies)]


def _body(token: keys.Token) -> bytes:
    """What of a token its checksum is of."""
    payload = keys.encode_token(token).removeprefix(keys.TOKEN_PREFIX)
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))[: -keys.CHECK_BYTES]
