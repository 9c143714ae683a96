"""Tasks of the file contracts when their agent is killed, or they are stopped: nothing goes on, own root or not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runner_bench import BOTH, Bench, left_of, on_bench, tasks_of

from jupiter_agent.core.effects import StopTask
from jupiter_agent.core.messages.jobs import TaskSpec

SCRIPTS = {
    "scripts/v4.py": "import subprocess\ndef task(f, i, o):\n    subprocess.call(['sleep', '62'])\n",
    "v5.py": "import subprocess\ndef task(q, i, o, n):\n    q.get()\n    subprocess.call(['sleep', '62'])\n",
    "scripts/beside.py": "import subprocess\nsubprocess.call(['sleep', '62'])\n",
}
SPECS = {
    "command": TaskSpec("t", command=["sh", "-c", "sleep 62; true"], contract="command"),
    "v4": TaskSpec("t", "scripts/v4.py", contract="v4", extra={"inputs": 1}),
    "v5": TaskSpec("t", "v5.py", contract="v5"),
    "beside": TaskSpec("t", "scripts/beside.py", contract="v4", extra={"role": "nondag", "main": True}),
}
EACH = {"command": 3, "v4": 2, "v5": 2, "beside": 2}
"""processes of the task when it is at work"""

AGENT = """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from runner_bench import Bench, Limits
    from test_runner_killed import start

    async def main():
        start(Bench(Path({folder!r}), Limits(), {isolation!r}), {name!r})
        await asyncio.sleep(60)

    asyncio.run(main())
    """


def start(bench: Bench, name: str) -> None:
    for path, body in SCRIPTS.items():
        bench.file(path, body)
    bench.begin(SPECS[name])
    if name != "beside":
        bench.give(("input", "f", b""))


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@BOTH
@pytest.mark.parametrize("name", SPECS)
def test_when_the_agent_is_killed_its_tasks_die_by_themselves(tmp_path: Path, name: str, isolation: str) -> None:
    tests = str(Path(__file__).parent)
    text = textwrap.dedent(AGENT).format(tests=tests, folder=str(tmp_path), name=name, isolation=isolation)
    agent = subprocess.Popen([sys.executable, "-c", text])
    try:
        wait_until(lambda: len(tasks_of(tmp_path)) == EACH[name])
    finally:
        agent.kill()
        agent.wait()
    wait_until(lambda: left_of(tmp_path) == [], 3)


@BOTH
@pytest.mark.parametrize("name", SPECS)
def test_a_task_that_is_stopped_at_work_leaves_nothing(tmp_path: Path, name: str, isolation: str) -> None:
    async def test(bench: Bench) -> None:
        start(bench, name)
        while len(tasks_of(bench.folder)) < EACH[name]:
            await asyncio.sleep(0.02)
        bench.runner.stop_task(StopTask("j"))
        started = time.monotonic()
        while left_of(bench.folder):
            await asyncio.sleep(0.02)
        assert time.monotonic() - started < 3

    on_bench(tmp_path, test, None, isolation)
