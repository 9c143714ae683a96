"""User code that raises, exits, floods, hangs or breaks its contract: said clearly, and the agents do not mind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_rig import Cluster, Ended, eventually, living, make_app, make_inputs, read_results


@pytest.fixture
def sound(cluster: Cluster) -> Iterator[Cluster]:
    """The shared cluster; afterwards every agent lives and no task process of an ended job is left."""
    pids = [cluster.pid(name) for name in cluster.names]
    yield cluster
    assert [cluster.pid(name) for name in cluster.names] == pids
    assert cluster.is_well()
    eventually(lambda: living(cluster.folder).keys() == set(pids), "only the agents are left")


def run_bad(cluster: Cluster, tmp_path: Path, code: str, *args: object, more: str = "retries: 0") -> Ended:
    """Submit an app whose second task is this code, with two items."""
    app = make_app(tmp_path / "app", {"good": "bad", "bad": ("home", more)}, {"bad": code})
    inputs = make_inputs(tmp_path / "in", 2)
    return cluster.ctl("-o", "json", "submit", app, "--input", inputs, "--ep", "off", *args)


RAISES = """
def process(inputs, ctx):
    if ctx.item == "item1":
        raise RuntimeError("the wheel came off")
    return b"fine"
"""


@pytest.mark.smoke
def test_a_task_that_raises_fails_its_item_names_it_and_leaves_the_others_results(
    sound: Cluster, tmp_path: Path
) -> None:
    ended = run_bad(sound, tmp_path, RAISES, "--results", tmp_path / "out", more="retries: 1")
    assert ended.code == 1
    node = ended.json()["mapping"]["bad"]
    assert f"error: item item1 task bad on {node}: bad.py:4: RuntimeError: the wheel came off" in ended.err
    assert "hint: `jupiter ctl logs " in ended.err
    assert "Traceback" not in ended.err
    assert (ended.json()["state"], ended.json()["items_done"], ended.json()["items_failed"]) == ("failed", 1, 1)
    assert read_results(tmp_path / "out") == {"item0/bad/bad": b"fine"}
    assert sound.ctl("wait", "last").code == 1
    item = sound.ctl("describe", "item", "last/item1", "-o", "json").ok().json()
    assert (item["state"], item["attempts"], item["results"]) == ("failed", 2, [])
    assert "in process" in sound.ctl("logs", "last/bad").ok().out, "the log has the whole traceback"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os\ndef process(inputs, ctx):\n    os._exit(3)\n", "exited with code 3"),
        ("import sys\ndef process(inputs, ctx):\n    sys.exit(4)\n", "4"),
        ("import os, signal\ndef process(inputs, ctx):\n    os.kill(os.getpid(), signal.SIGSEGV)\n", "SIGSEGV"),
        ("def process(inputs, ctx):\n    return 7\n", "int"),
        ("def process(inputs, ctx):\n    return {'nobody': b'x'}\n", "nobody"),
        ("import nothing_of_this_name\ndef process(inputs, ctx):\n    return b''\n", "nothing_of_this_name"),
    ],
    ids=["exits", "sys.exit", "crashes", "wrong-type", "unknown-child", "does-not-import"],
)
def test_a_task_that_exits_or_breaks_its_contract_is_a_failed_job(
    sound: Cluster, tmp_path: Path, code: str, said: str
) -> None:
    ended = run_bad(sound, tmp_path, code, "--wait", "--timeout", 20)
    assert ended.code == 1, ended.err
    assert "task bad on node" in ended.err
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_a_task_that_prints_a_hundred_megabytes_is_heard_in_part_and_harms_nothing(
    sound: Cluster, tmp_path: Path
) -> None:
    flood = "def process(inputs, ctx):\n    print(('x' * 99 + '\\n') * 500_000)\n    return b'done'\n"
    ended = run_bad(sound, tmp_path, flood, "--results", tmp_path / "out", "--timeout", 30).ok()
    assert len(read_results(tmp_path / "out")) == 2
    job, node = ended.json()["id"], ended.json()["mapping"]["bad"]
    kept = sum(path.stat().st_size for path in (sound.folder / node / "jobs").rglob("*") if path.is_file())
    assert kept < 20 << 20
    log = sound.ctl("logs", f"{job}/bad").ok().out
    assert "the log is cut here" in log.splitlines()[-1]


def test_a_task_that_hangs_fails_at_its_timeout(sound: Cluster, tmp_path: Path) -> None:
    hangs = "import time\ndef process(inputs, ctx):\n    time.sleep(1000)\n"
    began = time.monotonic()
    ended = run_bad(sound, tmp_path, hangs, "--wait", more="timeout_s: 0.5, retries: 0")
    assert ended.code == 1
    assert "0.5 s" in ended.err
    assert time.monotonic() - began < 12


def test_a_task_that_hangs_without_a_timeout_is_waited_for_as_long_as_told_then_cancelled(
    sound: Cluster, tmp_path: Path
) -> None:
    hangs = "import time\ndef process(inputs, ctx):\n    time.sleep(1000)\n"
    ended = run_bad(sound, tmp_path, hangs, "--wait", "--timeout", 1)
    assert (ended.code, ended.out) == (6, "")
    assert "error: timeout: job " in ended.err
    assert "hint: it goes on; `jupiter ctl wait " in ended.err
    job = sound.ctl("get", "jobs", "last", "-o", "json").ok().json()["items"][0]
    assert job["state"] == "running"
    sound.ctl("wait", job["id"], "--timeout", "0.3").refused(6, "timeout")
    gone = sound.ctl("cancel", "last", "-o", "json").ok().json()
    assert gone["state"] == "cancelled"
    assert sound.ctl("wait", "last").code == 1
    sound.ctl("cancel", "last").ok()


def test_a_task_that_ignores_sigterm_and_forks_is_ended_with_its_children_by_cancel(
    sound: Cluster, tmp_path: Path
) -> None:
    stubborn = """
import os, signal, time
def process(inputs, ctx):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
    time.sleep(1000)
"""
    assert run_bad(sound, tmp_path, stubborn, "--wait", "--timeout", 1).code == 6
    sound.ctl("cancel", "last").ok()
