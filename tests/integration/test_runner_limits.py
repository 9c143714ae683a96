"""What a task cannot do to its node: use more than it may, stay behind, read or change what is not its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runner_bench import BOTH, Bench, in_bubblewrap, left_of, on_bench, tasks_of

from jupiter_agent.adapters.limits import MIB, Limits
from jupiter_agent.adapters.sandbox import find
from jupiter_agent.core.effects import StopTask
from jupiter_agent.core.events import RunDone
from jupiter_agent.core.messages.jobs import TaskSpec

EVAL = """
    import ctypes, mmap, os, resource, signal, socket, subprocess, sys, tempfile, threading, time
    def process(inputs, ctx):
        scope = {**globals(), 'ctx': ctx, 'inputs': inputs}
        exec(inputs['input'].decode(), scope)
        return str(scope.get('said', '')).encode()
    """


async def fails(bench: Bench, code: str, words: str, wait_s: float = 40) -> None:
    """This item fails with these words, and the next one is done by the process that follows."""
    answer = await bench.answer(bench.send(code.encode()), wait_s)
    assert not isinstance(answer, RunDone), "it went through"
    assert words in answer.error
    assert await bench.run(b"said = 'well'") == b"well"


# --- limits


@BOTH
def test_memory_of_all_processes_together_is_bounded_and_the_error_names_the_limit(
    tmp_path: Path, isolation: str
) -> None:
    code = (
        "for _ in range(4):\n"
        "    if not os.fork():\n"
        "        held = b'x' * (80 << 20)\n"
        "        time.sleep(60)\n"
        "time.sleep(60)"
    )

    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await fails(bench, code, "over its limit: more than 200 MiB of memory (limits: memory)")

    on_bench(tmp_path, test, Limits(memory_bytes=200 * MIB), isolation, wait_s=90)


def test_an_app_sets_its_own_limits_and_one_process_is_refused_what_is_far_beyond(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL, extra={"limits": {"memory": 300 * MIB}})
        await fails(bench, "bytearray(4 << 30)", "MemoryError (limits: memory, 300 MiB)")
        await fails(bench, "x = b'x' * (600 << 20)\ntime.sleep(60)", "more than 300 MiB of memory")

    on_bench(tmp_path, test)


@BOTH
def test_a_fork_bomb_is_bounded_and_nothing_of_it_is_left(tmp_path: Path, isolation: str) -> None:
    code = "while True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(0.01)"

    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await fails(bench, code, "over its limit: more than 64 processes (limits: processes)")
        assert len(tasks_of(bench.folder)) == 1

    on_bench(tmp_path, test, Limits(processes=64), isolation, wait_s=90)


@BOTH
def test_the_bytes_in_its_folder_are_bounded_in_one_file_and_in_many(tmp_path: Path, isolation: str) -> None:
    one = "open(ctx.scratch / 'f', 'wb').write(bytes(40 << 20))"
    many = (
        "for n in range(1000):\n"
        "    open(ctx.scratch / str(n), 'wb').write(bytes(1 << 20))\n"
        "    time.sleep(0.005)\n"
        "time.sleep(60)"
    )

    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await fails(bench, one, "OSError: [Errno 27] File too large (limits: disk, 32 MiB)")
        await fails(bench, many, "over its limit: more than 32 MiB in its folder (limits: disk)")

    on_bench(tmp_path, test, Limits(scratch_bytes=32 * MIB), isolation, wait_s=90)


@BOTH
def test_ten_thousand_open_files_are_refused_by_name(tmp_path: Path, isolation: str) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        code = "held = [open('/dev/null') for _ in range(10_000)]"
        await fails(bench, code, "Too many open files: '/dev/null' (limits: files, 4096 open at once)")

    on_bench(tmp_path, test, None, isolation, wait_s=90)


def test_a_task_without_a_time_limit_has_the_nodes(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await fails(bench, "time.sleep(60)", "not done within 0.5 s")

    on_bench(tmp_path, test, Limits(run_s=0.5))


@BOTH
def test_a_gigabyte_of_prints_is_counted_not_kept(tmp_path: Path, isolation: str) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        answer = await bench.answer(bench.send(b"for _ in range(1024): sys.stdout.write('x' * (1 << 20))"), 60)
        assert isinstance(answer, RunDone)
        assert "bytes that followed were counted, not kept" in bench.log()[-200:]
        assert len(bench.log()) < 2 * MIB

    on_bench(tmp_path, test, Limits(log_bytes=MIB), isolation, wait_s=90)


def test_a_task_may_be_kept_to_some_of_the_cores_and_comes_after_its_agent(tmp_path: Path) -> None:
    code = b"said = len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'], os.nice(0)"

    async def test(bench: Bench) -> None:
        bench.start(EVAL, extra={"limits": {"cpus": 1}})
        assert await bench.run(code) == str((1, "1", os.nice(0) + 5)).encode()

    on_bench(tmp_path, test)


@BOTH
def test_a_kill_by_the_kernel_is_told_from_one_by_a_limit(tmp_path: Path, isolation: str) -> None:
    """As its OOM killer ends a process, and as user code may end itself."""

    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await fails(bench, "os.kill(os.getpid(), 9)", "the process was killed by SIGKILL (out of memory?)")
        await fails(bench, "ctypes.string_at(0)", "the process was killed by SIGSEGV")
        await fails(bench, "sys.exit(3)", "the process exited with code 3")

    on_bench(tmp_path, test, None, isolation, wait_s=90)


CGROUP = Path("/sys/fs/cgroup/memory/jupiter-agent-tests")


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A memory cgroup (v1) of 64 MiB."""
    try:
        CGROUP.mkdir(exist_ok=True)
        (CGROUP / "memory.limit_in_bytes").write_text(str(64 * MIB))
    except OSError:
        pytest.skip("no memory cgroup can be made here")
    yield CGROUP
    deadline = time.monotonic() + 3
    while (CGROUP / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    CGROUP.rmdir()


@BOTH
def test_a_task_that_the_kernel_ends_for_want_of_memory_is_told_so(
    tmp_path: Path, isolation: str, little_memory: Path
) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await bench.up()
        for process in tasks_of(bench.folder):
            (little_memory / "cgroup.procs").write_text(str(process.pid))
        await fails(bench, "x = b'x' * (300 << 20)", "was killed by SIGKILL (the kernel ran out of memory)")

    on_bench(tmp_path, test, None, isolation, wait_s=90)


# --- staying behind

ESCAPES = {
    "a session of its own": "subprocess.Popen(['setsid', 'sleep', '63'])",
    "a double fork": "subprocess.run(['sh', '-c', 'setsid sleep 63 &'])",
    "a double fork with a clean environment": (
        "subprocess.run(['sh', '-c', 'setsid sh -c \"sleep 63 & sleep 63\" &'], env={'PATH': os.environ['PATH']})"
    ),
    "deaf to signals": (
        "subprocess.run(['setsid', '-f', 'sh', '-c', 'trap \"\" HUP INT TERM QUIT; sleep 63; :'],"
        " env={'PATH': os.environ['PATH']})"
    ),
}


def sleepers() -> list[int]:
    """Processes of these tests, whoever their parent is."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and Path(f"/proc/{name}/cmdline").read_bytes() == b"sleep\x0063\x00":
                found.append(int(name))
        except OSError:
            pass
    return found


@pytest.fixture
def nobody_else() -> None:
    """Sleepers of other runs of these tests must not be counted."""
    for pid in sleepers():
        os.kill(pid, signal.SIGKILL)


@BOTH
@pytest.mark.parametrize("code", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("end", ["stop", "die"])
@pytest.mark.usefixtures("nobody_else")
def test_whatever_leaves_its_session_ends_with_its_task(tmp_path: Path, isolation: str, code: str, end: str) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await bench.run(f"{code}\ntime.sleep(0.2)".encode())
        assert sleepers()
        if end == "stop":
            bench.runner.stop_task(StopTask("j"))
        else:
            await bench.answer(bench.send(b"os._exit(1)"))
        deadline = time.monotonic() + 3
        while sleepers():
            assert time.monotonic() < deadline, "it is still there"
            await asyncio.sleep(0.02)

    on_bench(tmp_path, test, None, isolation, wait_s=90)


@pytest.mark.usefixtures("nobody_else")
def test_what_one_task_started_lives_on_when_another_task_ends(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        bench.start(EVAL, task="u")
        await bench.run(b"subprocess.run(['sh', '-c', 'setsid sleep 63 &'])\ntime.sleep(0.2)")
        await bench.answer(bench.send(b"os._exit(1)", task="u"))
        await asyncio.sleep(0.3)
        assert len(sleepers()) == 1

    on_bench(tmp_path, test, None, "none")


def test_an_agent_that_starts_removes_what_the_last_one_left_even_before_it_starts_a_task(tmp_path: Path) -> None:
    left = tmp_path / "tasks" / ".work" / "7-t" / "home"
    left.mkdir(parents=True)
    (left / "locked").mkdir()
    (left / "locked" / "file").write_text("x")
    (left / "locked").chmod(0)

    async def test(bench: Bench) -> None:
        await bench.runner.sandbox()
        await bench.runner.close()

    on_bench(tmp_path, test)
    assert not left.exists()


# --- what a task sees

LOOK = """
    import json, os
    def can(path, mode):
        try:
            open(path, mode).close()
            return True
        except OSError:
            return False
    def process(inputs, ctx):
        folder = os.path.dirname(os.path.abspath(__file__))
        state = os.path.dirname(folder)
        status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
        return json.dumps({
            'keys': can(os.path.join(state, 'node.json'), 'r'),
            'other app': can(os.path.join(state, 'store', 'secret'), 'r'),
            'own script': can(__file__, 'r'),
            'change the app': can(os.path.join(folder, 'new'), 'w'),
            'changed the state': can(os.path.join(state, 'new'), 'w') and '/tmp' not in state,
            'change the system': can('/etc/new', 'w') or can('/new', 'w') or can('/dev/new', 'w'),
            'homes': sorted(os.listdir('/home')) if os.path.isdir('/home') else [],
            'scratch': can(ctx.scratch / 'new', 'w') and can('/tmp/new', 'w') and can('/dev/shm/new', 'w'),
            'input': len(inputs['input']),
            'change the input': can(inputs.sources['input'][1], 'r+'),
            'capabilities': status['CapEff'].strip(),
            'new privileges': status['NoNewPrivs'].strip(),
            'processes': sum(name.isdigit() for name in os.listdir('/proc')),
            'network': bool(os.path.exists('/sys/class/net/lo')),
        }).encode()
    """


@in_bubblewrap
@pytest.mark.smoke
def test_in_a_sandbox_a_task_sees_its_app_its_inputs_and_its_folder(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text("secret")

    async def test(bench: Bench) -> None:
        (bench.store.folder / "secret").write_text("of another job")
        bench.start(LOOK)
        seen: dict[str, Any] = json.loads(await bench.run(bytes(2 * MIB)))
        assert seen.pop("processes") <= 3
        assert seen == {
            "keys": False, "other app": False, "own script": True, "change the app": False, "changed the state": False,
            "change the system": False, "homes": [], "scratch": True, "input": 2 * MIB, "change the input": False,
            "capabilities": "0" * 16, "new privileges": "1", "network": True,
        }  # fmt: skip
        assert not (tmp_path / "new").exists(), "that was in its own /tmp"
        assert not list((bench.folder / ".work").glob("*/in/*")), "an input is shown as long as its run lasts"

    on_bench(tmp_path, test, None, "bwrap")


@in_bubblewrap
def test_the_old_absolute_paths_of_v4_and_v5_are_there_in_a_sandbox_for_programs_too(tmp_path: Path) -> None:
    v4 = """
        import subprocess
        def task(f, pathin, pathout):
            subprocess.check_call(f'cp /centralized_scheduler/data {pathout}/made', shell=True)
        """
    v5 = """
        import os, subprocess
        def task(q, pathin, pathout, name):
            file = q.get()
            app = '/jupiter/build/app_specific_files/' + os.environ['JUPITER_APP']
            subprocess.check_call(f'cp {app}/data /jupiter/circe_output/u_home_made', shell=True)
            q.task_done()
            q.get()
        """

    async def test(bench: Bench) -> None:
        bench.file("data", "of the app")
        bench.script(v5, "u.py")
        bench.file("scripts/t.py", v4)
        bench.begin(TaskSpec("t", "scripts/t.py", children=["home"], contract="v4", extra={"inputs": 1}))
        bench.begin(TaskSpec("u", "u.py", children=["home"], contract="v5"))
        for task in ("t", "u"):
            given = await bench.outputs(bench.give(("input", "1k", b"x"), task=task))
            assert [data for _, _, data in given] == [b"of the app"]

    on_bench(tmp_path, test, None, "bwrap")


@in_bubblewrap
def test_a_folder_that_is_exposed_can_be_read_and_not_written(tmp_path: Path) -> None:
    data = tmp_path / "models"
    data.mkdir()
    (data / "m").write_text("weights")
    code = f"said = open('{data}/m').read(), os.access('{data}/m', os.W_OK)"

    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        assert await bench.run(code.encode()) == b"('weights', False)"

    on_bench(tmp_path, test, None, "bwrap")


@in_bubblewrap
def test_large_files_of_a_home_script_are_shown_until_it_has_them(tmp_path: Path) -> None:
    body = """
        import os
        def task(q, pathin, pathout, name):
            while True:
                file = q.get()
                size = os.path.getsize(os.path.join(pathin, file))
                open(os.path.join(pathout, 'home_t_' + file.split('_')[-1]), 'w').write(str(size))
        """

    async def test(bench: Bench) -> None:
        from jupiter_agent.core.effects import Deliver

        bench.script(body, "home.py")
        spec = TaskSpec("home", "home.py", children=["t"], contract="v5", extra={"role": "home"})
        bench.begin(spec)
        big = bench.store.put("big", bytes(3 * MIB))
        bench.runner.deliver(Deliver("j", "home", "t", "item", [big]))
        made = await bench.event(lambda event: getattr(event, "obj", None) is not None)
        assert bench.store.get(made.obj) == str(3 * MIB).encode()
        deadline = time.monotonic() + 3
        while list((bench.folder / ".work").glob("*/in/*")):
            assert time.monotonic() < deadline, "the link is still there"
            await asyncio.sleep(0.01)

    on_bench(tmp_path, test, None, "bwrap")


def test_without_bubblewrap_the_reason_is_said_and_demanding_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupiter_agent.errors import UsageError

    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    assert find("auto", tmp_path).missing == "bubblewrap is not installed"
    (programs / "bwrap").write_text(f"#!{sys.executable}\nimport sys\nsys.exit('bwrap: no permission')\n")
    (programs / "bwrap").chmod(0o755)
    found = find("auto", tmp_path)
    assert (found.kind, found.missing) == ("limits", "bubblewrap does not work here: bwrap: no permission")
    with pytest.raises(UsageError, match="no permission"):
        find("bwrap", tmp_path)
    assert not left_of(tmp_path)
