"""The verb `token`: make, list and revoke tokens, expel a node, change the join secret (DESIGN.md 71 and 104).

All but printing is an entry of the ledger, signed by the issuer: a node that does not hold the issuer's key passes
nothing on, it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jupiter_agent.core.effects import Effect
from jupiter_agent.core.ledger import USES_MAX
from jupiter_agent.core.listing import missing
from jupiter_agent.core.messages.control import Call
from jupiter_agent.core.messages.membership import GRANT, LEDGER_MAX, NODE_REVOKED, TOKEN_REVOKED, Entry
from jupiter_agent.core.trust import ROLES
from jupiter_agent.core.uploads import accepted
from jupiter_agent.core.views import Row
from jupiter_agent.errors import CapacityError, UnauthorisedError, UsageError

if TYPE_CHECKING:
    from jupiter_agent.core.control import Control
    from jupiter_agent.core.membership.notary import Notary

TOKEN_ID = 16


def token(control: Control, src: str, call: Call, now: float) -> list[Effect]:
    """Without arguments the cluster's own token."""
    action = str(call.args.get("action") or "create")
    if action not in _ACTIONS:
        raise UsageError(f"there is no 'token {action}'", f"one of: {', '.join(_ACTIONS)}")
    effects, body = _ACTIONS[action](control, call, now)
    return [*effects, accepted(src, call.seq, body)]


def _create(control: Control, call: Call, now: float) -> tuple[list[Effect], Row]:
    """The cluster's own token or, with a role, an expiry or a number of uses, a new one that the issuer signs."""
    role, expires_s, uses = (call.args.get(name) for name in ("role", "expires_s", "uses"))
    if not isinstance(expires_s or 0, int | float) or not 0 <= (expires_s or 0) < 1e10:
        raise UsageError("a token's life is a number of seconds")
    if type(uses or 0) is not int or not 0 <= (uses or 0) <= USES_MAX:
        raise UsageError(f"the uses of a token are a number from 1 to {USES_MAX}")
    if not (role or expires_s or uses):
        return [], {"token": control.token().text}
    role = str(role or "admin")
    if role not in ROLES:
        raise UsageError(f"there is no role '{role}'", f"one of: {', '.join(ROLES)}")
    if len(control.trust.ledger) >= LEDGER_MAX:
        raise CapacityError("the ledger of tokens is full", "found a cluster anew when these were not all needed")
    issued = control.token(role, float(expires_s or 0), uses or 0)
    entry = _signed(control, GRANT, issued.id, uses or 0, issued.grant)
    body = {"token": issued.text, "id": issued.id, "role": role, "expires_s": expires_s or None, "uses": uses or None}
    return _enter(control, entry, now), body


def _list(control: Control, call: Call, now: float) -> tuple[list[Effect], Row]:
    """Tokens that were issued with a role, and who was expelled."""
    ledger, name = control.trust.ledger, control.around.name
    rows = [_row(control, grant) for grant in ledger.of_kind(GRANT)]
    rows.sort(key=lambda row: (row["created_at"], row["id"]))
    nodes = [{"node": e.subject, "name": name(e.subject), "at": e.at} for e in ledger.of_kind(NODE_REVOKED)]
    rotation = ledger.rotation
    return [], {"items": rows, "revoked_nodes": nodes, "rotations": rotation.number if rotation else 0}


def _row(control: Control, grant: Entry) -> Row:
    ledger = control.trust.ledger
    shown = control.trust.authority.described(grant)
    used = len(ledger.uses(grant.subject)) if grant.number else None
    state = "revoked" if ledger.is_token_revoked(grant.subject) else "expired" if shown.pop("expired", False) else ""
    if not state:
        state = "used up" if grant.number and used is not None and used >= grant.number else "valid"
    shown.pop("expired", None)
    row = {"id": grant.subject, "state": state, "uses": grant.number or None, "used": used, "created_at": grant.at}
    return {**row, "created_by": control.around.name(grant.by), **shown}


def _revoke(control: Control, call: Call, now: float) -> tuple[list[Effect], Row]:
    """A token by its id, or a beginning of it; or a node, and the join secret is changed then."""
    ledger = control.trust.ledger
    if node := str(call.args.get("node") or ""):
        return _expel(control, node, now)
    ref = str(call.args.get("id") or "")
    found = [grant.subject for grant in ledger.of_kind(GRANT) if ref and grant.subject.startswith(ref)]
    if len(found) > 1:
        raise UsageError(f"'{ref}' begins {len(found)} tokens", "give more of the id: `jupiter ctl token list`")
    if not found and not _is_id(ref):
        raise UsageError(f"there is no token '{ref}'", "`jupiter ctl token list` shows their ids")
    entry = _signed(control, TOKEN_REVOKED, found[0] if found else ref)
    return _enter(control, entry, now), {"revoked": entry.subject}


def _is_id(text: str) -> bool:
    return len(text) == TOKEN_ID and all(digit in "0123456789abcdef" for digit in text)


def _expel(control: Control, ref: str, now: float) -> tuple[list[Effect], Row]:
    rows = [row for row in control.nodes.rows(now) if ref in (row["name"], row["id"])]
    rows.sort(key=lambda row: row["state"] in ("dead", "left"))
    if not rows:
        raise missing("node", ref, map(control.around.name, control.around.alive()))
    node = rows[0]["id"]
    if node == control.around.me:
        raise UsageError("this is the node that was asked", "ask another admin: --peer")
    effects = _enter(control, _signed(control, NODE_REVOKED, node), now)
    rotated, body = _rotate(control, Call(0, "token", {}), now)
    return effects + rotated, {"revoked": rows[0]["name"], "node": node, **body}


def _rotate(control: Control, call: Call, now: float) -> tuple[list[Effect], Row]:
    """Another join secret: all tokens of before open nothing any more."""
    done: list[bool] = []
    effects = control.decide(now, lambda notary: done.append(notary.rotate(control.around.me, now)))
    if not done[0]:
        raise _not_here()
    rotation = control.trust.ledger.rotation
    return effects, {"token": control.token().text, "rotations": rotation.number if rotation else 0}


def _signed(control: Control, kind: int, subject: str, number: int = 0, data: bytes = b"") -> Entry:
    entry = control.trust.authority.signed_entry(kind, subject, number, data, control.around.me)
    if entry is None:
        raise _not_here()
    return entry


def _not_here() -> UnauthorisedError:
    return UnauthorisedError("this node does not hold the issuer's key", "ask a node of role admin: --peer")


def _enter(control: Control, entry: Entry, now: float) -> list[Effect]:
    return control.decide(now, lambda notary: notary.enter(entry, "", now))


_ACTIONS: dict[str, Callable[[Control, Call, float], tuple[list[Effect], Row]]] = {
    "create": _create,
    "list": _list,
    "revoke": _revoke,
    "rotate": _rotate,
}

Decide = Callable[[float, "Callable[[Notary], Any]"], list[Effect]]
