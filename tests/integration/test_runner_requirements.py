"""Apps that bring a requirements.txt: installed once, from a wheel made here; no network."""

from __future__ import annotations

import asyncio
import time
import zipfile
from pathlib import Path

import pytest
from runner_bench import Bench, on_bench

from jupiter_agent.adapters import requirements
from jupiter_agent.core.effects import ProfileApp, StopTask
from jupiter_agent.core.events import Profiled, RunFailed
from jupiter_agent.core.messages.jobs import TaskSpec

pytestmark = pytest.mark.slow

USES = """
    import msgpack, numpy, sys, tiny_thing
    def process(inputs, ctx):
        return repr((tiny_thing.VALUE, int(numpy.arange(4).sum()), msgpack.__name__, sys.prefix)).encode()
    """


def wheel(folder: Path, name: str, version: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", body)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def environments(bench: Bench) -> list[str]:
    return [path.name for path in (bench.folder / ".requirements").iterdir() if path.is_dir()]


def test_an_apps_wheels_are_installed_once_beside_what_the_agent_has(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        wheel(bench.app / "wheels", "tiny_thing", "1.0", "VALUE = 7\n")
        bench.file("requirements.txt", "# ours\ntiny-thing\nnumpy\n")
        bench.file(
            "command.sh", "#!/bin/sh\npython -c 'import tiny_thing as t; print(t.VALUE)' > $JUPITER_OUT/v\n", 0o755
        )
        bench.start(USES)
        bench.start(USES, task="u")
        bench.begin(TaskSpec("c", command=["./command.sh"], contract="command"))
        first = await asyncio.gather(*[bench.answer(bench.send(task=task), 20) for task in "tu"])
        value, total, name, prefix = eval(first[0].outputs[0][1].data)
        assert (value, total, name) == (7, 6, "msgpack")
        assert Path(prefix).parent == bench.folder / ".requirements"
        assert await bench.outputs(bench.give(task="c")) == [("", "v", b"7\n")]
        bench.start(USES, job="j2")
        started = time.monotonic()
        assert eval(await bench.run(job="j2"))[0] == 7
        assert time.monotonic() - started < 1
        assert len(environments(bench)) == 1
        bench.runner.profile(ProfileApp("j", b"bundle", bench.store.put("s", b""), 10.0), [TaskSpec("t", "t.py")])
        assert (await bench.event(lambda e: isinstance(e, Profiled))).complete

    on_bench(tmp_path, test)


def test_what_cannot_be_installed_is_a_contract_error_and_tried_again(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        (bench.app / "wheels").mkdir()
        bench.file("requirements.txt", "tiny-thing==1.0\n")
        bench.start(USES)
        failed = await bench.answer(bench.send(), 20)
        assert isinstance(failed, RunFailed)
        assert failed.kind == "contract"
        assert failed.error.startswith("requirements.txt: ERROR: ")
        assert "No matching distribution found for tiny-thing==1.0" in failed.error
        wheel(bench.app / "wheels", "tiny_thing", "1.0", "VALUE = 8\n")
        await bench.up()
        assert eval(await bench.run())[0] == 8

    on_bench(tmp_path, test)


def test_a_stop_does_not_wait_for_pip_and_the_loop_never_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "pip", lambda app, path: ["sleep", "60"])

    async def test(bench: Bench) -> None:
        bench.file("requirements.txt", "something\n")
        bench.start(USES)
        bench.send()
        slowest, until = 0.0, time.monotonic() + 0.8
        while time.monotonic() < until:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.monotonic() - before)
        bench.runner.stop_task(StopTask("j"))
        started = time.monotonic()
        await bench.runner.close()
        assert time.monotonic() - started < 2
        assert slowest < 0.5
        assert bench.events == []

    on_bench(tmp_path, test)


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_an_empty_list_asks_for_nothing(tmp_path: Path, text: str) -> None:
    async def test(bench: Bench) -> None:
        bench.file("requirements.txt", text)
        bench.start("def process(inputs, ctx):\n    return b'ok'\n")
        assert await bench.run() == b"ok"
        assert not (bench.folder / ".requirements").exists()

    on_bench(tmp_path, test)
