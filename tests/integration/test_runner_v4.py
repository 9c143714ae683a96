"""Tasks of the v4 contract: groups by join key, rounds over children, absolute paths."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from runner_bench import Bench, on_bench

from jupiter_agent.adapters.runner import Limits
from jupiter_agent.core.events import RunDone, RunFailed, TaskDown, TaskEnded
from jupiter_agent.core.messages.jobs import TaskSpec

WRITER = """
import os
def write(pathout, name, data=b''):
    with open(os.path.join(pathout, name), 'wb') as file:
        file.write(data)
def task(onefile, pathin, pathout):
    with open(os.path.join(pathin, onefile), 'rb') as file:
        for name in file.read().decode().split():
            write(pathout, name, name.encode())
    return [os.path.join(pathout, 'this is ignored')]
"""

JOINER = """
import os
calls = 0
def task(filelist, pathin, pathout):
    global calls
    calls += 1
    files = [filelist] if isinstance(filelist, str) else filelist
    data = b' '.join(open(os.path.join(pathin, name), 'rb').read() for name in files)
    with open(os.path.join(pathout, f'{calls}joined.log'), 'wb') as file:
        file.write(repr(filelist).encode() + b' ' + data + b' %d' % len(os.listdir(pathin)))
"""


def v4(bench: Bench, body: str, inputs: int = 1, flag: str = "true", **spec: Any) -> None:
    bench.file("scripts/t.py", body)
    spec["extra"] = {"inputs": inputs, "flag": flag, "args": [], **spec.get("extra", {})}
    bench.begin(TaskSpec("t", "scripts/t.py", contract="v4", **spec))


@pytest.mark.smoke
def test_with_the_flag_every_output_is_for_all_children(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, WRITER, children=["x", "y", "z"])
        assert await bench.outputs(bench.give(("input", "1botnet.ipsum", b"b_1 a_2"))) == [
            ("", "b_1", b"b_1"), ("", "a_2", b"a_2"),
        ]  # fmt: skip

    on_bench(tmp_path, test)


@pytest.mark.parametrize("flag", ["false", "ordered", "exclusive"])
def test_without_it_outputs_go_round_by_round_in_order_of_closing(tmp_path: Path, flag: str) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, WRITER, flag=flag, children=["x", "home", "z"])
        runs = [bench.give(("input", f"{n}f", b"%df_d %df_c %df_b %df_a %df_e" % ((n,) * 5))) for n in range(3)]
        for n, run in enumerate(runs):
            got = [(child, name) for child, name, _ in await bench.outputs(run)]
            assert got == [(c, f"{n}f_{p}") for c, p in zip(["x", "home", "z", "x", "home"], "dcbae", strict=True)]

    on_bench(tmp_path, test)


def test_rounds_begin_anew_with_each_call_of_a_run(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, WRITER, flag="false", children=["x", "y"])
        got = await bench.outputs(bench.give(("a", "1k_1", b"1k_a 1k_b 1k_c"), ("a", "1k_2", b"1k_a 1k_e")))
        assert [(child, name) for child, name, _ in got] == [
            ("x", "1k_a"), ("y", "1k_b"), ("x", "1k_c"), ("x", "1k_a"), ("y", "1k_e"),
        ]  # fmt: skip

    on_bench(tmp_path, test)


def test_a_task_without_children_gives_results(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, WRITER, flag="false")
        assert [o[:2] for o in await bench.outputs(bench.give(("a", "1f", b"r_1 r_2")))] == [
            ("home", "r_1"), ("home", "r_2"),
        ]  # fmt: skip

    on_bench(tmp_path, test)


@pytest.mark.parametrize("inputs", [2, 3, 4])
def test_a_join_gets_a_list_in_order_of_arrival(tmp_path: Path, inputs: int) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, JOINER, inputs=inputs, children=["x"])
        names = ["1anom_c.log", "1anom_a.log", "1anom_d.log", "1anom_b.log"][:inputs]
        files = [(parent, name, name[6:7].encode()) for parent, name in zip("qpsr", names, strict=False)]
        [(_, name, data)] = await bench.outputs(bench.give(*files))
        assert name == "1joined.log"
        assert data.decode() == f"{names!r} {' '.join('cadb'[:inputs])} {inputs}"

    on_bench(tmp_path, test)


def test_several_files_of_one_parent_and_several_keys_are_calls_as_they_become_complete(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, JOINER, inputs=2, children=["x"])
        names = ["1a_1", "2b.x", "2b.y", "1a_2", "1a_3"]
        got = await bench.outputs(bench.give(*[("p", name, b"") for name in names], item="it"))
        assert [data.decode()[:16] for _, _, data in got] == ["['2b.x', '2b.y']", "['1a_1', '1a_2']"]
        await bench.logged("item it: 1 of 2 files with the key '1a': not run (1a_3)")

    on_bench(tmp_path, test)


def test_files_of_one_name_from_two_parents_are_both_there(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, JOINER, inputs=2, children=["x"])
        [(_, _, data)] = await bench.outputs(bench.give(("p", "1a_x", b"1"), ("q", "1a_x", b"2")))
        assert data == b"['1a_x', '1a_x.2'] 1 2 2"

    on_bench(tmp_path, test)


@pytest.mark.smoke
def test_only_files_closed_in_the_folder_count_each_once(tmp_path: Path) -> None:
    body = """
        import os, subprocess, threading, time
        kept = []
        def task(onefile, pathin, pathout):
            os.chdir(pathout)
            kept.append(open('1k_open', 'w'))
            open('1k_b', 'w').close()
            open('1k_a', 'w').close()
            open('1k_b', 'a').write('twice')
            open('tmp', 'w').write('moved'); os.rename('tmp', '1k_c')
            open('gone', 'w').close(); os.remove('gone')
            os.mkdir('folder'); open('folder/f', 'w').close()
            subprocess.Popen('exec > 1k_d; sleep 0.03; echo later', shell=True)
            time.sleep(0.015)
            open('1k_big', 'wb').write(bytes(100000))
        """

    async def test(bench: Bench) -> None:
        v4(bench, body, children=["x"])
        got = await bench.outputs(bench.give(("a", "1k", b"")))
        assert got == [
            ("", "1k_b", b"twice"), ("", "1k_a", b""), ("", "1k_c", b"moved"), ("", "1k_big", bytes(100000)),
            ("", "1k_d", b"later\n"),
        ]  # fmt: skip
        await bench.logged("never closed, so no outputs: 1k_open")

    on_bench(tmp_path, test)


def test_an_error_names_its_place_and_the_process_goes_on(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, "def task(onefile, pathin, pathout):\n    int(onefile[0])\n")
        failed = await bench.answer(bench.give(("a", "k_1", b"")))
        assert isinstance(failed, RunFailed)
        assert (failed.kind, failed.error[:21]) == ("error", "t.py:2: ValueError: i")
        assert isinstance(await bench.answer(bench.give(("a", "1_1", b""))), RunDone)

    on_bench(tmp_path, test)


def test_a_script_without_the_function_is_a_contract_error(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        v4(bench, "def main(): ...")
        failed = await bench.answer(bench.give(("a", "k", b"")))
        assert (failed.kind, failed.error) == (
            "contract", "t.py defines no `task`: write `def task(onefile, pathin, pathout)`",
        )  # fmt: skip

    on_bench(tmp_path, test)


ABSOLUTE = """
import configparser, glob, json, os, pathlib, shutil, subprocess, threading
import sibling
HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = json.load(open('/centralized_scheduler/config.json'))
def task(onefile, pathin, pathout):
    top = pathlib.Path('/centralized_scheduler')
    shutil.copyfile('/centralized_scheduler/sample_input/1s', os.path.join(pathout, '1a_sample'))
    with open('/centralized_scheduler/scratch_' + onefile, 'w') as file:
        file.write('mine')
    seen = [
        CONFIG['key'], sorted(os.listdir('/centralized_scheduler')), (top / 'communication.txt').read_text(),
        os.path.isfile('/centralized_scheduler/sample_input/1s'), sorted(glob.glob('/centralized_scheduler/com*.txt')),
        os.environ['TASK'], sibling.NAME, os.path.exists(HERE + '/sample_input/1s'), os.path.exists(top / 'nowhere'),
    ]
    with open(os.path.join(pathout, '1b_seen'), 'w') as file:
        file.write(repr(seen))
    subprocess.check_call(['sh', '/centralized_scheduler/generate.sh', os.path.join(pathout, '1c_made')])
    os.system('cp /centralized_scheduler/communication.txt ' + os.path.join(pathout, '1d_copied'))
"""


def absolute_app(bench: Bench) -> None:
    bench.file("scripts/config.json", '{"key": "value"}')
    bench.file("scripts/sibling.py", "NAME = 'sibling'\n")
    bench.file("scripts/generate.sh", 'echo "generated $TASK" > "$1"\n')
    bench.file("configuration.txt", "1\nt 1 true home\n")
    bench.file("communication.txt", "a b")
    bench.file("sample_input/1s", b"sample")


@pytest.mark.parametrize("namespaces", [True, False])
def test_scripts_see_their_app_under_its_absolute_path(tmp_path: Path, namespaces: bool) -> None:
    async def test(bench: Bench) -> None:
        absolute_app(bench)
        v4(bench, ABSOLUTE, children=["home"])
        got = {name: data for _, name, data in await bench.outputs(bench.give(("input", "1k", b"")))}
        names = ["communication.txt", "config.json", "configuration.txt", "generate.sh", "sample_input", "scratch_1k"]
        seen = eval(got["1b_seen"])
        assert seen.pop(4)[0].endswith("centralized_scheduler/communication.txt")
        assert seen == ["value", [*names, "sibling.py", "t.py"], "a b", True, "t", "sibling", True, False]
        assert (got["1a_sample"], got["1c_made"], got["1d_copied"]) == (b"sample", b"generated t\n", b"a b")
        assert not list(bench.app.rglob("scratch_*"))

    on_bench(tmp_path, test, Limits(namespaces=namespaces), isolation="none")
    assert not os.path.lexists("/centralized_scheduler")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_shell_script_with_absolute_paths_works_or_says_why_not(tmp_path: Path, namespaces: bool) -> None:
    body = """
        import subprocess
        def task(onefile, pathin, pathout):
            subprocess.check_call(f'sh /centralized_scheduler/copy.sh {pathout}/1c_made', shell=True)
        """

    async def test(bench: Bench) -> None:
        absolute_app(bench)
        bench.file("scripts/copy.sh", 'cp /centralized_scheduler/sample_input/1s "$1"\n')
        v4(bench, body, children=["home"])
        answer = await bench.answer(bench.give(("input", "1k", b"")))
        if namespaces:
            assert isinstance(answer, RunDone)
        else:
            assert answer.kind == "error"
            assert "OSError: copy.sh names /centralized_scheduler, which other programs cannot see here" in answer.error

    on_bench(tmp_path, test, Limits(namespaces=namespaces), isolation="none")


def beside(bench: Bench, script: str, main: bool = True) -> None:
    extra = {"inputs": 1, "flag": "false", "args": ["--port", 7], "role": "nondag", "host": "", "main": main}
    bench.begin(TaskSpec("p", f"scripts/{script}", contract="v4", extra=extra))


@pytest.mark.parametrize(
    ("script", "body"),
    [
        ("p.py", "import os, sys, sibling\nprint(sys.argv[1:], os.environ['TASK'], __name__, sibling.NAME)\n"),
        ("p.sh", "echo \"['$1', '$2'] $TASK __main__ sibling\"\n"),
    ],
)
def test_a_program_beside_the_dag_gets_its_arguments_and_its_end_is_told(
    tmp_path: Path, script: str, body: str
) -> None:
    async def test(bench: Bench) -> None:
        absolute_app(bench)
        bench.file(f"scripts/{script}", body)
        beside(bench, script)
        await bench.event(lambda e: isinstance(e, TaskEnded) and e.task == "p")
        assert "['--port', '7'] p __main__ sibling" in bench.log(task="p")

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    ("script", "body", "words"),
    [("p.py", "int('x')", "p.py:1: ValueError"), ("p.sh", "exit 3", "p.sh: exited with code 3")],
)
def test_a_program_that_fails_is_started_again(tmp_path: Path, script: str, body: str, words: str) -> None:
    async def test(bench: Bench) -> None:
        bench.file(f"scripts/{script}", body)
        beside(bench, script)
        await bench.event(lambda e: sum(isinstance(x, TaskDown) for x in bench.events) == 2)
        assert all(words in e.error for e in bench.events if isinstance(e, TaskDown))

    on_bench(tmp_path, test)


def test_a_task_beside_the_dag_that_is_no_program_just_waits(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.file("scripts/p.py", "print('never')\n")
        beside(bench, "p.py", main=False)
        await bench.up()
        assert "never" not in bench.log(task="p")

    on_bench(tmp_path, test)


def test_runs_in_parallel_have_folders_of_their_own(tmp_path: Path) -> None:
    body = """
        import os, time
        def task(onefile, pathin, pathout):
            time.sleep(0.1)
            open(os.path.join(pathout, '1o'), 'w').write(str(os.listdir(pathin)) + os.environ['TASK'])
        """

    async def test(bench: Bench) -> None:
        v4(bench, body, parallel=3)
        runs = [bench.give(("a", f"{n}k", b"")) for n in range(3)]
        assert [(await bench.outputs(run))[0][2] for run in runs] == [b"['%dk']t" % n for n in range(3)]

    on_bench(tmp_path, test)


def test_a_warm_round_trip_takes_a_few_milliseconds(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        body = WRITER.replace("file.read().decode().split()", "[onefile + '_out']")
        v4(bench, body, children=["x"])
        times = []
        for n in range(60):
            started = time.perf_counter()
            assert isinstance(await bench.answer(bench.give(("a", f"{n}f", bytes(1024)))), RunDone)
            times.append(time.perf_counter() - started)
        p50 = statistics.median(times[10:])
        print(f"v4 1 kB: p50 {p50 * 1e3:.2f} ms")
        assert p50 < 0.015

    on_bench(tmp_path, test)
