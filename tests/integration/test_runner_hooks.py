"""Sample runs of v4, v5 and command tasks, with the hooks their authors wrote for the execution profiler."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from runner_bench import Bench, on_bench

from jupiter_agent.core.effects import ProfileApp
from jupiter_agent.core.events import Profiled
from jupiter_agent.core.messages.jobs import TaskSpec


async def profiled(bench: Bench, tasks: list[TaskSpec], budget_s: float = 10.0) -> Profiled:
    sample = bench.store.put("1sample_x", b"s" * 100)
    bench.runner.profile(ProfileApp("j", b"bundle", sample, budget_s), tasks)
    answer = await bench.event(lambda e: isinstance(e, Profiled))
    assert isinstance(answer, Profiled)
    return answer


def v4(name: str, parents: list[str], children: list[str], inputs: int = 1, flag: str = "true") -> TaskSpec:
    extra: dict[str, Any] = {"inputs": inputs, "flag": flag, "args": []}
    return TaskSpec(
        name, f"scripts/{name}.py", contract="v4", parents=parents or ["home"], children=children, extra=extra
    )


def test_a_v4_apps_main_is_used_and_its_outputs_go_to_tasks_without_one(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.file("sample_input/1own", b"o" * 70)
        bench.file(
            "scripts/a.py",
            """
            import os, time
            def task(onefile, pathin, pathout):
                time.sleep(0.05)
                given = os.path.getsize(os.path.join(pathin, onefile))
                for n, size in enumerate((10, 20, 30)):
                    open(os.path.join(pathout, f'1a_{n}'), 'wb').write(bytes(size * given))
                return [os.path.join(pathout, f'1a_{n}') for n in range(3)]
            def main():
                folder = os.path.join(os.path.dirname(__file__), 'sample_input/')
                return task('1own', folder, folder)
            """,
        )
        bench.file(
            "scripts/b.py",
            """
            import os
            def task(filelist, pathin, pathout):
                total = sum(os.path.getsize(os.path.join(pathin, name)) for name in filelist)
                open(os.path.join(pathout, '1b'), 'wb').write(bytes(total // 10))
            """,
        )
        bench.file("scripts/c.py", "def task(f, i, o): ...\ndef main():\n    raise ValueError('no sample')\n")
        tasks = [
            v4("a", [], ["b", "c"], flag="false"), v4("b", ["a"], ["home"], inputs=2), v4("c", ["a"], ["home"]),
        ]  # fmt: skip
        answer = await profiled(bench, tasks)
        assert answer.edge_bytes == {"home>a": 100, "a>b": 2800, "a>c": 1400, "b>home": 280}
        assert answer.seconds.keys() == {"a", "b"}
        assert 0.04 < answer.seconds["a"] < 1
        assert not answer.complete
        assert answer.error == "c: c.py:3: ValueError: no sample"
        assert sorted(path.name for path in (bench.app / "sample_input").iterdir()) == ["1own"]

    on_bench(tmp_path, test)


V5 = """
import os, queue, shutil, threading, time
APP_DIR = os.path.dirname(os.path.abspath(__file__))
def task(q, pathin, pathout, task_name):
    while True:
        name = q.get()
        for child in {'a': ['b', 'c'], 'b': ['home'], 'c': ['home']}[task_name]:
            shutil.copyfile(os.path.join(pathin, name), os.path.join(pathout, f'{task_name}_{child}_out'))
        q.task_done()
HOOK
"""
HOOK = """
def profile_execution(task_name):
    q = queue.Queue()
    input_dir = f'{APP_DIR}/sample_inputs/'
    output_dir = f'{APP_DIR}/sample_outputs/'
    for file in os.listdir(input_dir):
        os.rename(input_dir + file, f'{input_dir}EXTERNAL_{task_name}_{file}')
    os.makedirs(output_dir)
    threading.Thread(target=task, args=(q, input_dir, output_dir, task_name)).start()
    for file in os.listdir(input_dir):
        q.put(file)
    q.join()
    return output_dir, [f for f in os.listdir(output_dir) if f.startswith(task_name)]
"""


def v5_tasks() -> list[TaskSpec]:
    edges = {"a": (["home"], ["b", "c"]), "b": (["a"], ["home"]), "c": (["a"], ["home"])}
    home = TaskSpec("home", "t.py", contract="v5", children=["a"], extra={"role": "home"})
    feeder = TaskSpec("feeder", "t.py", contract="v5", children=["a"], extra={"role": "nondag"})
    dag = [TaskSpec(n, "t.py", contract="v5", parents=p, children=c) for n, (p, c) in edges.items()]
    return [home, *dag, feeder]


def test_a_v5_apps_profile_execution_is_used_on_a_copy_of_the_app(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.file("sample_inputs/own", b"o" * 40)
        bench.file("t.py", V5.replace("HOOK", HOOK))
        answer = await profiled(bench, v5_tasks())
        assert (answer.complete, answer.error) == (True, "")
        assert answer.edge_bytes == {"home>a": 100, "a>b": 40, "a>c": 40, "b>home": 40, "c>home": 40}
        assert answer.seconds.keys() == {"a", "b", "c"}
        assert sorted(path.name for path in bench.app.rglob("*")) == ["own", "sample_inputs", "t.py"]

    on_bench(tmp_path, test)


def test_without_a_hook_v5_tasks_and_commands_get_what_their_parents_gave(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.file("t.py", V5.replace("HOOK", ""))
        tasks = [
            *v5_tasks()[:-2],
            TaskSpec("c", command=["sh", "-c", "cat $JUPITER_IN/a/* $JUPITER_IN/a/* > $JUPITER_OUT/twice"],
                     contract="command", parents=["a"], children=["d"]),
            TaskSpec("d", "d.py", parents=["c"], children=["home"]),
        ]  # fmt: skip
        bench.file("d.py", "def process(inputs, ctx):\n    return inputs['c'] + b'!'\n")
        answer = await profiled(bench, tasks)
        assert (answer.complete, answer.error) == (True, "")
        assert answer.edge_bytes == {
            "home>a": 100, "a>b": 100, "a>c": 100, "b>home": 100, "c>d": 200, "d>home": 201,
        }  # fmt: skip

    on_bench(tmp_path, test)


def test_a_hook_that_hangs_costs_its_share_of_the_budget_and_no_more(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        hang = "def profile_execution(name):\n    if name == 'a': time.sleep(60)\n    return APP_DIR, ['own']\n"
        bench.file("own", b"o" * 40)
        bench.file("t.py", V5.replace("HOOK", hang))
        started = time.monotonic()
        answer = await profiled(bench, v5_tasks(), budget_s=1.5)
        assert time.monotonic() - started < 4
        assert answer.error.startswith("a: not done within its share of the budget")
        assert "b:" not in answer.error, "there is time for one that does not hang; on a busy machine not for all"
        assert answer.edge_bytes["home>a"] == 100
        assert answer.edge_bytes["b>home"] == 40

    on_bench(tmp_path, test)


def test_a_native_task_that_hangs_or_fails_marks_itself_and_what_hangs_on_it(tmp_path: Path) -> None:
    code = """
import time
def process(inputs, ctx):
    if ctx.task == "slow":
        while True:
            time.sleep(0.01)
    if ctx.task == "bad":
        raise ValueError("not today")
    return b"xy" * 10
"""

    async def test(bench: Bench) -> None:
        bench.file("t.py", code)
        bench.runner.profile(ProfileApp("j", b"bundle", bench.store.put("s", b"abc"), 20.0, task_s=0.3), [
            TaskSpec("slow", "t.py", children=["after"]), TaskSpec("bad", "t.py", children=["home"]),
            TaskSpec("good", "t.py", children=["home"]), TaskSpec("after", "t.py", children=["home"], parents=["slow"]),
        ])  # fmt: skip
        answer = await bench.event(lambda e: isinstance(e, Profiled))
        assert isinstance(answer, Profiled)
        assert sorted(answer.seconds) == ["good"]
        assert answer.used["good"][1] == 3
        assert answer.edge_bytes["good>home"] == 20
        assert not answer.complete
        assert answer.errors == {
            "slow": "not done within 0.3 s", "bad": "t.py:8: ValueError: not today",
            "after": "it was given nothing by slow",
        }  # fmt: skip
        assert 0.3 <= answer.makespan_s < 10

    on_bench(tmp_path, test)


def test_what_there_is_after_a_while_is_told_before_the_end(tmp_path: Path) -> None:
    code = "import time\ndef process(inputs, ctx):\n    time.sleep(0.0 if ctx.task == 'a' else 2.0)\n    return b''\n"

    async def test(bench: Bench) -> None:
        bench.file("t.py", code)
        tasks = [TaskSpec("a", "t.py", children=["b"]), TaskSpec("b", "t.py", children=["home"], parents=["a"])]
        bench.runner.profile(ProfileApp("j", b"bundle", bench.store.put("s", b""), 20.0, first_s=1.0), tasks)
        first = await bench.event(lambda e: isinstance(e, Profiled))
        last = await bench.event(lambda e: isinstance(e, Profiled) and not e.goes_on)
        assert isinstance(first, Profiled)
        assert isinstance(last, Profiled)
        assert (first.goes_on, first.complete) == (True, False)
        assert "b" not in first.seconds, "a may be in it, as fast as this machine starts a process"
        assert (sorted(last.seconds), last.complete) == (["a", "b"], True)

    on_bench(tmp_path, test)


def test_a_sample_run_that_says_absurd_numbers_of_itself_is_ended_and_believed_nothing(tmp_path: Path) -> None:
    """Its script finds the socket to the agent, and writes frames of its own."""
    code = """
import os, stat, struct
from jupiter_agent.task.frames import Pipe
def process(inputs, ctx):
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                Pipe(fd).write(["measured", "t", SECONDS, {"home": SIZE}, 0.0, 0])
        except OSError:
            pass
    return b""
"""
    for seconds, size in (("float('nan')", "1"), ("-5.0", "1"), ("1e300", "1"), ("1.0", "-1"), ("1.0", "10**18")):

        async def test(bench: Bench, seconds: str = seconds, size: str = size) -> None:
            bench.file("t.py", code.replace("SECONDS", seconds).replace("SIZE", size))
            answer = await profiled(bench, [TaskSpec("t", "t.py", children=["home"])])
            assert not answer.complete
            assert answer.seconds == {}
            assert answer.edge_bytes == {"home>t": 100}

        folder = tmp_path / f"{seconds}{size}"
        folder.mkdir()
        on_bench(folder, test)
