import asyncio
import socket

import pytest

from jupiter_agent.adapters.forwards import Forwards
from jupiter_agent.core.effects import Notice, StartTask, StopTask
from jupiter_agent.core.messages.jobs import TaskSpec

pytestmark = pytest.mark.smoke


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(task: str, *ports: str) -> StartTask:
    return StartTask("job", TaskSpec(task), b"B" * 32, "app", {}, list(ports))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"echo " + await reader.read())
    writer.close()


async def asked(port: int, data: bytes) -> bytes:
    for _ in range(100):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except OSError:
            await asyncio.sleep(0.01)
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


def test_what_comes_to_the_service_port_reaches_the_port_that_the_task_opened() -> None:
    async def main() -> bytes:
        container, service = free_port(), free_port()
        task = await asyncio.start_server(echo, "127.0.0.1", container)
        forwards = Forwards(lambda notice: None, "127.0.0.1")
        forwards.start(start("a", f"{service}:{container}"))
        answer = await asked(service, b"x" * 200_000)
        forwards.stop(StopTask("job"))
        task.close()
        return answer

    assert asyncio.run(main()) == b"echo " + b"x" * 200_000


def test_a_service_port_that_is_taken_is_said_and_the_task_goes_on() -> None:
    async def main() -> list[Notice]:
        notices: list[Notice] = []
        service = free_port()
        taken = await asyncio.start_server(echo, "127.0.0.1", service)
        forwards = Forwards(notices.append, "127.0.0.1")
        forwards.start(start("a", f"{service}:{free_port()}"))
        for _ in range(100):
            if notices:
                break
            await asyncio.sleep(0.01)
        forwards.close()
        taken.close()
        return notices

    [notice] = asyncio.run(main())
    assert (notice.event, notice.fields["task"]) == ("service port not opened", "a")


def test_a_stopped_task_leaves_its_service_port_free() -> None:
    async def main() -> None:
        service = free_port()
        forwards = Forwards(lambda notice: None, "127.0.0.1")
        for task in ("a", "b"):
            forwards.start(start(task, f"{service}:{free_port()}"))
            await asked(service, b"")
            forwards.stop(StopTask("job", task))
            await asyncio.sleep(0.05)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", service))

    asyncio.run(main())
