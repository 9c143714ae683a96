"""Mappers and WAVE rules of third parties, in a process of their own: what they do cannot hurt the agent.

Such code may raise, print, never return, take all memory or end its interpreter. So it is asked over a pipe, with a
deadline; a process that does not answer in time is killed, and the next question gets a new one. `python -m` of this
module is that process: MessagePack with four bytes of length before it, {"ready": ...}, {"solve": ...} or
{"choose": ...} in, {"value"} or {"error"} out. It ends when the agent does, for its input ends then. It is no sandbox:
who installs a package beside the agent trusts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Any

import msgspec

LENGTH = struct.Struct(">I")
MOST_BYTES = 64 << 20
MEMORY_BYTES = 4 << 30
SOLVE_S, CHOOSE_S = 60.0, 2.0
START_S = 10.0
"""A process has to start and to import before it is asked for the first time"""
ALARM_S = int(SOLVE_S + START_S) + 10


class Foreign:
    """One process, started when it is asked for the first time. Questions wait for each other."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def ask(self, question: dict[str, Any], within_s: float) -> dict[str, Any]:
        """{"value": ...} or {"error": why}; never raises. Takes `within_s` at most, and the start of the process."""
        async with self._turn:
            limit_s = START_S
            try:
                if self._process is None or self._process.returncode is not None:
                    await asyncio.wait_for(self._asked({"ready": question.get("rule", "")}), limit_s)
                limit_s = within_s
                return await asyncio.wait_for(self._asked(question), limit_s)
            except TimeoutError:
                return await self._failed(f"no answer within {limit_s:g} s: it was killed")
            except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
                return await self._failed(f"its process ended: {error or type(error).__name__}")

    async def _asked(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._process.returncode is not None:
            command = [sys.executable, "-P", "-m", "jupiter_agent.adapters.foreign"]
            self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        into, out = self._process.stdin, self._process.stdout
        assert into is not None
        assert out is not None
        frame = msgspec.msgpack.encode(question)
        into.write(LENGTH.pack(len(frame)) + frame)
        await into.drain()
        (size,) = LENGTH.unpack(await out.readexactly(LENGTH.size))
        if size > MOST_BYTES:
            raise ValueError(f"an answer of {size} bytes")
        answer: dict[str, Any] = msgspec.msgpack.decode(await out.readexactly(size), type=dict[str, Any])
        return answer

    async def _failed(self, why: str) -> dict[str, Any]:
        await self.close()
        return {"error": why}

    async def close(self) -> None:
        """End the process, whatever it does."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


# --- the process itself ------------------------------------------------------------------------------------------


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked. Whatever goes wrong is an answer."""
    try:
        if "ready" in question:
            _import(question["ready"])
            return {"value": None}
        if "choose" in question:
            from schedulers import rules

            return {"value": rules.ask(rules.load(question["rule"]), rules.from_plain(question["choose"]))}
        from jupiter_agent.adapters.solver import solve
        from jupiter_agent.core.effects import Solve

        return {"value": msgspec.to_builtins(solve(msgspec.convert(question["solve"], Solve)))}
    except BaseException as error:  # noqa: BLE001 - third parties may raise anything, SystemExit too
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


def _import(rule: str) -> None:
    """Import what questions need, `rule` among it. What goes wrong is said when it is asked for."""
    import jupiter_agent.adapters.solver  # noqa: F401
    from schedulers import rules

    if rule:
        with contextlib.suppress(Exception):
            rules.load(rule)


def main() -> None:
    """Answer until the input ends. What the code prints goes nowhere."""
    into, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    while len(head := into.read(LENGTH.size)) == LENGTH.size:
        frame = into.read(LENGTH.unpack(head)[0])
        signal.alarm(ALARM_S)  # kills this process although the agent, which would do it, is gone
        said = msgspec.msgpack.encode(answer(msgspec.msgpack.decode(frame)))
        signal.alarm(0)
        out.write(LENGTH.pack(len(said)) + said)
        out.flush()


if __name__ == "__main__":
    main()
