"""What `submit` is given: its arguments, the mapper's name and the inputs, checked one by one."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from hashlib import sha256
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.ids import HOME
from jupiter_agent.core.messages import Size
from jupiter_agent.core.messages.jobs import INLINE_BYTES, Obj
from jupiter_agent.core.transfer import Transfers
from jupiter_agent.core.what_if import WhatIf
from jupiter_agent.errors import UsageError
from schedulers import names as central_mappers
from schedulers import rules

LIVE_WAVE = ("wave-auction", "wave-greedy", "wave-random")
DEFAULT_MAPPER = "wave-auction"
Remap = Literal["active", "lazy", "off"]
REMAPS: tuple[str, ...] = get_args(Remap)


class SubmitArgs(msgspec.Struct, frozen=True):
    """Arguments of the `submit` verb."""

    bundle: str
    size: Size
    app: str
    mapper: str = ""
    name: str = ""
    seed: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    params: dict[str, str] = {}
    mapping: dict[str, str] | None = None
    ep: str = "auto"
    keep_open: bool = False
    inputs: list[dict[str, Any]] = []
    plan: bool = False
    """only say where the tasks would run"""
    strict_hosts: bool = False
    """hosts that the app wishes must be here"""
    retry: list[str] = []
    """items of an earlier job that are tried again"""
    remap: Remap = "off"
    input_at: dict[str, str] = {}
    """entry task or named source ('' for all) -> the node where its inputs will be put"""
    input_bytes: Size = 0
    """of an input that follows, where it is known; 0 where not"""
    replicas: Annotated[int, Meta(ge=0, le=16)] = 1
    """deputies that hold copies of items, results and home's journal"""
    what_if: WhatIf = WhatIf()
    """of a plan: other nodes and links than there are"""


def submit_args(given: dict[str, Any]) -> SubmitArgs:
    """The arguments in a call; UsageError that names a wrong one."""
    try:
        return msgspec.convert(given, SubmitArgs, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"submit: {error}") from None


def known_mappers() -> list[str]:
    """Those of agents and those of home, rules included; the other `wave-` mappers of the library are simulations."""
    central = (other for other in central_mappers() if not other.startswith("wave-"))
    return sorted({*LIVE_WAVE, *central, *rules.names()})


def is_live_wave(mapper: str) -> bool:
    """Whether the nodes decide, and not home."""
    return mapper in LIVE_WAVE or mapper.startswith(rules.PREFIX)


def mapper_name(name: str) -> str:
    """The mapper meant, the default for ''; UsageError that lists the known ones. A mapper hides a rule of its name."""
    known = known_mappers()
    bare = name.removeprefix(rules.PREFIX)
    if bare in rules.names() and (bare != name or (bare not in LIVE_WAVE and bare not in central_mappers())):
        return rules.PREFIX + bare
    if not name:
        return DEFAULT_MAPPER
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise UsageError(f"unknown mapper '{name}'", f"{hint}known: {', '.join(known)}")
    return name


def to_input(entry: dict[str, Any], transfers: Transfers) -> tuple[str, Obj, str]:
    """(item name, object, entry task or '') of one entry of `inputs`; UsageError when its bytes are not here."""
    try:
        digest, size, name = bytes.fromhex(str(entry["sha256"])), int(entry["size"]), str(entry["name"])
    except (KeyError, ValueError, TypeError):
        raise UsageError("an input lacks its name, digest or size") from None
    data = entry.get("data")
    if data is not None and (not isinstance(data, bytes) or sha256(data).digest() != digest or len(data) != size):
        raise UsageError(f"the bytes of input '{name}' do not have its digest")
    if data is None and digest not in transfers.stored:
        raise UsageError(f"the bytes of input '{name}' did not arrive here", "submit it again")
    if data is None and transfers.size_differs(digest, size):
        raise UsageError(f"the bytes of input '{name}' have another size than {size}", "submit it again")
    return name, Obj(name, digest, size, data), str(entry.get("task") or "")


def entries_of(app: AppSpec) -> list[str]:
    """Tasks that get injected items."""
    return app.entries or [task.name for task in app.tasks if not task.parents]


def input_bytes(
    args: SubmitArgs, app: AppSpec, inputs: list[tuple[str, Obj, str]], unknown: Collection[str] = ()
) -> dict[str, int]:
    """'home>entry' -> mean size of the inputs given or announced; INLINE_BYTES for those of `unknown` without any."""
    sizes = {entry: [obj.size for _, obj, task in inputs if task in ("", entry)] for entry in entries_of(app)}
    if args.input_bytes:
        sizes = {entry: given or [args.input_bytes] for entry, given in sizes.items()}
    sizes = {entry: given or [INLINE_BYTES] * (entry in unknown) for entry, given in sizes.items()}
    return {f"{HOME}>{entry}": sum(given) // len(given) for entry, given in sizes.items() if given}
