"""Task processes that raise, hang, exit, crash, fork, escape or lie; and an agent that is killed."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from runner_bench import Bench, left_of, on_bench, tasks_of

from jupiter_agent.adapters.runner import Limits
from jupiter_agent.core.effects import StartRun, StartTask, StopTask
from jupiter_agent.core.events import RunDone, RunFailed, TaskDown, TaskUp
from jupiter_agent.core.messages.jobs import Obj, TaskSpec

EVAL = """
    import ctypes, os, signal, subprocess, sys, threading, time
    def process(inputs, ctx):
        exec(inputs['input'].decode(), globals(), {'ctx': ctx})
        return str(os.getpid()).encode()
    """


@pytest.mark.smoke
def test_an_exception_fails_the_item_with_its_last_line_and_the_process_goes_on(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start("def process(inputs, ctx):\n    x = int(inputs['input'])\n    return b'ok'\n")
        failed = await bench.answer(bench.send(b"zero"))
        assert isinstance(failed, RunFailed)
        assert failed.kind == "error"
        assert failed.error == "t.py:2: ValueError: invalid literal for int() with base 10: b'zero'"
        assert await bench.run(b"1") == b"ok"
        log = await bench.logged("ValueError")
        assert "Traceback (most recent call last):" in log
        assert not [event for event in bench.events if isinstance(event, TaskDown)]

    on_bench(tmp_path, test)


def test_a_broken_contract_says_what_was_wrong(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start("def process(inputs, ctx):\n    return eval(inputs['input'])\n", children=["x"])
        for value, words in [(b"'text'", "returned a str"), (b"{'y': b''}", "naming 'y'; the children are x")]:
            failed = await bench.answer(bench.send(value))
            assert isinstance(failed, RunFailed)
            assert failed.kind == "contract"
            assert words in failed.error
        await bench.logged("naming 'y'")

    on_bench(tmp_path, test)


def test_an_attempt_over_its_time_is_killed_and_the_next_one_works(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL, timeout_s=0.4)
        slow, waiting = bench.send(b"os.system('sleep 60')"), bench.send(b"pass")
        start = time.monotonic()
        failed = await bench.answer(slow)
        assert isinstance(failed, RunFailed)
        assert (failed.kind, failed.error) == ("timeout", "t.py: TimeoutError: not done within 0.4 s")
        assert time.monotonic() - start < 2
        assert isinstance(await bench.answer(waiting), RunDone)
        kinds = [type(event) for event in bench.events]
        assert kinds == [TaskUp, RunFailed, TaskDown, TaskUp, RunDone]

    on_bench(tmp_path, test)


def test_a_timeout_ends_its_neighbours_as_exit(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL, timeout_s=0.6, parallel=2)
        slow = bench.send(b"time.sleep(60)")
        await bench.up()
        await asyncio.sleep(0.4)
        neighbour = bench.send(b"time.sleep(60)")
        assert [(await bench.answer(run)).kind for run in (slow, neighbour)] == ["timeout", "exit"]

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"sys.exit(3)", "exited with code 3"),
        (b"sys.exit()", "exited with code 0"),
        (b"os._exit(4)", "exited with code 4"),
        (b"os.kill(os.getpid(), 9)", "was killed by SIGKILL (out of memory?)"),
        (b"ctypes.string_at(0)", "was killed by SIGSEGV"),
        (b"os.abort()", "was killed by SIGABRT"),
        (b"os.close(int(sys.orig_argv[-4]))", "exited with code 1"),
        (b"os.write(int(sys.orig_argv[-4]), b'\\xff' * 100)", "disturbed its pipe"),
        (b"os.write(int(sys.orig_argv[-4]), b'\\0\\0\\0\\x02{}')", "disturbed its pipe"),
    ],
)
def test_a_process_that_ends_inside_a_run_fails_it_as_exit_and_is_back_at_once(
    tmp_path: Path, code: bytes, words: str
) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        failed = await bench.answer(bench.send(code))
        assert isinstance(failed, RunFailed)
        assert failed.kind == "exit"
        assert words in failed.error
        start = time.monotonic()
        assert isinstance(await bench.answer(bench.send(b"pass")), RunDone)
        assert time.monotonic() - start < 1

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("import nowhere", "error", "t.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        ("def process(:", "error", "t.py:1: SyntaxError: "),
        ("import sys; sys.exit(7)", "error", "t.py: SystemExit: 7"),
        ("import os; os._exit(7)", "error", "t.py: the process exited with code 7 while loading"),
        ("import os; os.kill(os.getpid(), 9)", "exit", "was killed by SIGKILL"),
        ("x = 1", "contract", "t.py defines no `process`"),
        ("import time; time.sleep(60)", "timeout", "t.py: not loaded within 1 s"),
    ],
)
def test_a_script_that_does_not_load_fails_the_runs_with_the_reason(
    tmp_path: Path, script: str, kind: str, words: str
) -> None:
    async def test(bench: Bench) -> None:
        bench.start(script)
        early = await bench.answer(bench.send())
        late = await bench.answer(bench.send())
        for answer in (early, late):
            assert isinstance(answer, RunFailed)
            assert answer.kind == kind
            assert words in answer.error
        assert words in (await bench.event(lambda e: isinstance(e, TaskDown))).error

    on_bench(tmp_path, test, Limits(load_s=1))


def test_what_does_not_load_is_tried_again_after_a_growing_pause(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        (bench.app / "data").write_text("broken")
        bench.start("import os\nassert open(os.path.dirname(__file__) + '/data').read() == 'good'\n" + BACK)
        downs: list[float] = []
        while len(downs) < 3:
            bench.events.clear()
            await bench.event(lambda e: isinstance(e, TaskDown))
            downs.append(time.monotonic())
        (bench.app / "data").write_text("good")
        assert 0.15 < downs[1] - downs[0] < 0.75
        assert 0.75 < downs[2] - downs[1] < 2  # the machine is shared
        bench.runner.stop_task(StopTask("j"))  # in the middle of the pause
        bench.start("import os\nassert open(os.path.dirname(__file__) + '/data').read() == 'good'\n" + BACK)
        assert await bench.run() == b"back"

    on_bench(tmp_path, test)


BACK = "def process(inputs, ctx):\n    return b'back'\n"


def test_a_run_for_an_unknown_task_or_with_a_lost_input_is_answered(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        assert (await bench.answer(bench.send(task="nobody"))).kind == "exit"
        bench.start(EVAL)
        lost = await bench.answer(bench.send([("input", [Obj("x", bytes(32), 1 << 20)])]))
        assert (lost.kind, "not in the store" in lost.error) == ("exit", True)
        hostile = await bench.answer(bench.send([("input", [Obj("../x", bytes(32), 1, b"1")])]))
        assert (hostile.kind, "no file name" in hostile.error) == ("exit", True)

    on_bench(tmp_path, test)


def test_a_file_that_a_process_forges_is_not_taken(tmp_path: Path) -> None:
    body = """
        import msgpack, os, sys
        def process(inputs, ctx):
            os.symlink('/etc/hostname', os.path.join(os.path.dirname(str(ctx.scratch)), 'out', '1.0'))
            frame = msgpack.packb(['done', 1, 0.0, [[[], 'x', None, 0, 5]]])
            os.write(int(sys.orig_argv[-4]), len(frame).to_bytes(4, 'big') + frame)
        """

    async def test(bench: Bench) -> None:
        bench.start(body)
        failed = await bench.answer(bench.send())
        assert isinstance(failed, RunFailed)
        assert "not a regular file" in failed.error

    on_bench(tmp_path, test)


@pytest.mark.smoke
def test_a_forked_child_that_returns_does_not_answer_twice(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await bench.up()
        runs = [bench.send(b"os.fork()"), bench.send(b"pass")]
        first, second = [(await bench.answer(run)).outputs[0][1].data for run in runs]
        assert first == second
        await asyncio.sleep(0.1)
        assert len(bench.events) == 3

    on_bench(tmp_path, test)


@pytest.mark.smoke
def test_an_address_space_limit_is_a_memory_error_of_the_item(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        failed = await bench.answer(bench.send(b"bytearray(1 << 30)"))
        assert isinstance(failed, RunFailed)
        assert failed.error.endswith("MemoryError (limits: address space, 512 MiB)")
        assert isinstance(await bench.answer(bench.send(b"pass")), RunDone)

    on_bench(tmp_path, test, Limits(address_space_bytes=512 << 20))


CHILDREN = {
    "in its group": "subprocess.Popen(['sleep', '60'])",
    "deaf to SIGTERM": "subprocess.Popen(['sh', '-c', 'trap \"\" TERM; while :; do sleep 60; done'])",
    "in a group of their own": "subprocess.Popen(['sleep', '60'], process_group=0)",
    "daemons in a session of their own": "subprocess.Popen(['sh', '-c', 'setsid sleep 60 &'])",
}


@pytest.mark.parametrize("code", CHILDREN.values(), ids=CHILDREN)
def test_stopping_a_task_ends_all_its_children(tmp_path: Path, code: str) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await bench.run(f"for _ in range(20): {code}\ntime.sleep(0.1)".encode())
        assert len(tasks_of(bench.folder)) > 20
        start = time.monotonic()
        bench.runner.stop_task(StopTask("j"))
        await bench.runner.close()
        assert left_of(bench.folder) == []
        assert time.monotonic() - start < 2

    on_bench(tmp_path, test)


def test_the_children_of_a_process_that_died_by_itself_are_ended_too(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await bench.answer(bench.send(b"subprocess.Popen(['setsid', 'sleep', '60'])\nos._exit(1)"))
        await bench.up(2)
        assert len(tasks_of(bench.folder)) == 1

    on_bench(tmp_path, test)


def test_a_task_that_will_not_end_is_killed_after_the_grace(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + textwrap.dedent(EVAL))
        bench.send(b"time.sleep(60)")
        await bench.up()
        start = time.monotonic()
        bench.runner.stop_task(StopTask("j"))
        await bench.runner.close()
        assert 0.4 < time.monotonic() - start < 2

    on_bench(tmp_path, test)


def test_stopping_before_the_process_is_ready_leaves_nothing(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        for pause in (0, 0.003, 0.01, 0.02):
            bench.start(EVAL)
            await asyncio.sleep(pause)
            bench.runner.stop_task(StopTask("j"))
        await bench.runner.close()
        assert len([event for event in bench.events if not isinstance(event, TaskUp)]) == 0

    on_bench(tmp_path, test)


AGENT = """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from runner_bench import Bench, Limits

    async def main():
        bench = Bench(Path({folder!r}), Limits())
        bench.start({script!r}, parallel=2)
        bench.send({code!r})
        await asyncio.sleep(60)

    asyncio.run(main())
    """

HANGS = {
    "waiting for work": "pass",
    "busy in Python": "while True: pass",
    "stuck in C code that keeps the interpreter": "ctypes.PyDLL(None).sleep(60)",
    "with a group of children": "for _ in range(5): subprocess.Popen(['sleep', '60'])\ntime.sleep(60)",
    "deaf to every signal that can be ignored": (
        "for n in set(signal.valid_signals()) - {9, 19}: signal.signal(n, signal.SIG_IGN)\ntime.sleep(60)"
    ),
}


@pytest.mark.parametrize("code", HANGS.values(), ids=HANGS)
def test_when_the_agent_is_killed_its_tasks_die_by_themselves(tmp_path: Path, code: str) -> None:
    main_thread_only = "signal" in code
    script = textwrap.dedent(EVAL) + "open(os.path.join(os.environ['HOME'], 'up'), 'w')\n"
    text = textwrap.dedent(AGENT).format(
        tests=str(Path(__file__).parent), folder=str(tmp_path), script=script, code=code.encode()
    )
    if main_thread_only:
        text = text.replace("parallel=2", "parallel=1")
    agent = subprocess.Popen([sys.executable, "-c", text])
    try:
        wait_until(lambda: list(tmp_path.glob("tasks/.work/*/home/up")) != [])
        time.sleep(0.3)
        assert len(tasks_of(tmp_path)) == (6 if "Popen" in code else 1)
    finally:
        agent.kill()
        agent.wait()
    wait_until(lambda: left_of(tmp_path) == [], 2)


def test_an_agent_that_starts_again_ends_what_escaped_from_the_last_one(tmp_path: Path) -> None:
    code = b"subprocess.Popen(['setsid', 'sleep', '60'])\ntime.sleep(60)"
    text = textwrap.dedent(AGENT).format(
        tests=str(Path(__file__).parent), folder=str(tmp_path), script=textwrap.dedent(EVAL), code=code
    )
    agent = subprocess.Popen([sys.executable, "-c", text])
    wait_until(lambda: len(tasks_of(tmp_path)) == 2)
    agent.kill()
    agent.wait()
    wait_until(lambda: len(tasks_of(tmp_path)) == 1, 2)
    (tmp_path / "app").rename(tmp_path / "old-app")
    (tmp_path / "store").rename(tmp_path / "old-store")

    async def test(bench: Bench) -> None:
        bench.start(EVAL)
        await bench.run(b"pass")
        assert len(tasks_of(tmp_path)) == 1
        assert len(list((bench.folder / ".work").iterdir())) == 1

    on_bench(tmp_path, test)


def wait_until(holds: Callable[[], bool], wait_s: float = 10) -> None:
    end = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_no_call_holds_up_the_loop(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        times = []

        def timed(call: Callable[..., None], *args: object) -> None:
            start = time.perf_counter()
            call(*args)
            times.append(time.perf_counter() - start)

        obj = bench.store.put("x", bytes(1 << 20))
        script = bench.script(EVAL)
        for n in range(10):
            timed(bench.runner.start_task, StartTask("j", TaskSpec(f"t{n}", script), b"bundle", "app", {}))
        await bench.up(10)
        for n in range(50):
            timed(bench.runner.start_run, StartRun(n, "j", f"t{n % 10}", "i", [("a", [obj])]))
        timed(bench.runner.stop_task, StopTask("j"))
        assert sorted(times)[int(0.9 * len(times))] < 0.003  # not the worst: the machine is shared

    on_bench(tmp_path, test)


def test_nothing_of_these_tests_is_left_on_the_machine(tmp_path: Path) -> None:
    mine = [child for child in psutil.Process(os.getpid()).children(recursive=True) if child.name() == "sleep"]
    assert mine == []
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_a_failing_run_is_answered_although_the_disk_takes_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def refuse_logs(fd: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".log"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    async def test(bench: Bench) -> None:
        bench.start(
            "def process(inputs, ctx):\n    print('x' * 3_000_000)\n    return str(int(inputs['input'])).encode()\n"
        )
        monkeypatch.setattr(os, "write", refuse_logs)
        failed = await bench.answer(bench.send(b"zero"))
        assert isinstance(failed, RunFailed)
        assert await bench.run(b"1") == b"1", "prints do not hold it up"

    on_bench(tmp_path, test)
