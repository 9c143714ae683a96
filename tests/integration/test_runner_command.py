"""Tasks that are commands in any language: what they find, what they give, how they fail."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from runner_bench import Bench, on_bench

from jupiter_agent.adapters.runner import Limits
from jupiter_agent.core.events import RunDone, RunFailed, TaskDown
from jupiter_agent.core.messages.jobs import TaskSpec

COUNT_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
    char path[4096];
    snprintf(path, sizeof path, "%s/input/words.txt", getenv("JUPITER_IN"));
    FILE *in = fopen(path, "r");
    long lines = 0;
    for (int c; (c = fgetc(in)) != EOF;) lines += c == '\n';
    snprintf(path, sizeof path, "%s/count.txt", getenv("JUPITER_OUT"));
    FILE *out = fopen(path, "w");
    fprintf(out, "%s %s %ld\n", argv[1], getenv("JUPITER_ITEM"), lines * atol(argv[2]));
    return fclose(out);
}
"""


def shell(text: str, **spec: object) -> TaskSpec:
    return TaskSpec("t", command=["sh", "-c", text], contract="command", **spec)  # type: ignore[arg-type]


def test_a_compiled_c_program_is_a_task(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        source = tmp_path / "count.c"
        source.write_text(COUNT_C)
        subprocess.run(["gcc", "-O1", "-o", bench.app / "count", source], check=True)
        bench.begin(TaskSpec("t", command=["./count", "--times", "3"], contract="command"))
        run = bench.give(("input", "words.txt", b"a\nb\nc\n"), item="book")
        assert await bench.outputs(run) == [("", "count.txt", b"--times book 9\n")]

    on_bench(tmp_path, test)


def test_an_argument_that_names_a_file_of_the_app_is_found_from_the_scratch_folder(tmp_path: Path) -> None:
    script = 'import os, sys\nopen(os.environ["JUPITER_OUT"] + "/seen", "w").write(" ".join(sys.argv[1:]))\n'

    async def test(bench: Bench) -> None:
        bench.file("tools/x.py", script)
        bench.file("table", "1 2 3")
        words = ["python3", "tools/x.py", "./table", "--k", "3", "../table", "none.py", "tools"]
        bench.begin(TaskSpec("t", command=words, contract="command"))
        run = bench.give(("input", "words.txt", b"a"), item="book")
        [(_, _, said)] = await bench.outputs(run)
        assert said.decode().split() == [str(bench.app / "table"), "--k", "3", "../table", "none.py", "tools"]

    on_bench(tmp_path, test)


@pytest.mark.smoke
def test_a_command_finds_its_inputs_by_parent_and_its_environment(tmp_path: Path) -> None:
    text = """
        cd "$JUPITER_IN" && for f in */*; do echo "$f=$(cat "$f")"; done > "$JUPITER_OUT/seen"
        data=$(cat "$JUPITER_APP/data")
        echo "$JUPITER_ITEM $JUPITER_TASK $JUPITER_JOB $data $JUPITER_PARAM_K_1" >> "$JUPITER_OUT/seen"
        """

    async def test(bench: Bench) -> None:
        bench.file("data", "beside")
        bench.begin(shell(text, params={"k-1": "v"}))
        run = bench.give(("a", "x", b"1"), ("a", "y", b"2"), ("b", "x", b"3"), item="i")
        [(_, _, seen)] = await bench.outputs(run)
        assert seen.decode().splitlines() == ["a/x=1", "a/y=2", "b/x=3", "i t j beside v"]

    on_bench(tmp_path, test)


def test_files_at_the_top_are_for_all_and_files_in_a_childs_folder_for_that_child(tmp_path: Path) -> None:
    text = """
        cd "$JUPITER_OUT"; mkdir x home; echo 1 > all; echo 2 > x/a; echo 3 > x/b; echo 4 > home/a
        head -c 200000 /dev/zero > x/big; ln -s "$JUPITER_IN/input/f" x/link
        """

    async def test(bench: Bench) -> None:
        bench.begin(shell(text, children=["x", "y", "home"]))
        got = await bench.outputs(bench.give(("input", "f", b"in")))
        assert sorted(got) == [
            ("", "all", b"1\n"), ("home", "a", b"4\n"), ("x", "a", b"2\n"), ("x", "b", b"3\n"),
            ("x", "big", bytes(200000)), ("x", "link", b"in"),
        ]  # fmt: skip

    on_bench(tmp_path, test)


def test_the_working_folder_is_empty_each_time_and_nothing_said_is_nothing_given(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.begin(shell("ls -A; touch left .hidden; pwd"))
        assert await bench.outputs(bench.give()) == await bench.outputs(bench.give()) == []
        assert "left" not in await bench.logged("/work")

    on_bench(tmp_path, test)


def test_a_command_that_fails_says_its_last_lines(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.begin(shell("cat $JUPITER_IN/input/*; seq 9 >&2; [ $JUPITER_ITEM != bad ] || { echo why >&2; exit 3; }"))
        failed = await bench.answer(bench.give(("input", "f", b"out\n"), item="bad"))
        assert isinstance(failed, RunFailed)
        assert (failed.kind, failed.error) == ("error", "sh exited with code 3: 6 | 7 | 8 | 9 | why")
        assert isinstance(await bench.answer(bench.give()), RunDone)
        log = await bench.logged("why")
        assert " out\n" in log
        assert not [event for event in bench.events if isinstance(event, TaskDown)]

    on_bench(tmp_path, test)


@pytest.mark.smoke
def test_a_command_that_is_killed_says_so(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.begin(shell("kill -SEGV $$"))
        failed = await bench.answer(bench.give())
        assert (failed.kind, failed.error) == ("error", "sh was killed by signal 11")

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["./nowhere"], "'./nowhere' is not a file of the app"),
        (["./data"], "'./data' is not executable: chmod +x"),
        (["no-such-program"], "neither in PATH nor in the app's folder"),
        (["/no/such"], "no program '/no/such'"),
        ([], "empty command"),
    ],
)
def test_a_command_that_cannot_be_started_is_a_contract_error(tmp_path: Path, command: list[str], words: str) -> None:
    async def test(bench: Bench) -> None:
        bench.file("data", "text")
        bench.begin(TaskSpec("t", command=command, contract="command"))
        failed = await bench.answer(bench.give())
        assert failed.kind == "contract"
        assert words in failed.error

    on_bench(tmp_path, test)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mkdir $JUPITER_OUT/z; touch $JUPITER_OUT/z/f", "the folder 'z' in JUPITER_OUT is no child: they are x, y"),
        ("mkdir -p $JUPITER_OUT/x/deep", "JUPITER_OUT/x/deep is a folder"),
        ("ln -s nowhere $JUPITER_OUT/f", "which is not a file"),
    ],
)
def test_outputs_at_odd_places_are_contract_errors(tmp_path: Path, text: str, words: str) -> None:
    async def test(bench: Bench) -> None:
        bench.begin(shell(text, children=["x", "y"]))
        failed = await bench.answer(bench.give())
        assert failed.kind == "contract"
        assert words in failed.error

    on_bench(tmp_path, test)


def test_a_script_without_an_interpreter_line_is_a_contract_error(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.file("plain", "echo hi\n", 0o755)
        bench.begin(TaskSpec("t", command=["./plain"], contract="command"))
        failed = await bench.answer(bench.give())
        assert failed.kind == "contract"
        assert "cannot be started" in failed.error

    on_bench(tmp_path, test)


def test_a_command_over_its_time_is_killed_with_all_it_started(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.begin(shell("[ $JUPITER_ITEM = ok ] || { sleep 60 & sleep 60; }", timeout_s=0.3))
        failed = await bench.answer(bench.give(item="slow"))
        assert failed.kind == "timeout"
        assert isinstance(await bench.answer(bench.give(item="ok")), RunDone)

    on_bench(tmp_path, test)


def test_what_a_command_leaves_running_ends_with_its_run_and_holds_nothing_up(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.begin(shell("(setsid sleep 61 & echo $! > $JUPITER_OUT/pid) ; sleep 0.02", parallel=2))
        started = time.monotonic()
        (_, _, pid), *_ = await bench.outputs(bench.give())
        assert time.monotonic() - started < 5
        assert not psutil.pid_exists(int(pid))

    on_bench(tmp_path, test)


def test_commands_run_in_parallel_as_many_as_allowed(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.begin(shell("sleep 0.2; echo $PWD > $JUPITER_OUT/where", parallel=4))
        await bench.up()
        started = time.monotonic()
        runs = [bench.give() for _ in range(4)]
        places = {(await bench.outputs(run))[0][2] for run in runs}
        assert len(places) == 4
        assert time.monotonic() - started < 0.7

    on_bench(tmp_path, test, Limits())


def test_the_agents_environment_is_not_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")

    async def test(bench: Bench) -> None:
        bench.begin(shell("env > $JUPITER_OUT/env"), params={"_env_MINE": "here", "_env_JUPITER_JOB": "forged"})
        [(_, _, env)] = await bench.outputs(bench.give())
        assert b"SECRET_TOKEN" not in env
        assert b"MINE=here\n" in env
        assert b"forged" not in env

    on_bench(tmp_path, test)
    assert "MINE" not in os.environ
