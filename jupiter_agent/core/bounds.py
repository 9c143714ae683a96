"""Which numbers make sense in what comes from outside: checkers, built once from the type hints of a Struct.

Bounds that a field's type states (`Annotated` with `Meta`) are checked by msgspec while decoding, and not again here.
What is left gets a rule without having to ask for it: floats are finite, and no typed number is negative or, as an int,
2^53 or more, save the few fields where a sign means something. So no sum of a few of them is too large to be sent on.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

SIGNED_FIELDS = frozenset({"seed"})
"""Fields whose numbers may be negative."""

INT_LIMIT = 1 << 53

Checker: TypeAlias = Callable[[Any], bool]


_PLAIN = frozenset({str, bytes, int, bool, type(None)})


def _finite(value: Any) -> bool:
    """For untyped places: finite floats in plain data of any depth (the decoder has limited the depth)."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is dict:
        return _all_finite(value) and _all_finite(value.values())
    if kind is list or kind is tuple:
        return _all_finite(value)
    return kind in _PLAIN


def _all_finite(values: Iterable[Any]) -> bool:
    for each in values:  # noqa: SIM110 - a loop takes a third of the time of `all`, and bodies are long
        if type(each) not in _PLAIN and not _finite(each):
            return False
    return True


def _number(hint: Any, signed: bool) -> Checker | None:
    if hint is float:
        return math.isfinite if signed else lambda value: 0.0 <= value < math.inf
    if hint is int:
        return None if signed else lambda value: 0 <= value < INT_LIMIT
    return None


def _checker(hint: Any, signed: bool = False) -> Checker | None:
    """The check of values of this type, or None where there is nothing to check."""
    if hint is Any:
        return _finite
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return struct_checker(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return None if _is_bounded(args[1:]) else _checker(args[0], signed)
    if origin is Literal:
        return None
    if origin is None:
        return _number(hint, signed)
    inner = [_checker(arg, signed) for arg in args]
    if not any(inner):
        return None
    return _compound(origin, args, inner)


def _is_bounded(annotations: tuple[Any, ...]) -> bool:
    """Both ends are stated: NaN, which no bound lets through, is refused as well."""
    metas = [each for each in annotations if isinstance(each, msgspec.Meta)]
    return any(m.ge is not None for m in metas) and any(m.le is not None or m.lt is not None for m in metas)


def _compound(origin: Any, args: tuple[Any, ...], inner: list[Checker | None]) -> Checker:
    if origin in {typing.Union, types.UnionType} and len(args) == 2 and type(None) in args:
        some = next(check for check in inner if check)
        return lambda value: value is None or some(value)
    if origin is dict:
        of_key, of_value = (check or _anything for check in inner)
        return lambda value: all(map(of_key, value)) and all(map(of_value, value.values()))
    if origin is list or (origin is tuple and args[-1] is Ellipsis):
        each = inner[0] or _anything
        return lambda value: all(map(each, value))
    if origin is tuple:
        checks = [check or _anything for check in inner]
        return lambda value: all(check(part) for check, part in zip(checks, value, strict=True))
    raise TypeError(f"no check is known for fields of type {origin}")


def _anything(_: Any) -> bool:
    return True


def struct_checker(kind: type[msgspec.Struct]) -> Checker | None:
    """The check of decoded values of this type, or None where decoding has checked all there is."""
    hints = typing.get_type_hints(kind, include_extras=True)
    checks = [(name, _checker(hints[name], name in SIGNED_FIELDS)) for name in kind.__struct_fields__]
    needed = [(name, check) for name, check in checks if check]
    if not needed:
        return None

    def check(value: Any) -> bool:
        for name, test in needed:  # noqa: SIM110 - as above
            if not test(getattr(value, name)):
                return False
        return True

    return check
