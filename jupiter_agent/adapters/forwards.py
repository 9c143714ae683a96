"""`port_mappings` of v5 apps: on the node of a task, the service port leads to the container port that the task opens.

There is no container around a task here, so the container port is opened by the task itself. A service port other than
that is served by the agent on all interfaces, and every connection is passed on to the container port on loopback. Two
tasks on one node that want one service port are a conflict: the first has it, the second one's log says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from jupiter_agent.core.effects import Notice, StartTask, StopTask

PIECE = 64 * 1024


class Forwards:
    """The service ports of the tasks on this node. `note` is told what cannot be opened."""

    def __init__(self, note: Callable[[Notice], None], host: str = "0.0.0.0") -> None:
        self._note, self._host = note, host
        self._servers: dict[tuple[str, str], list[asyncio.Server]] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def start(self, effect: StartTask) -> None:
        """Open the service ports of a task that starts here; idempotent."""
        key = (effect.job, effect.task.name)
        if not effect.ports or key in self._servers:
            return
        self._servers[key] = []
        for pair in effect.ports:
            service, _, container = pair.partition(":")
            if service != container:
                opening = asyncio.get_running_loop().create_task(self._open(key, int(service), int(container)))
                self._opening.add(opening)
                opening.add_done_callback(self._opening.discard)

    def stop(self, effect: StopTask) -> None:
        """Close those of a task that leaves, or of a whole job."""
        for key in [key for key in self._servers if key[0] == effect.job and effect.task in ("", key[1])]:
            for server in self._servers.pop(key):
                server.close()

    def close(self) -> None:
        for job, task in list(self._servers):
            self.stop(StopTask(job, task))

    async def _open(self, key: tuple[str, str], service: int, container: int) -> None:
        async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                try:
                    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", container)
                except OSError:
                    return
                with contextlib.closing(inner_writer):
                    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

        try:
            server = await asyncio.start_server(passed_on, self._host, service)
        except OSError as error:
            fields = {"job": key[0], "task": key[1], "port": service, "error": error.strerror or str(error)}
            self._note(Notice("error", "service port not opened", fields))
            return
        if key in self._servers:
            self._servers[key].append(server)
        else:
            server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction of a connection until its end, and pass the end on."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
