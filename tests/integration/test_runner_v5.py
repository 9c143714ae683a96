"""Tasks of the v5 contract: a queue, two folders, names that say who gets what."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from runner_bench import Bench, on_bench

from jupiter_agent.adapters.runner import Limits
from jupiter_agent.core.effects import Deliver, HoldTask, StopTask
from jupiter_agent.core.events import Produced, RunDone, RunFailed, TaskDown, TaskEnded, TaskUp
from jupiter_agent.core.messages.jobs import TaskSpec

HEAD = """
import os, shutil, threading, time, sys
def put(pathout, name, data):
    with open(os.path.join(pathout, name), 'wb') as file:
        file.write(data)
def take(pathin, name):
    with open(os.path.join(pathin, name), 'rb') as file:
        return file.read()
"""

ROUND_ROBIN = (
    HEAD
    + """
count = 0
def task(q, pathin, pathout, task_name):
    global count
    children = ['x', 'y', 'z']
    while True:
        name = q.get()
        src, me, base = name.split('_', 2)
        assert me == task_name
        shutil.copyfile(os.path.join(pathin, name), os.path.join(pathout, f'{task_name}_{children[count % 2]}_{base}'))
        count += 1
        q.task_done()
"""
)


def v5(bench: Bench, body: str, params: dict[str, str] | None = None, **spec: Any) -> None:
    bench.file("t.py", body)
    bench.begin(TaskSpec("t", "t.py", contract="v5", **spec), params=params)


@pytest.mark.smoke
def test_a_task_feeds_a_subset_of_its_children_by_name(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        v5(bench, ROUND_ROBIN, children=["x", "y", "z"])
        runs = [bench.give(("input", f"part_{n}.a_b.bin", b"%d" % n)) for n in range(3)]
        assert [await bench.outputs(run) for run in runs] == [
            [("x", "part_0.a_b.bin", b"0")], [("y", "part_1.a_b.bin", b"1")], [("x", "part_2.a_b.bin", b"2")],
        ]  # fmt: skip

    on_bench(tmp_path, test)


def test_several_files_go_to_one_child_and_large_ones_through_the_store(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        data = take(pathin, name)
        put(pathout, 't_x_a', data)
        put(pathout, 't_x_b', data[:3])
        put(pathout, 't_home_c', b'')
        put(pathout, 'tmp', b'renamed')
        os.rename(os.path.join(pathout, 'tmp'), os.path.join(pathout, 't_y_d_e'))
        put(pathout, 'gone', b''); os.remove(os.path.join(pathout, 'gone'))
        put(pathout, 't_w_f', b'nobody')
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x", "y", "home"])
        big = bytes(range(256)) * 1000
        assert await bench.outputs(bench.give(("a", "f", big))) == [
            ("x", "a", big), ("x", "b", b"\0\1\2"), ("home", "c", b""), ("y", "d_e", b"renamed"),
        ]  # fmt: skip
        assert "gone" not in await bench.logged("'t_w_f' is not passed on: it names no child")

    on_bench(tmp_path, test)


def test_a_join_in_the_app_counts_its_files_and_a_run_is_all_of_them(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
parts = {}
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        src, _, base = name.split('_', 2)
        parts.setdefault(base, []).append(src.encode() + b'=' + take(pathin, name))
        if len(parts[base]) < 3:
            SKIP
            continue
        put(pathout, f'{task_name}_x_{base}', b' '.join(parts.pop(base)))
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        for skip in ("q.task_done()", "pass"):
            v5(bench, body.replace("SKIP", skip), children=["x"], params={"skip": skip})
            runs = [bench.give(("b", f"i{n}", b"1"), ("a", f"i{n}", b"2"), ("c", f"i{n}", b"3")) for n in range(3)]
            for n, run in enumerate(runs):
                assert await bench.outputs(run) == [("x", f"i{n}", b"b=1 a=2 c=3")]

    on_bench(tmp_path, test)


def test_apps_that_never_call_task_done_are_done_when_they_get_again(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        time.sleep(0.05)
        put(pathout, 't_x_' + name, b'done')
        # q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        runs = [bench.give(("a", f"{n}", b""), ("b", f"{n}", b"")) for n in range(3)]
        for n, run in enumerate(runs):
            assert await bench.outputs(run) == [("x", f"a_t_{n}", b"done"), ("x", f"b_t_{n}", b"done")]

    on_bench(tmp_path, test)


def test_apps_that_poll_the_queue_are_fed_ahead(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    while True:
        if q.qsize() >= 3:
            names = [q.get() for _ in range(3)]
            for name in names:
                put(pathout, 't_x_' + name.split('_')[2], str(len(names)).encode())
            DONE
        else:
            time.sleep(0.1)
"""
    )

    async def test(bench: Bench) -> None:
        for done in ("[q.task_done() for _ in names]", "pass"):
            v5(bench, body.replace("DONE", done), children=["x"], params={"done": done})
            runs = [bench.give(("a", f"f{n}", b"")) for n in range(6)]
            for n, run in enumerate(runs):
                assert await bench.outputs(run) == [("x", f"f{n}", b"3")]

    on_bench(tmp_path, test)


def test_apps_that_make_batches_get_the_next_items_and_each_gets_its_own_outputs(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    while True:
        names = [q.get() for _ in range(3)]
        for name in reversed(names):
            put(pathout, 't_x_' + name.split('_', 2)[2], b'batch')
        put(pathout, 't_x_summary', b'')
        for name in names:
            q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        runs = [bench.give(("input", f"f{n}", b"")) for n in range(6)]
        got = [await bench.outputs(run) for run in runs]
        summary = ("x", "summary", b"")
        assert got == [[("x", f"f{n}", b"batch"), *([summary] if n % 3 == 2 else [])] for n in range(6)]

    on_bench(tmp_path, test)


def test_a_file_passed_over_is_done_with_the_next_one_or_after_a_while(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        if 'bad' in name:
            continue
        put(pathout, 't_x_' + name.split('_')[2], b'')
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        runs = [bench.give(("input", name, b"")) for name in ("bad0", "f1", "bad2", "bad3")]
        assert [len(await bench.outputs(run)) for run in runs] == [0, 1, 0, 0]

    on_bench(tmp_path, test, Limits(held_s=0.3))


def test_outputs_are_the_items_between_get_and_task_done_whatever_their_names(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
before = 'none'
def task(q, pathin, pathout, task_name):
    global before
    while True:
        name = q.get()
        put(pathout, f't_x_{before}', name.encode())
        before = name.split('_')[2]
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        got = [await bench.outputs(bench.give(("a", f"f{n}", b""))) for n in range(3)]
        assert got == [[("x", "none", b"a_t_f0")], [("x", "f0", b"a_t_f1")], [("x", "f1", b"a_t_f2")]]

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    "begin",
    [
        "threading.Thread(target=later, args=(pathout,)).start()",
        "threading.Timer(0.0, later, (pathout,)).start()",
        "pool.submit(later, pathout)",
        "subprocess.Popen(['sh', '-c', f'sleep 0.3; echo -n 1 > {pathout}/t_x_f'])",
    ],
)
def test_what_a_thread_or_child_writes_after_task_done_is_waited_for(tmp_path: Path, begin: str) -> None:
    body = (
        HEAD
        + f"""
import subprocess
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)
def later(pathout):
    time.sleep(0.3)
    put(pathout, 't_x_f', b'1')
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        {begin}
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        for _ in range(2):
            assert await bench.outputs(bench.give(("a", "f", b""))) == [("x", "f", b"1")]

    on_bench(tmp_path, test)


def test_an_output_that_nobody_was_seen_working_on_is_reported_alone(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
go = threading.Event()
def later(pathout):
    while True:
        go.wait(); go.clear(); threading.Event().wait(0.2)
        put(pathout, 't_x_late', b'2')
def task(q, pathin, pathout, task_name):
    threading.Thread(target=later, args=(pathout,)).start()
    while True:
        name = q.get()
        put(pathout, 't_x_soon', b'1')
        go.set()
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        assert await bench.outputs(bench.give(("a", "f", b""))) == [("x", "soon", b"1")]
        late = await bench.event(lambda e: isinstance(e, Produced))
        assert (late.job, late.task, late.child, late.obj.name, late.obj.data) == ("j", "t", "x", "late", b"2")

    on_bench(tmp_path, test)


@pytest.mark.smoke
def test_a_file_being_written_at_task_done_is_waited_for(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        file = open(os.path.join(pathout, 't_x_f'), 'wb')
        q.task_done()
        file.write(b'all of it')
        file.close()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        for _ in range(3):
            assert await bench.outputs(bench.give(("a", "f", b""))) == [("x", "f", b"all of it")]

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raise ValueError('odd')", "t.py:12: ValueError: odd"),
        ("sys.exit(2)", "SystemExit: 2"),
        ("return", "`task` returned; it must loop for ever"),
    ],
)
def test_a_task_that_ends_fails_what_it_had_begun_and_is_restarted(tmp_path: Path, what: str, words: str) -> None:
    body = f"{HEAD}def task(q, i, o, name):\n  while True:\n    if 'bad' in q.get():\n      {what}\n    q.task_done()\n"

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        bad, *good = [bench.give(("a", name, b"")) for name in ("bad", "1", "2")]
        failed = await bench.answer(bad)
        assert isinstance(failed, RunFailed)
        assert failed.kind == "error"
        assert words in failed.error
        assert [await bench.outputs(run) for run in good] == [[], []]
        assert [type(event) for event in bench.events].count(TaskDown) == 1

    on_bench(tmp_path, test)


def test_what_was_fed_ahead_and_not_begun_is_not_failed_with_the_item_that_broke(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    time.sleep(0.2)
    while True:
        if q.empty():
            time.sleep(0.05)
            continue
        name = q.get()
        time.sleep(0.1)
        if 'bad' in name:
            os.close(99999)
        put(pathout, 't_x_' + name, b'')
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"])
        assert len(await bench.outputs(bench.give(("a", "0", b"")))) == 1
        runs = [bench.give(("a", name, b"")) for name in ("1", "bad", "2", "3")]
        answers = [await bench.answer(run) for run in runs]
        assert [type(answer) for answer in answers] == [RunDone, RunFailed, RunDone, RunDone]

    on_bench(tmp_path, test)


@pytest.mark.parametrize("frame", [["ended"], ["broken", "error", "it says"], ["window", 1 << 40], ["back", 99]])
def test_a_task_that_lies_to_the_agent_harms_itself_only(tmp_path: Path, frame: list[Any]) -> None:
    packed = msgspec.msgpack.encode(frame)
    body = (
        HEAD
        + f"""
def task(q, i, o, name):
    while True:
        if 'bad' in q.get():
            os.write(int(sys.orig_argv[-4]), {len(packed).to_bytes(4, "big") + packed!r})
            time.sleep(1)
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body)
        answer = await bench.answer(bench.give(("a", "bad", b"")))
        if frame[0] in ("ended", "broken"):
            assert (answer.kind, answer.error) == ("exit", "t.py: the process disturbed its pipe to the agent")
        else:
            assert isinstance(answer, RunDone)
        assert await bench.outputs(bench.give(("a", "good", b""))) == []

    on_bench(tmp_path, test)


def test_apps_with_several_workers_have_several_items_inside(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
inside, most = set(), 0
def work(q, pathin, pathout):
    global most
    while True:
        name = q.get()
        base = name.split('_')[2]
        inside.add(base)
        put(pathout, 't_x_' + base, b'1')
        time.sleep(0.3)
        most = max(most, len(inside))
        inside.discard(base)
        put(pathout, 't_y_' + base, b'%d' % most)
        DONE
def task(q, pathin, pathout, task_name):
    workers = [threading.Thread(target=work, args=(q, pathin, pathout)) for _ in range(3)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
"""
    )

    async def test(bench: Bench) -> None:
        for done in ("q.task_done()", "pass"):
            v5(bench, body.replace("DONE", done), children=["x", "y"], params={"done": done})
            assert await bench.outputs(bench.give(("a", "f", b""))) == [("x", "f", b"1"), ("y", "f", b"1")]
            runs = [bench.give(("a", f"f{n}", b"")) for n in range(6)]
            for n, run in enumerate(runs):
                x, (child, name, most) = await bench.outputs(run)
                assert (x, child, name) == (("x", f"f{n}", b"1"), "y", f"f{n}")
            assert most == b"3"

    on_bench(tmp_path, test)


def test_an_item_over_its_time_is_killed(tmp_path: Path) -> None:
    body = (
        f"{HEAD}def task(q, i, o, name):\n  while True:\n    if 'slow' in q.get(): time.sleep(60)\n    q.task_done()\n"
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, timeout_s=0.3)
        slow, good = bench.give(("a", "slow", b"")), bench.give(("a", "good", b""))
        assert (await bench.answer(slow)).kind == "timeout"
        assert await bench.outputs(good) == []

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("x = 1", "t.py defines no `task`: write"),
        ("def task(a, b): ...", "`task` takes 2 arguments: it is called as `task(q, pathin, pathout, task_name)`"),
        ("def task(q, i, o, n): yield", "is a generator"),
    ],
)
def test_a_script_without_the_function_is_a_contract_error(tmp_path: Path, body: str, words: str) -> None:
    async def test(bench: Bench) -> None:
        v5(bench, body)
        failed = await bench.answer(bench.give(("a", "f", b"")))
        assert failed.kind == "contract"
        assert words in failed.error

    on_bench(tmp_path, test)


CONFIG = """
jupiter_config: {namespace_prefix: demo, task_mapper: heft}
node_map: {home: master, node1: n0}
application:
  port_mappings: ["9000:8000"]
  tasks:
    home: {base_script: home.py, children: [t]}
    dag_tasks:
      - {name: t, base_script: t.py, children: [x, master]}
      - {name: x, base_script: t.py, children: master}
      - {name: y, base_script: t.py, children: }
    nondag_tasks:
      - {name: feeder, base_script: f.py, k8s_host: h, children: [t]}
"""


def test_scripts_find_jupiter_utils_and_their_environment(tmp_path: Path) -> None:
    body = """
        import os, sys
        sys.path.append("../../core")
        from jupiter_utils import app_config_parser, transfer
        APP_DIR = os.path.dirname(os.path.abspath(__file__))
        app = app_config_parser.AppConfig(APP_DIR)
        def task(q, pathin, pathout, task_name):
            while True:
                name = q.get()
                seen = [
                    app.child_tasks(task_name), app.child_tasks('x'), app.child_tasks('y'), app.child_tasks('feeder'),
                    app.get_dag_task_names(), app.dag_task_map(), app.base_script('home'), app.node_map(),
                    app.port_mappings(), [t['k8s_host'] for t in app.get_nondag_tasks()],
                    os.environ['MY_TASK_NAME'], os.environ['CIRCE_HOME_IP'], transfer.circe_lookup_ip('x'),
                    transfer.circe_lookup_nondag_ip('feeder'),
                ]
                with open(f'{pathout}/t_master_seen', 'w') as file:
                    file.write(repr(seen))
                q.task_done()
        """

    async def test(bench: Bench) -> None:
        bench.file("app_config.yaml", CONFIG)
        extra = {"aliases": {"master": "home"}, "tasks": ["t", "x", "y"]}
        params = {"_env_CIRCE_HOME_IP": "10.0.0.1", "_env_CIRCE_NONDAG_TASK_TO_IP": "feeder:10.0.0.2"}
        v5(bench, body, params=params, children=["x", "home"], extra=extra)
        [(child, name, seen)] = await bench.outputs(bench.give(("input", "f", b"")))
        assert (child, name) == ("home", "seen")
        assert eval(seen) == [
            ["x", "home"], ["home"], [], ["t"], ["t", "x", "y"], {"t": ["x"], "x": [], "y": []}, "home.py",
            {"home": "master", "node1": "n0"}, ["9000:8000"], ["h"], "t", "10.0.0.1", "127.0.0.1", "10.0.0.2",
        ]  # fmt: skip

    on_bench(tmp_path, test)


def test_a_transfer_by_hand_is_an_output_and_one_to_a_stranger_an_error(tmp_path: Path) -> None:
    body = """
        from jupiter_utils.transfer import circe_lookup_ip, transfer_data_scp
        def task(q, pathin, pathout, task_name):
            while True:
                name = q.get()
                where = 'y' if 'bad' in name else 'x'
                source = f'{pathin}/{name}'
                transfer_data_scp(circe_lookup_ip(where), '22', 'root', 'pw', source, '/jupiter/circe_input/')
                transfer_data_scp('home', 'root', 'pw', f'{pathin}/{name}', '/somewhere/else.txt')
                q.task_done()
        """

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x", "home"], extra={"tasks": ["t", "x", "y"]})
        got = await bench.outputs(bench.give(("a", "f_g", b"data")))
        assert got == [("x", "a_t_f_g", b"data"), ("home", "else.txt", b"data")]
        failed = await bench.answer(bench.give(("a", "bad", b"")))
        assert "cannot be sent to task y: it is no child here; they are x, home" in failed.error

    on_bench(tmp_path, test)


def test_a_restarted_task_is_given_its_last_items_again_if_it_asks_for_that(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
seen = []
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        seen.append(name.split('_')[2])
        put(pathout, 't_x_seen', ' '.join(seen).encode() + bytes(70000))
        if 'bad' in name:
            os._exit(1)
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"], extra={"replay": 2})
        for n in range(3):
            await bench.outputs(bench.give(("a", f"f{n}", b"")))
        assert isinstance(await bench.answer(bench.give(("a", "bad", b""))), RunFailed)
        [(_, _, data)] = await bench.outputs(bench.give(("a", "f4", b"")))
        assert data.rstrip(b"\0") == b"f1 f2 f4"
        assert [path.name for path in bench.folder.glob(".work/*/out/*")] == []

    on_bench(tmp_path, test)


def test_large_inputs_are_given_again_though_the_store_has_dropped_them(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
seen = []
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        seen.append(take(pathin, name)[:2])
        put(pathout, 't_x_seen', b' '.join(seen))
        if 'bad' in name:
            os._exit(1)
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        v5(bench, body, children=["x"], extra={"replay": 2})
        for n in range(4):
            await bench.outputs(bench.give(("a", f"f{n}", b"f%d" % n + bytes(70000)), ("a", "same", bytes(70000))))
        for path in bench.store.folder.iterdir():
            path.unlink()
        assert isinstance(await bench.answer(bench.give(("a", "bad", b"no"))), RunFailed)
        [(_, _, data)] = await bench.outputs(bench.give(("a", "f4", b"f4")))
        assert data == b"f2 \0\0 f3 \0\0 f4"
        assert len(list(bench.folder.glob(".work/replay-*/*"))) == 2  # f3 and `same`
        bench.runner.stop_task(StopTask("j", "t"))
        await bench.runner.close()
        assert list(bench.folder.glob(".work/*")) == []

    on_bench(tmp_path, test)


def test_items_that_do_harm_when_given_again_are_not_given_a_third_time(tmp_path: Path) -> None:
    body = f"{HEAD}count = 0\ndef task(q, i, o, name):\n  while True:\n    q.get()\n    RAISE\n    q.task_done()\n"
    once = "if os.path.exists(os.environ['FLAG']): WHAT\n    open(os.environ['FLAG'], 'w').close()"

    async def test(bench: Bench) -> None:
        for n, what in enumerate(("raise ValueError('again')", "os._exit(3)")):
            flag = tmp_path / f"flag{n}"
            script = body.replace("RAISE", once).replace("WHAT", what)
            v5(bench, script, extra={"replay": 2}, params={"_env_FLAG": str(flag)})
            assert await bench.outputs(bench.give(("a", "f", b""))) == []
            assert isinstance(await bench.answer(bench.give(("a", "g", b""))), RunFailed)
            await asyncio.sleep(0.5)
            flag.unlink()
            assert await bench.outputs(bench.give(("a", "h", b""))) == []

    on_bench(tmp_path, test)


@pytest.mark.parametrize("namespaces", [True, False])
def test_scripts_see_the_paths_of_their_image(tmp_path: Path, namespaces: bool) -> None:
    body = """
        import os, shutil, sys
        sys.path.append('/jupiter/build')
        from jupiter_utils import app_config_parser
        app = app_config_parser.AppConfig('/jupiter/build/app_specific_files/app')
        def task(q, pathin, pathout, task_name):
            while True:
                name = q.get()
                assert app.child_tasks('x') == ['home'] and os.listdir('/jupiter/build/jupiter_utils')
                shutil.copyfile('/jupiter/circe_input/' + name, '/jupiter/circe_output/t_x_copy')
                q.task_done()
        """

    async def test(bench: Bench) -> None:
        bench.file("app_config.yaml", CONFIG)
        v5(bench, body, children=["x"])
        assert await bench.outputs(bench.give(("a", "f", b"data"))) == [("x", "copy", b"data")]

    on_bench(tmp_path, test, Limits(namespaces=namespaces))
    assert not os.path.lexists("/jupiter")


def test_a_home_script_generates_and_receives_until_it_ends(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    for n in range(3):
        put(pathout, f'home_t_item_{n}', b'%d' % n * (1 if n != 1 else 100000))
    for n in range(3):
        name = q.get()
        put(pathout, f'home_u_{name}', take(pathin, name))
        q.task_done()
"""
    )

    async def test(bench: Bench) -> None:
        bench.file("home.py", body)
        spec = TaskSpec("home", "home.py", children=["t", "u"], contract="v5", extra={"role": "home"})
        bench.begin(spec)
        for n in range(3):
            objects = [bench.store.put(f"r_{n}", b"result" * n * 20000)]
            bench.runner.deliver(Deliver("j", "home", "sink", f"i{n}", objects))
        await bench.event(lambda e: isinstance(e, TaskEnded))
        made = [(e.child, e.obj.name, e.obj.size) for e in bench.events if isinstance(e, Produced)]
        assert made == [
            ("t", "item_0", 1), ("t", "item_1", 100000), ("t", "item_2", 1),
            ("u", "sink_home_r_0", 0), ("u", "sink_home_r_1", 120000), ("u", "sink_home_r_2", 240000),
        ]  # fmt: skip
        assert not [e for e in bench.events if isinstance(e, TaskDown)]
        bench.runner.deliver(Deliver("j", "home", "sink", "i9", [bench.store.put("r", b"")]))

    on_bench(tmp_path, test)


@pytest.mark.parametrize("count", [10, 400])
def test_a_script_that_is_held_waits_and_loses_nothing_though_its_process_ends(tmp_path: Path, count: int) -> None:
    """10 files fit into its pipe: it ends while nothing is read. 400 do not."""
    body = (
        HEAD
        + f"""
def task(q, pathin, pathout, task_name):
    for n in range({count}):
        put(pathout, f'home_t_item_{{n:03}}', b'x' * 8000)
"""
    )

    async def test(bench: Bench) -> None:
        bench.file("home.py", body)
        bench.begin(TaskSpec("home", "home.py", children=["t"], contract="v5", extra={"role": "home"}))
        bench.runner.hold(HoldTask("j", "home", True))
        await bench.event(lambda e: isinstance(e, TaskUp))
        if count > 10:
            await asyncio.sleep(2.0)
            assert sum(isinstance(e, Produced) for e in bench.events) < count // 2
            assert not any(isinstance(e, TaskEnded) for e in bench.events)
            bench.runner.hold(HoldTask("j", "home", False))
        await bench.event(lambda e: isinstance(e, TaskEnded))
        made = sorted(e.obj.name for e in bench.events if isinstance(e, Produced))
        assert made == [f"item_{n:03}" for n in range(count)]

    on_bench(tmp_path, test)


def test_results_of_one_name_reach_the_home_script_one_after_another(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    seen = []
    for n in range(4):
        while q.empty():
            time.sleep(0.01)
        name = q.get()
        time.sleep(0.02)
        seen.append(take(pathin, name))
        DONE
    put(pathout, 'home_t_seen', b' '.join(seen))
"""
    )

    async def test(bench: Bench) -> None:
        for n, done in enumerate(("q.task_done()", "pass")):
            bench.file("home.py", body.replace("DONE", done))
            spec = TaskSpec("home", "home.py", children=["t"], contract="v5", extra={"role": "home"}, retries=n)
            bench.begin(spec)
            for text in (b"0", b"1", b"2"):
                bench.runner.deliver(Deliver("j", "home", "s", "i", [bench.store.put("same", text)]))
            bench.runner.deliver(Deliver("j", "home", "s", "i", [bench.store.put("other", b"3")]))
            await bench.event(lambda e: isinstance(e, TaskEnded))
            [made] = [e.obj.data for e in bench.events if isinstance(e, Produced)]
            assert sorted(made.split()) == [b"0", b"1", b"2", b"3"]
            bench.events.clear()

    on_bench(tmp_path, test)


def test_a_feeder_beside_the_dag_is_restarted_when_it_raises(tmp_path: Path) -> None:
    body = (
        HEAD
        + """
def task(q, pathin, pathout, task_name):
    put(pathout, f'{task_name}_x_tick', b'')
    time.sleep(0.05)
    put(pathout, f'{task_name}_nobody_tick', b'')
    raise ValueError('broken')
"""
    )

    async def test(bench: Bench) -> None:
        bench.file("f.py", body)
        bench.begin(TaskSpec("feeder", "f.py", children=["x"], contract="v5", extra={"role": "nondag"}))
        await bench.event(lambda e: sum(isinstance(x, Produced) for x in bench.events) == 2)
        made = [(e.task, e.child, e.obj.name) for e in bench.events if isinstance(e, Produced)]
        assert made == [("feeder", "x", "tick")] * 2
        down = await bench.event(lambda e: isinstance(e, TaskDown))
        assert "f.py:14: ValueError: broken" in down.error

    on_bench(tmp_path, test)


def test_a_warm_round_trip_takes_a_few_milliseconds_and_little_memory(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        before = set(psutil.Process().children())  # what an earlier test left may be reaped by nobody yet
        v5(bench, ROUND_ROBIN, children=["x", "y", "z"])
        times = []
        for n in range(60):
            started = time.perf_counter()
            assert isinstance(await bench.answer(bench.give(("a", f"f{n}", bytes(1024)))), RunDone)
            times.append(time.perf_counter() - started)
        p50 = statistics.median(times[10:])
        [process] = set(psutil.Process().children()) - before
        print(f"v5 1 kB: p50 {p50 * 1e3:.2f} ms; RSS {process.memory_info().rss / 2**20:.1f} MiB")
        assert p50 < 0.015

    on_bench(tmp_path, test)
