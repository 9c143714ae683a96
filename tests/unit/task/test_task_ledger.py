"""Which output belongs to which run of a v5 task, and when a run is done: real folders, no process."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from jupiter_agent.task import bystanders, inotify, ledger, pathout
from jupiter_agent.task.bystanders import Bystanders
from jupiter_agent.task.itemqueue import ItemQueue
from jupiter_agent.task.ledger import Ledger
from jupiter_agent.task.pathin import PathIn
from jupiter_agent.task.pathout import PathOut

OTHER = ThreadPoolExecutor(1)


class Task:
    """A task of the test's making: it gets, writes and is done when the test says so."""

    def __init__(self, folder: Path, counts_done: bool) -> None:
        for name in ("in", "out", "store"):
            (folder / name).mkdir()
        self.pathout = folder / "out"
        setup: dict[str, Any] = {
            "task": "t", "children": ["x", "y"], "extra": {}, "out": str(folder / "store"), "inline_bytes": 1000,
            "held_s": 30.0, "counts_done": counts_done,
        }  # fmt: skip
        self.now = 100.0
        self.said: list[list[Any]] = []
        self.inward = PathIn(str(folder / "in"), "t")
        self.ledger = Ledger(setup, (self.inward, PathOut(setup, str(self.pathout))), self.said.append)
        self.queue = ItemQueue(self.ledger)

    def feed(self, run: int, *bases: str) -> None:
        entries = [(f"p{n}", base, b"", "") for n, base in enumerate(bases)]
        names = self.inward.names(entries)
        self.ledger.feed(run, names, self.inward.put(list(names), entries))
        for name in names:
            self.queue.put(name)

    def get(self) -> str:
        return self.queue.get_nowait()

    def write(self, base: str, child: str = "x") -> None:
        (self.pathout / f"t_{child}_{base}").write_bytes(base.encode())

    def wait_until_due(self) -> None:
        self.now = max(self.now, self.ledger.next_due())
        self.ledger.settle()

    def done(self) -> dict[int, list[str]]:
        """What was answered so far: run -> names of its outputs."""
        return {said[1]: [output[1] for output in said[3]] for said in self.said if said[0] == "done"}


def aside(do: Callable[[], object]) -> None:
    """As the thread that stands for all others."""
    OTHER.submit(do).result()


@pytest.fixture
def options() -> dict[str, Any]:
    """Overridden by tests."""
    return {}


@pytest.fixture(params=["Watch", "Scan"])
def task(
    request: pytest.FixtureRequest, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Task:
    monkeypatch.setattr(pathout, "watch", getattr(inotify, request.param))
    monkeypatch.setattr(Bystanders, "present", lambda self: False)
    monkeypatch.setattr(Bystanders, "_busy", lambda self: iter(()))
    monkeypatch.setattr(bystanders, "_children", lambda: iter(()))
    task = Task(tmp_path, options.get("counts_done", True))
    clock = SimpleNamespace(
        perf_counter=lambda: task.now, clock_gettime=lambda _: time.clock_gettime(time.CLOCK_BOOTTIME),
        CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
    )  # fmt: skip
    monkeypatch.setattr(ledger, "time", clock)
    return task


def test_a_run_is_done_when_each_of_its_files_was_got_and_done(task: Task) -> None:
    task.feed(1, "a", "b")
    assert task.get() == "p0_t_a"
    task.write("a")
    task.queue.task_done()
    assert task.done() == {}
    assert task.get() == "p1_t_b"
    task.write("b", "y")
    task.queue.task_done()
    assert task.done() == {1: ["a", "b"]}
    assert os.listdir(task.pathout) == []


def test_a_run_without_files_is_done_at_once(task: Task) -> None:
    task.feed(1)
    assert task.done() == {1: []}


def test_a_file_written_twice_is_one_output_with_its_last_content(task: Task) -> None:
    task.feed(1, "a")
    task.get()
    task.write("a")
    (task.pathout / "t_x_a").write_bytes(b"longer than before")
    task.queue.task_done()
    [(_, _, _, [(_, name, data, _, _)], *_)] = task.said
    assert (name, data) == ("a", b"longer than before")


def test_what_was_written_before_a_get_belongs_to_the_file_got_before(task: Task) -> None:
    task.feed(1, "a")
    task.feed(2, "b")
    task.get()
    task.write("same")
    task.get()
    task.write("same")
    task.queue.task_done()
    task.queue.task_done()
    assert task.done() == {2: ["same"], 1: ["same"]}


def test_in_a_batch_base_names_decide_and_the_rest_is_for_the_last(task: Task) -> None:
    for run, base in enumerate("abc", 1):
        task.feed(run, base)
        task.get()
    for base in ("c", "a", "sum", "b"):
        task.write(base)
    for _ in range(3):
        task.queue.task_done()
    assert {run: sorted(names) for run, names in task.done().items()} == {1: ["a"], 2: ["b"], 3: ["c", "sum"]}


@pytest.mark.parametrize("options", [{"counts_done": False}])
def test_without_task_done_the_next_get_after_an_output_ends_it(task: Task) -> None:
    task.feed(1, "a")
    task.feed(2, "b")
    task.get()
    task.write("a")
    task.get()
    assert task.done() == {1: ["a"]}
    task.ledger.on_blocked()
    assert task.done() == {1: ["a"], 2: []}


@pytest.mark.parametrize("options", [{"counts_done": False}])
def test_without_task_done_a_batch_is_held_until_there_is_an_output(task: Task) -> None:
    for run, base in enumerate("abc", 1):
        task.feed(run, base)
    for _ in range(3):
        task.get()
    assert task.done() == {}
    task.write("b")
    task.ledger.on_blocked()
    assert task.done() == {1: [], 2: ["b"], 3: []}


@pytest.mark.parametrize("options", [{"counts_done": False}])
def test_the_first_task_done_counts_even_if_the_script_never_mentions_it(task: Task) -> None:
    task.feed(1, "a")
    task.get()
    task.queue.task_done()
    task.feed(2, "b")
    task.get()
    task.ledger.on_blocked()
    assert task.done() == {1: []}


def test_a_held_file_lets_the_next_run_in(task: Task) -> None:
    task.feed(1, "a")
    task.get()
    task.ledger.on_blocked()
    assert task.said == [["window", 2]]
    task.feed(2, "b")
    task.get()
    task.ledger.on_blocked()
    assert task.said == [["window", 2], ["window", 3]]


def test_looking_at_the_queue_lets_many_in(task: Task) -> None:
    assert task.queue.qsize() == 0
    assert task.queue.empty()
    assert task.said == [["window", 64]]


def test_what_was_passed_over_is_done_when_the_task_waits(task: Task) -> None:
    task.feed(1, "bad")
    task.feed(2, "good")
    task.get()
    task.get()
    task.queue.task_done()
    assert task.done() == {2: []}
    task.ledger.on_blocked()
    assert task.done() == {2: [], 1: []}


def test_what_is_held_for_long_is_done(task: Task) -> None:
    task.feed(1, "a")
    task.get()
    task.ledger.on_blocked()
    task.now = 129.9
    task.ledger.settle()
    assert task.done() == {}
    task.now = 130.0
    task.ledger.settle()
    assert task.done() == {1: []}


def test_what_is_held_with_an_output_is_done_soon(task: Task) -> None:
    task.feed(1, "a")
    task.get()
    task.write("a")
    task.ledger.on_blocked()
    task.ledger.settle()
    assert task.done() == {}
    assert task.ledger.next_due() == 100.0 + ledger.SETTLE_S
    task.wait_until_due()
    assert task.done() == {1: ["a"]}


def test_a_file_still_being_written_delays_the_answer_until_it_is_closed(task: Task) -> None:
    task.feed(1, "a")
    task.get()
    with open(task.pathout / "t_x_a", "wb") as file:
        task.queue.task_done()
        assert task.done() == {}
        assert task.ledger.next_due() == 100.0 + ledger.QUIET_S
        for _ in range(100):
            task.wait_until_due()
        assert task.done() == {}
        file.write(b"rest")
    task.ledger.settle()
    assert task.done() == {1: ["a"]}


def test_a_file_that_stays_open_without_growing_is_not_waited_for(task: Task) -> None:
    task.feed(1, "b")
    task.get()
    with open(task.pathout / "t_x_b", "wb"):
        os.utime(task.pathout / "t_x_b", (0, 0))
        task.queue.task_done()
        task.wait_until_due()
        assert task.done() == {1: []}


def test_a_log_that_was_open_before_the_item_is_not_waited_for(task: Task) -> None:
    with open(task.pathout / "log", "wb") as file:
        task.feed(1, "a")
        task.get()
        file.write(b"line")
        file.flush()
        task.queue.task_done()
        task.wait_until_due()
        assert task.done() == {1: []}


def busy_thread(monkeypatch: pytest.MonkeyPatch, began_boot: float = 0.0) -> None:
    """A thread that is at work, as far as the ledger can see."""
    thread = threading.Thread(target=lambda: None, name="writer")
    monkeypatch.setattr(Bystanders, "present", lambda self: True)
    monkeypatch.setattr(Bystanders, "_busy", lambda self: iter([thread]))
    monkeypatch.setattr(bystanders, "_began", lambda who: ("S", began_boot))


def test_a_thread_at_work_is_waited_for_until_it_rests(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_thread(monkeypatch)
    task.feed(1, "a")
    task.get()
    task.queue.task_done()
    while task.now < 101.5:
        task.wait_until_due()
    assert task.done() == {}
    task.write("a")
    monkeypatch.setattr(Bystanders, "_busy", lambda self: iter(()))
    task.wait_until_due()
    task.wait_until_due()
    assert task.done() == {1: ["a"]}


def test_a_thread_that_never_rests_is_waited_for_once(
    task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    busy_thread(monkeypatch)
    task.feed(1, "a")
    task.get()
    task.queue.task_done()
    while 1 not in task.done():
        task.wait_until_due()
    assert task.now == pytest.approx(100.0 + ledger.PATIENCE_S, abs=2 * ledger.QUIET_S)
    assert "[jupiter] thread writer: still at work long after task_done" in capsys.readouterr().err
    began = task.now
    task.feed(2, "b")
    task.get()
    task.queue.task_done()
    task.wait_until_due()
    assert 2 in task.done()
    assert task.now == pytest.approx(began + ledger.QUIET_S)
    task.write("late")
    task.ledger.drain()
    task.feed(3, "c")
    task.get()
    task.queue.task_done()
    task.wait_until_due()
    assert 3 not in task.done()  # what is late once is waited for again


def test_a_thread_begun_during_the_item_is_given_more_time(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_thread(monkeypatch, began_boot=float("inf"))
    task.feed(1, "a")
    task.get()
    task.queue.task_done()
    while 1 not in task.done():
        task.wait_until_due()
    assert task.now == pytest.approx(130.0, abs=2 * ledger.QUIET_S)


def test_threads_at_work_on_other_items_delay_nothing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_thread(monkeypatch)
    task.feed(1, "a")
    task.feed(2, "b")
    task.get()
    task.get()
    task.queue.task_done()
    task.wait_until_due()
    assert 2 in task.done()


def test_threads_that_wait_for_work_are_at_rest_and_those_that_compute_or_sleep_are_not(tmp_path: Path) -> None:
    out = PathOut({"task": "t", "children": ["x"], "extra": {}}, str(tmp_path))
    them, stop = Bystanders(out), threading.Event()
    resting = threading.Thread(target=stop.wait, daemon=True)
    waiting = threading.Thread(target=Queue().get, daemon=True)
    sleeping = threading.Thread(target=lambda: time.sleep(10), daemon=True)
    timer = threading.Timer(10, lambda: None)
    for thread in (resting, waiting, sleeping, timer):
        thread.start()
    began_to_wait = time.monotonic()
    while {resting, waiting} & set(them._busy()) and time.monotonic() - began_to_wait < 5:
        pass
    aside(lambda: None)
    assert them.present()
    busy, began = them.at_work()
    assert {resting, waiting, sleeping, timer} & busy == {sleeping, timer}
    assert began <= time.clock_gettime(time.CLOCK_BOOTTIME)
    stop.set()
    timer.cancel()


def test_other_threads_are_waited_for_until_that_was_often_for_nothing(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bystanders, "present", lambda self: True)

    def answered_at_once(run: int) -> bool:
        task.feed(run, "a")
        task.get()
        task.queue.task_done()
        at_once = run in task.done()
        task.wait_until_due()
        assert run in task.done()
        return at_once

    assert [answered_at_once(run) for run in range(1, 23)] == [False] * ledger.CALM + [True] * 2
    task.write("late")
    task.ledger.drain()
    assert not answered_at_once(30)


def test_an_output_with_nobody_inside_is_reported_alone(task: Task) -> None:
    task.write("early")
    task.feed(1, "a")
    assert task.said == [["made", ["x"], "early", b"early", 0, 5]]


@pytest.mark.parametrize("options", [{"counts_done": False}, {"counts_done": True}])
def test_a_thread_that_waits_says_nothing_of_what_another_one_holds(task: Task) -> None:
    task.feed(1, "a")
    task.feed(2, "b")
    task.get()
    aside(task.get)
    task.write("b")
    aside(task.ledger.on_blocked)
    task.now += ledger.SETTLE_S
    task.ledger.settle()
    assert 1 not in task.done()
    task.queue.task_done()
    assert task.done()[1] == []


def test_a_file_may_be_done_by_another_thread_than_the_one_that_got_it(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bystanders, "present", lambda self: True)
    task.feed(1, "a")
    aside(task.get)
    aside(task.ledger.on_blocked)
    task.write("a")
    task.now += 2 * ledger.SETTLE_S
    task.ledger.settle()
    assert task.done() == {}
    task.queue.task_done()
    task.wait_until_due()
    assert task.done() == {1: ["a"]}


def frame_of(wait: Callable[[], object]) -> tuple[threading.Thread, list[FrameType]]:
    """The frames of a thread that waits like this, once it does."""
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    frames: list[FrameType] = []
    while not frames or frames[0].f_code.co_name in bystanders.BEGINNING:
        frames = [sys._current_frames()[thread.ident or 0]]
    return thread, frames


def test_a_thread_whose_queue_has_something_for_it_is_at_work() -> None:
    inbox: Queue[str] = Queue()
    thread, [frame] = frame_of(inbox.get)
    inbox.queue.append("not told yet")  # as between `put` and the moment the thread wakes up
    assert not bystanders._rests(frame)
    inbox.queue.clear()
    assert bystanders._rests(frame)
    inbox.put("")
    thread.join(5)


def test_what_had_begun_fails_and_the_rest_goes_back(task: Task) -> None:
    task.feed(1, "a")
    task.feed(2, "b")
    task.get()
    task.ledger.fail("broken")
    assert task.said == [["failed", 1, "error", "broken"], ["back", 2]]


def test_names_the_task_puts_into_its_queue_itself_are_nobodys(task: Task) -> None:
    task.feed(1, "a")
    task.queue.put("its own")
    assert [task.get(), task.get()] == ["p0_t_a", "its own"]
    task.queue.task_done()
    assert task.done() == {1: []}


def test_one_parents_files_of_one_name_are_both_there(tmp_path: Path) -> None:
    inward = PathIn(str(tmp_path), "t")
    entries = [("p/f", "f", b"1", ""), ("p/f", "f", b"2", ""), ("input", "f", b"3", "")]
    names = inward.names(entries)
    assert list(names) == ["p_t_f", "p_t_f.2", "home_t_f"]
    inward.put(list(names), entries)
    assert [(tmp_path / name).read_bytes() for name in names] == [b"1", b"2", b"3"]


def test_inputs_stay_for_a_while_and_a_newer_one_of_the_name_is_not_removed(tmp_path: Path) -> None:
    inward = PathIn(str(tmp_path), "t")
    for n in range(40):
        base = f"f{n}" if n else "f39"
        names = inward.names([("p", base, b"", "")])
        inward.release(inward.put(list(names), [("p", base, b"", "")]), list(names))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"p_t_f{n}" for n in range(24, 40))


def test_names_that_reach_no_child_are_counted_and_kept_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup: dict[str, Any] = {
        "task": "t", "children": ["x", "home"], "extra": {"aliases": {"master": "home"}}, "out": str(tmp_path),
        "inline_bytes": 10,
    }  # fmt: skip
    folder = tmp_path / "out"
    folder.mkdir()
    out = PathOut(setup, str(folder))
    names = ["t_x_a_b", "t_master_c", "t_home_", "t_y_d", "plain", "other_x_e"]
    for name in names:
        (folder / name).touch()
    outputs = out.outputs(1)
    taken = [out.take(name, outputs, n) for n, name in enumerate(names)]
    assert [output and output[:2] for output in taken] == [
        (["x"], "a_b"), (["home"], "c"), None, None, None, (["x"], "e"),
    ]  # fmt: skip
    assert out.refused == 3
    assert "'t_y_d' is not passed on: it names no child" in capsys.readouterr().err
    assert list(folder.iterdir()) == []
