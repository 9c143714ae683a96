"""Who has which fields of an object: `metadata.managedFields`, as server-side apply reads, checks and writes it.

A field is a path of `f:NAME` and, for an element of a list that is merged by a key, `k:{"name":"x"}`; any other list is
one field. Left out are `status`, which belongs to a subresource, and the defaults that the real server would fill in.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]
Owner = tuple[str, str]
"""manager, operation: Apply or Update"""
Owned = dict[Owner, set[Path]]

KEYS = {
    "containers": ("name",), "initContainers": ("name",), "volumes": ("name",), "env": ("name",),
    "volumeMounts": ("mountPath",), "ports": ("containerPort", "port"),
}  # fmt: skip
"""Lists that are merged, and by what: the first that an element has"""
NOBODYS = {"f:apiVersion", "f:kind", "f:status"}
SYSTEM = {"f:name", "f:namespace", "f:uid", "f:resourceVersion", "f:generation", "f:creationTimestamp",
          "f:managedFields", "f:deletionTimestamp", "f:deletionGracePeriodSeconds"}  # fmt: skip
"""Of the metadata: nobody's either"""
APPLY, UPDATE = "Apply", "Update"
_MISSING = object()


def owners(found: Object) -> Owned:
    """As the object says it."""
    entries = (found.get("metadata") or {}).get("managedFields") or ()
    return {(each["manager"], each["operation"]): set(_decoded(each["fieldsV1"])) for each in entries if each}


def created(made: Object, manager: str) -> None:
    """All is of who made it."""
    _write(made, {(manager, UPDATE): _fields(made)})


def edited(before: Object, after: Object, manager: str) -> None:
    """What was changed is of who changed it, and what was removed is nobody's."""
    had, has, owned = _fields(before), _fields(after), owners(after)
    changed = {path for path in has if path not in had or _value(before, path) != _value(after, path)}
    owned = {owner: (fields & has) - changed for owner, fields in owned.items()}
    if changed:
        owned.setdefault((manager, UPDATE), set()).update(changed)
    _write(after, owned)


def applied(live: Object, body: Object, manager: str, force: bool) -> tuple[Object, list[str]]:
    """The object after a server-side apply, and the conflicts that keep it from being done."""
    mine, owned, wanted = (manager, APPLY), owners(live), _fields(body)
    conflicts: list[str] = []
    for path in sorted(wanted):
        old = _value(live, path)
        if path[-1].startswith("k:") or old is _MISSING or old == _value(body, path):
            continue
        for owner in (each for each in owned if each != mine and path in owned[each]):
            owned[owner].discard(path)
            conflicts.append(f'conflict with "{owner[0]}": {_text(path)}')
    if conflicts and not force:
        return live, conflicts
    dropped = owned.pop(mine, set()) - wanted
    kept = wanted.union(*owned.values())
    after: Object = _merged(live, body)
    for path in sorted(dropped, key=len):  # an element before its fields: it is found by one of them
        if not any(each[: len(path)] == path for each in kept):
            _remove(after, path)
    _write(after, {**owned, mine: wanted})
    return after, []


# --- paths -----------------------------------------------------------------------------------------------------------


def _fields(found: Object) -> set[Path]:
    paths = (path for path in _paths(found) if path and path[0] not in NOBODYS)
    return {path for path in paths if not (path[0] == "f:metadata" and (len(path) < 2 or path[1] in SYSTEM))}


def _paths(found: Any, field: str = "") -> Iterator[Path]:
    if isinstance(found, dict) and found:
        for name, value in found.items():
            yield from ((f"f:{name}", *rest) for rest in _paths(value, name))
    elif isinstance(found, list) and found and field in KEYS:
        for each in found:
            mark = _mark(each, field)
            yield (mark,)
            yield from ((mark, *rest) for rest in _paths(each))
    else:
        yield ()


def _mark(element: Object, field: str) -> str:
    key = next(key for key in KEYS[field] if key in element)
    return "k:" + json.dumps({key: element[key]}, separators=(",", ":"))


def _step(found: Any, part: str) -> Any:
    if part.startswith("f:"):
        return found.get(part[2:], _MISSING) if isinstance(found, dict) else _MISSING
    wanted = json.loads(part[2:]).items()
    elements = found if isinstance(found, list) else ()
    return next((each for each in elements if wanted <= each.items()), _MISSING)


def _value(found: Any, path: Path) -> Any:
    for part in path:
        found = _step(found, part)
    return found


def _remove(found: Object, path: Path) -> None:
    """With the mappings and lists that are empty then."""
    place = _value(found, path[:-1])
    there = _step(place, path[-1])
    if there is _MISSING:
        return
    if isinstance(place, list):
        place.remove(there)
    else:
        del place[path[-1][2:]]
    if not place and len(path) > 1 and path[-2].startswith("f:"):
        _remove(found, path[:-1])


def _merged(old: Any, new: Any, field: str = "") -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return copy.deepcopy({**old, **{key: _merged(old.get(key), value, key) for key, value in new.items()}})
    if isinstance(old, list) and isinstance(new, list) and field in KEYS:
        there = {_mark(each, field): each for each in old}
        changed = {_mark(each, field): _merged(there.get(_mark(each, field)), each) for each in new}
        return list({**there, **changed}.values())
    return copy.deepcopy(new)


def _text(path: Path) -> str:
    return "".join(f".{part[2:]}" if part.startswith("f:") else f"[{part[2:]}]" for part in path)


# --- as objects have it ----------------------------------------------------------------------------------------------


def _write(found: Object, owned: Owned) -> None:
    entries = [
        {"manager": manager, "operation": operation, "apiVersion": found["apiVersion"], "fieldsType": "FieldsV1",
         "fieldsV1": _encoded(fields)}
        for (manager, operation), fields in sorted(owned.items()) if fields
    ]  # fmt: skip
    found["metadata"]["managedFields"] = entries


def _encoded(paths: Iterable[Path]) -> Object:
    found: Object = {}
    for path in sorted(paths):
        place = found
        for part in path:
            place = place.setdefault(part, {})
        if path[-1].startswith("k:"):
            place["."] = {}
    return found


def _decoded(fields: Object) -> Iterator[Path]:
    for part, rest in fields.items():
        if part == ".":
            yield ()
        elif rest:
            yield from ((part, *each) for each in _decoded(rest))
        else:
            yield (part,)
