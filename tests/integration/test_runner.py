"""Real task processes: what they are given, what they give, and how they are kept."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

import pytest
from runner_bench import Bench, on_bench

from jupiter_agent.adapters.runner import Limits
from jupiter_agent.core.effects import ProfileApp, StopTask
from jupiter_agent.core.events import Profiled, RunDone, TaskDown
from jupiter_agent.core.messages.jobs import INLINE_BYTES, TaskSpec

ECHO = """
    def process(inputs, ctx):
        return inputs['input']
    """


@pytest.mark.smoke
def test_an_item_goes_through_and_its_time_is_measured(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start("import time\ndef process(inputs, ctx):\n    time.sleep(0.05)\n    return inputs['input'][::-1]\n")
        done = await bench.answer(bench.send(b"abc"))
        assert isinstance(done, RunDone)
        [(children, obj)] = done.outputs
        assert (children, obj.name, obj.data, obj.size) == ([], "t", b"cba", 3)
        assert bench.store.get(obj) == b"cba"
        assert 0.04 < done.seconds < 1

    on_bench(tmp_path, test)


def test_runs_sent_before_the_process_is_ready_wait_for_it(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(ECHO)
        runs = [bench.send(b"%d" % n) for n in range(5)]
        assert [(await bench.answer(run)).outputs[0][1].data for run in runs] == [b"0", b"1", b"2", b"3", b"4"]

    on_bench(tmp_path, test)


def test_in_a_crowd_a_process_starts_with_its_first_item_and_none_that_is_stopped_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupiter_agent.adapters.ahead.runnable", lambda: 1000)

    async def test(bench: Bench) -> None:
        bench.start(ECHO)
        bench.start(ECHO, task="never")
        await asyncio.sleep(1.0)
        assert not list((bench.folder / ".work").glob("*")), "nobody waits for either"
        bench.runner.stop_task(StopTask("j", "never"))
        assert (await bench.answer(bench.send(b"x"))).outputs[0][1].data == b"x"
        assert list((bench.folder / ".work").glob("*-t")), "so that is where they would have been"

    on_bench(tmp_path, test)


def test_a_process_stays_warm_and_another_job_of_the_app_has_its_own(tmp_path: Path) -> None:
    body = """
        import os
        count = 0
        def process(inputs, ctx):
            global count
            count += 1
            return f'{os.getpid()} {count}'.encode()
        """

    async def test(bench: Bench) -> None:
        bench.start(body)
        bench.start(body, job="j2")
        bench.start(body)  # idempotent
        first, second, other = await bench.run(), await bench.run(), await bench.run(job="j2")
        assert first.split()[0] == second.split()[0] != other.split()[0]
        assert [answer.split()[1] for answer in (first, second, other)] == [b"1", b"2", b"1"]

    on_bench(tmp_path, test)


@pytest.mark.smoke
def test_a_new_description_is_a_new_process(tmp_path: Path) -> None:
    body = "import os\ndef process(inputs, ctx):\n    return f\"{os.getpid()} {ctx.params['k']}\".encode()\n"

    async def test(bench: Bench) -> None:
        bench.start(body, job_params={"k": "1"})
        first = await bench.run()
        bench.start(body, params={"k": "task"}, job_params={"k": "2"})
        second = await bench.run()
        assert first.split()[0] != second.split()[0]
        assert (first.split()[1], second.split()[1]) == (b"1", b"2")

    on_bench(tmp_path, test)


def test_megabytes_go_in_and_out_through_files(tmp_path: Path) -> None:
    body = """
        def process(inputs, ctx):
            with open(ctx.path('b'), 'r+b') as file:
                file.write(b'harm')
            (ctx.scratch / 'twice.bin').write_bytes(inputs['a'] * 2)
            return {'x': inputs['a'] + inputs['b'], 'y': ctx.scratch / 'twice.bin', 'z': b'small'}
        """

    async def test(bench: Bench) -> None:
        a, b = os.urandom(1 << 20), os.urandom(1 << 20)
        objects = [bench.store.put("a.bin", a), bench.store.put("b.bin", b)]
        bench.start(body, children=["x", "y", "z"])
        done = await bench.answer(bench.send([("a", objects[:1]), ("b", objects[1:])]))
        assert isinstance(done, RunDone)
        got = {children[0]: obj for children, obj in done.outputs}
        assert {name: bench.store.get(obj) for name, obj in got.items()} == {"x": a + b, "y": a * 2, "z": b"small"}
        assert [obj.name for obj in got.values()] == ["t", "twice.bin", "t"]
        assert [obj.data is None for obj in got.values()] == [True, True, False]
        assert [bench.store.get(obj) for obj in objects] == [a, b]

    on_bench(tmp_path, test)


def test_the_limit_between_inline_and_file_is_exact(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start("def process(inputs, ctx):\n    return bytes(int(inputs['input']))\n")
        for size in (INLINE_BYTES, INLINE_BYTES + 1):
            done = await bench.answer(bench.send(str(size).encode()))
            assert isinstance(done, RunDone)
            assert (done.outputs[0][1].data is None) == (size > INLINE_BYTES)

    on_bench(tmp_path, test)


def test_a_dict_routes_and_none_is_for_nobody(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start("def process(inputs, ctx):\n    return eval(inputs['input'])\n", children=["x", "y"])
        done = await bench.answer(bench.send(b"{'y': b'1'}"))
        assert isinstance(done, RunDone)
        assert [(children, obj.data) for children, obj in done.outputs] == [(["y"], b"1")]
        assert (await bench.run(b"None")).outputs == []
        assert (await bench.run(b"{}")).outputs == []

    on_bench(tmp_path, test)


def test_several_objects_of_one_parent_have_keys_with_their_names(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start("def process(inputs, ctx):\n    return repr(sorted(inputs.items())).encode()\n")
        objects = [bench.store.put("p.txt", b"1"), bench.store.put("q.txt", b"2")]
        got = await bench.run([("a", objects), ("b", [bench.store.put("r", b"3")]), ("c", [])])
        assert got == b"[('a/p.txt', b'1'), ('a/q.txt', b'2'), ('b', b'3')]"

    on_bench(tmp_path, test)


def test_parallel_runs_that_many_at_once_and_no_more(tmp_path: Path) -> None:
    body = """
        import threading, time
        inside, most, lock = 0, 0, threading.Lock()
        def process(inputs, ctx):
            global inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            (ctx.scratch / 'mine').touch(exist_ok=False)
            time.sleep(0.15)
            with lock:
                inside -= 1
            return b'%d' % most
        """

    async def test(bench: Bench) -> None:
        bench.start(body, parallel=3)
        await bench.up()
        start = time.monotonic()
        answers = [await bench.answer(run) for run in [bench.send() for _ in range(6)]]
        assert max(answer.outputs[0][1].data for answer in answers) == b"3"
        assert 0.29 < time.monotonic() - start < 0.8

    on_bench(tmp_path, test)


@pytest.mark.smoke
def test_scratch_is_the_working_folder_and_empty_for_each_item(tmp_path: Path) -> None:
    body = """
        import os
        def process(inputs, ctx):
            assert os.getcwd() == str(ctx.scratch)
            before = os.listdir()
            open('left', 'w').close()
            os.makedirs('deep/er')
            os.chdir('/')
            return repr(before).encode()
        """

    async def test(bench: Bench) -> None:
        bench.start(body)
        assert [await bench.run(), await bench.run()] == [b"[]", b"[]"]

    on_bench(tmp_path, test)


def test_a_task_sees_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPITER_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    body = """
        import json, os, resource, sys, tempfile
        def process(inputs, ctx):
            status = open('/proc/self/status').read()
            return json.dumps({
                'env': dict(os.environ), 'fds': sorted(os.listdir('/proc/self/fd')), 'stdin': os.readlink('/proc/self/fd/0'),
                'privs': 'NoNewPrivs:\\t1' in status, 'core': resource.getrlimit(resource.RLIMIT_CORE)[1],
                'umask': os.umask(0o077), 'leader': os.getsid(0) == os.getpgrp() == os.getpid(),
                'tmp': tempfile.gettempdir(), 'path': sys.path, 'name': __name__, 'main': sys.argv,
            }).encode()
        """  # noqa: E501

    async def test(bench: Bench) -> None:
        import json

        bench.start(body)
        got = json.loads(await bench.run())
        env = got["env"]
        assert "secret" not in str(env)
        assert (env["JUPITER_JOB"], env["JUPITER_TASK"], env["JUPITER_APP"]) == ("j", "t", "app")
        assert env["OMP_NUM_THREADS"] == "1"
        assert env["HOME"] == got["tmp"]
        assert env["HOME"].startswith(str(bench.folder))
        assert set(env) <= {
            "PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HOME", "TMPDIR", "OMP_NUM_THREADS",
            "JUPITER_JOB", "JUPITER_TASK", "JUPITER_APP", "JUPITER_PROCESS", "LC_CTYPE",
        }  # fmt: skip
        assert len(got["fds"]) <= 8  # three standard ones, socket, lifeline, two of the meter, the listing itself
        assert got["stdin"] == "/dev/null"
        assert got["privs"]
        assert got["leader"]
        assert (got["core"], got["umask"]) == (0, 0o077)
        assert got["path"][0] == str(bench.app)
        assert (got["name"], got["main"]) == ("t", [str(bench.app / "t.py")])
        assert [path.name for path in bench.app.iterdir()] == ["t.py"]  # no bytecode beside it

    on_bench(tmp_path, test)


def test_prints_and_ctx_log_interleave_in_order_with_the_time_in_front(tmp_path: Path) -> None:
    body = """
        import sys, os
        def process(inputs, ctx):
            print('one')
            ctx.log.info('two %d', 2)
            print('three', file=sys.stderr)
            os.system('echo four')
            print('five', end='')
            ctx.log.warning('six\\nseven')
        """

    async def test(bench: Bench) -> None:
        bench.start(body)
        await bench.run()
        lines = (await bench.logged("seven\n")).splitlines()
        assert [line.split(" ", 1)[1] for line in lines] == [
            "one", "INFO two 2", "three", "four", "fiveWARNING six", "seven"
        ]  # fmt: skip
        stamps = [line.split(" ", 1)[0] for line in lines]
        assert all(
            time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S") and stamp[19] == "." and stamp[-1] == "Z" for stamp in stamps
        )
        data, end = bench.runner.read_log("j", "t", 5, 7)
        assert (data, end) == (bench.log().encode()[5:12], len(bench.log().encode()))
        assert bench.runner.read_log("j", "../t", 0, 10) == (b"", 0)

    on_bench(tmp_path, test)


def test_a_hundred_megabytes_of_prints_cost_neither_time_nor_memory_nor_disk(tmp_path: Path) -> None:
    body = """
        line = 'x' * 9999
        def process(inputs, ctx):
            for _ in range(10_000):
                print(line)
            return b'done'
        """

    async def test(bench: Bench) -> None:
        import psutil

        me = psutil.Process()
        bench.start(body)
        await bench.up()
        before, start = me.memory_info().rss, time.monotonic()
        assert await bench.run() == b"done"
        assert time.monotonic() - start < 5
        assert me.memory_info().rss - before < 24 << 20
        bench.runner.stop_task(StopTask("j"))
        await bench.runner.close()
        log = bench.log()
        assert len(log) <= (1 << 20) + 100
        cut = [line for line in log.splitlines() if "the log is cut here" in line]
        assert cut == log.splitlines()[-1:]
        missing = int(cut[0].split("; ")[1].split()[0])
        assert 98_900_000 < missing < 100_500_000

    on_bench(tmp_path, test, Limits(log_bytes=1 << 20))


def test_stop_ends_the_process_and_answers_nothing(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start("import time\ndef process(inputs, ctx):\n    time.sleep(60)\n")
        bench.start(ECHO, task="u")
        await bench.up(2)
        bench.send()
        bench.runner.stop_task(StopTask("j", "t"))
        await bench.runner.close()
        assert len(bench.events) == 2

    on_bench(tmp_path, test)


def test_a_sample_run_measures_tasks_and_edges_and_a_failing_task_spoils_only_itself(tmp_path: Path) -> None:
    tasks = [
        TaskSpec("a", "a.py", children=["b", "c"]),
        TaskSpec("b", "b.py", children=["d"], parents=["a"]),
        TaskSpec("c", "c.py", children=["d"], parents=["a"]),
        TaskSpec("d", "d.py", children=["home"], parents=["b", "c"]),
    ]

    async def test(bench: Bench) -> None:
        bench.script("def process(i, c): return {'b': i['input'] * 2, 'c': i['input'] * 1000}", "a.py")
        bench.script("import time\ndef process(i, c):\n    time.sleep(0.05)\n    return b'12345'", "b.py")
        bench.script("def process(i, c): return i['a'] + i['a']", "c.py")
        bench.script("def process(i, c): return i['b'] + i.get('c', b'')", "d.py")
        sample = bench.store.put("s.bin", bytes(200))
        bench.runner.profile(ProfileApp("j", b"bundle", sample, 10), tasks)
        good = await bench.event(lambda e: isinstance(e, Profiled))
        assert good.complete
        assert good.error == ""
        assert set(good.seconds) == {"a", "b", "c", "d"}
        assert 0.04 < good.seconds["b"] < 0.5
        assert good.edge_bytes == {
            "home>a": 200, "a>b": 400, "a>c": 200_000, "b>d": 5, "c>d": 400_000, "d>home": 400_005,
        }  # fmt: skip
        bench.events.clear()
        bench.script("def process(i, c):\n    raise ValueError('no')", "c.py")
        bench.runner.profile(ProfileApp("j", b"bundle", None, 10), tasks, ["a.py"])
        bad = await bench.event(lambda e: isinstance(e, Profiled))
        assert not bad.complete
        assert bad.error == "c: c.py:2: ValueError: no"
        assert set(bad.seconds) == {"a", "b", "d"}
        assert bad.edge_bytes["d>home"] == 5

    on_bench(tmp_path, test)


def test_a_sample_run_over_its_budget_reports_what_it_has(tmp_path: Path) -> None:
    tasks = [TaskSpec("a", "a.py", children=["b"]), TaskSpec("b", "b.py", parents=["a"])]

    async def test(bench: Bench) -> None:
        bench.script("def process(i, c): return b'1'", "a.py")
        bench.script("import time\ndef process(i, c): time.sleep(60)", "b.py")
        bench.runner.profile(ProfileApp("j", b"bundle", bench.store.put("s", b""), 0.5), tasks)
        got = await bench.event(lambda e: isinstance(e, Profiled))
        assert (set(got.seconds), got.complete) == ({"a"}, False)
        assert got.error.startswith(("stopped after 0.5 s", "b: not done within 0.")), "the whole budget, or b's part"
        bench.events.clear()
        bench.runner.profile(ProfileApp("j", b"bundle", None, 0.5), tasks)
        assert "no sample" in (await bench.event(lambda e: isinstance(e, Profiled))).error

    on_bench(tmp_path, test)


def test_ten_tasks_start_at_once_within_two_seconds(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        start = time.monotonic()
        for n in range(10):
            bench.start(ECHO, task=f"t{n}")
        await bench.up(10)
        assert time.monotonic() - start < 2

    on_bench(tmp_path, test)


def test_a_warm_round_trip_of_a_kilobyte_takes_well_under_a_millisecond(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.start(ECHO)
        await bench.up()
        data, times = os.urandom(1000), []
        for _ in range(300):
            start = time.perf_counter()
            assert await bench.run(data) == data
            times.append(time.perf_counter() - start)
            bench.events.clear()
        assert statistics.median(times) < 0.0007

    on_bench(tmp_path, test)


def test_a_bundle_that_is_not_there_is_a_failed_start(tmp_path: Path) -> None:
    from jupiter_agent.core.effects import StartTask

    async def test(bench: Bench) -> None:
        bench.runner.start_task(StartTask("j", TaskSpec("t", "t.py"), b"other", "app", {}))
        run = bench.send()
        assert (await bench.event(lambda e: isinstance(e, TaskDown))).error.endswith("no such bundle")
        answer = await bench.answer(run)
        assert (answer.kind, answer.error[-14:]) == ("error", "no such bundle")

    on_bench(tmp_path, test)
