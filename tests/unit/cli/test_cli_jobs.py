"""The life of a job as seen from the command line: what is sent, what is waited for, what is written."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import Ended, FakeCluster, Run, job

from jupiter_agent.cli.ctl import bundles
from jupiter_agent.core.app import AppSpec
from jupiter_agent.core.messages.control import Call
from jupiter_agent.core.messages.jobs import INLINE_BYTES, INLINE_MESSAGE_BYTES
from jupiter_agent.core.wire import MAX_BYTES, encode
from jupiter_agent.errors import EXIT_USAGE, JupiterError, UnauthorisedError, UnreachableError, UsageError


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app folder with one sample; what is in a bundle is tested elsewhere."""
    spec = AppSpec("example", [], samples=["samples/s.png"])
    monkeypatch.setattr(bundles, "pack", lambda folder: (spec, b"bundle of " + folder.name.encode()))
    (tmp_path / "example" / "samples").mkdir(parents=True)
    (tmp_path / "example" / "samples" / "s.png").write_text("s")
    return tmp_path / "example"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.png", "a.png", ".hidden"):
        (folder / name).write_text(name)
    return folder


def polled(*states: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"items": [job(**state)]} for state in states]


DONE = {"state": "completed", "items_done": 2, "makespan_s": 1.5}


def test_submit_sends_bundle_and_inputs_first_and_prints_the_job(
    cluster: FakeCluster, run: Run, app: Path, inputs: Path
) -> None:
    cluster.answers["submit"] = job()
    mapping = inputs.parent / "mapping.yaml"
    mapping.write_text("detect: node2\n")
    ended = run("ctl", "submit", app, "--input", inputs, "--mapper", "heft", "--param", "k=a=b", "--seed", 7, "--name",
                "n", "--mapping", mapping, "--ep", "off", "-o", "json")  # fmt: skip
    assert ended.code == 0
    args = cluster.args("submit")
    assert cluster.blobs[args.pop("bundle")] == b"bundle of example"
    assert [cluster.blobs[item.pop("sha256")] for item in args["inputs"]] == [b"a.png", b"b.png"]
    assert [item.pop("data") for item in args["inputs"]] == [b"a.png", b"b.png"]
    assert args == {
        "app": "example", "size": 17, "mapper": "heft", "name": "n", "seed": 7, "params": {"k": "a=b"},
        "mapping": {"detect": "node2"}, "ep": "off", "keep_open": False,
        "inputs": [{"name": "a.png", "size": 5}, {"name": "b.png", "size": 5}],
    }  # fmt: skip
    body = json.loads(ended.out)
    assert (body["apiVersion"], body["kind"], body["id"]) == ("jupiter/v1", "job", "j-1f2e")
    assert body["submitted_at"] == "2023-11-14T22:13:20.250Z"
    assert "skipped .hidden, deeper" in ended.err


def test_what_was_not_given_is_not_sent(cluster: FakeCluster, run: Run, app: Path) -> None:
    cluster.answers["submit"] = job()
    assert run("ctl", "submit", app, "-o", "name").out == "j-1f2e\n"
    assert cluster.args("submit").keys() == {"app", "bundle", "size", "params", "ep", "keep_open", "inputs"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["example", "--input", "missing.png"], "missing.png: no such file or folder"),
        (["example", "--input", "empty"], "empty: no file in this folder"),
        (["example", "--input", "in/a.png", "--input", "other/a.png"], "would be the same item"),
        (["example", "--param", "novalue"], "not K=V"),
        (["example", "--mapping", "in/a.png"], "not a mapping"),
        (["example", "--timeout", "soon"], "'--timeout'"),
        (["example", "--ep", "most"], "'--ep'"),
    ],
)
def test_a_wrong_argument_exits_2_before_anything_is_sent(
    cluster: FakeCluster, run: Run, app: Path, tmp_path: Path, inputs: Path, arguments: list[str], complaint: str
) -> None:
    for name in ("empty", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "a.png").write_text("x")
    ended = run("ctl", "submit", *arguments, "-o", "json")
    assert (ended.code, ended.out, cluster.opened) == (2, "", 0)
    assert ended.err.startswith("error: ")
    assert complaint in ended.err


def test_an_app_that_would_be_refused_exits_2_with_no_cluster_at_all(
    cluster: FakeCluster, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "app_config.yaml").write_text("tasks: 7\n")
    for folder, complaint in (("bad", "app_config.yaml"), ("missing", "missing: no such folder")):
        ended = run("ctl", "submit", folder)
        assert (ended.code, cluster.opened) == (2, 0)
        assert complaint in ended.err


def test_samples_are_inputs_and_an_app_without_any_says_so(
    cluster: FakeCluster, run: Run, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.answers["submit"] = job()
    assert run("ctl", "submit", app, "--samples").code == 0
    assert [item["name"] for item in cluster.args("submit")["inputs"]] == ["s.png"]
    monkeypatch.setattr(bundles, "pack", lambda folder: (AppSpec("example", []), b""))
    ended = run("ctl", "submit", app, "--samples")
    assert (ended.code, "has no samples" in ended.err) == (2, True)


def test_submit_and_wait_prints_the_final_job_and_writes_the_results(
    cluster: FakeCluster, run: Run, app: Path, inputs: Path, tmp_path: Path
) -> None:
    results = [cluster.result("merge", "a.txt", b"of a"), cluster.result("home", "a.txt", b"also of a")]
    cluster.answers |= {
        "submit": job(state="mapping"),
        "get": polled({"state": "mapping"}, {"items_done": 2}, {"items_done": 2}, {"items_done": 2}, DONE),
        "results": {"items": [{"name": "a.png", "state": "done", "results": results}], "home": "node1"},
    }
    ended = run("ctl", "submit", app, "--input", inputs, "--wait", "--results", tmp_path / "out", "-o", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["state"] == "completed", "intake was closed: idle is not the end"
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {"a.png/merge/a.txt", "a.png/home/a.txt"}
    assert (tmp_path / "out/a.png/merge/a.txt").read_bytes() == b"of a"
    assert "j-1f2e completed: 2/2 items" in ended.err


def test_polling_slows_down_from_a_tenth_to_half_a_second(cluster: FakeCluster, run: Run) -> None:
    times: list[float] = []

    def get(args: dict[str, Any]) -> dict[str, Any]:
        times.append(cluster.now)
        return polled(DONE if len(times) > 12 else {})[0]

    cluster.answers["get"] = get
    assert run("ctl", "wait", "last").code == 0
    gaps = [round(later - earlier, 3) for earlier, later in pairwise(times[1:])]
    assert gaps[:2] == [0.1, 0.13]
    assert gaps[-1] == 0.5
    assert gaps == sorted(gaps)


def test_wait_on_a_job_with_open_intake_returns_when_nothing_is_open(cluster: FakeCluster, run: Run) -> None:
    idle = {"state": "waiting", "items_done": 2}
    cluster.answers["get"] = polled({}, {}, idle, {"items_in": 3, "items_done": 2}, {"items_in": 3, "items_done": 3})
    ended = run("ctl", "wait", "last", "-o", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["items_in"] == 3, "idle once is not settled"


def test_a_timeout_exits_6_and_says_that_the_job_goes_on(cluster: FakeCluster, run: Run, app: Path) -> None:
    cluster.answers |= {"submit": job(), "get": polled({})}
    ended = run("ctl", "submit", app, "--samples", "--wait", "--timeout", 3, "-o", "json")
    assert (ended.code, ended.out) == (6, "")
    assert "error: timeout: job j-1f2e is not done yet\nhint: it goes on" in ended.err
    assert cluster.now == pytest.approx(1003.0)
    assert "cancel" not in [verb for verb, _ in cluster.calls]


def test_ctrl_c_while_waiting_detaches(cluster: FakeCluster, run: Run, app: Path) -> None:
    cluster.answers |= {"submit": job(), "get": [*polled({}, {}), KeyboardInterrupt()]}
    ended = run("ctl", "submit", app, "--samples", "--wait")
    assert ended.code == 130
    assert "detached: job j-1f2e goes on" in ended.err


def failed(count: int) -> list[dict[str, str]]:
    trace = "Traceback (most recent call last):\n  File ...\nValueError: not a picture\n"
    return [{"task": "detect", "item": f"{n}.png", "node": "node2", "error": trace} for n in range(count)]


def run_failing(cluster: FakeCluster, run: Run, errors: list[dict[str, str]], **more: Any) -> Ended:
    state = {"state": "failed", "items_failed": len(errors)}
    cluster.answers |= {"get": polled(state), "describe": job(**state, errors=errors, **more)}
    return run("ctl", "wait", "last", "-o", "json")


def test_a_failed_job_exits_1_with_item_task_node_and_the_last_traceback_line(cluster: FakeCluster, run: Run) -> None:
    ended = run_failing(cluster, run, failed(1))
    assert ended.code == 1
    assert "error: item 0.png task detect on node2: ValueError: not a picture\n" in ended.err
    assert "hint: `jupiter ctl logs j-1f2e/detect`" in ended.err
    assert json.loads(ended.out)["state"] == "failed"


def test_ten_failures_are_shown_and_the_others_counted(cluster: FakeCluster, run: Run) -> None:
    err = run_failing(cluster, run, failed(13)).err
    assert err.count("ValueError") == 10
    assert "error: and 3 more" in err


def test_a_job_that_cannot_be_placed_exits_3_when_the_agent_says_so(cluster: FakeCluster, run: Run) -> None:
    ended = run_failing(cluster, run, [], exit_code=3, reason="task detect: no node allowed")
    assert ended.code == 3
    assert "no node allowed" in ended.err


def test_waiting_on_a_cancelled_job_exits_1(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = polled({"state": "cancelled"})
    cluster.answers["describe"] = {}
    ended = run("ctl", "wait", "last")
    assert (ended.code, "error: job j-1f2e was cancelled\n" in ended.err) == (1, True)


def test_waiting_on_a_job_that_its_mapper_failed_says_why(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = polled({"state": "failed"})
    cluster.answers["describe"] = {"reason": "mapper mine: RuntimeError: no plan", "exit_code": 1}
    ended = run("ctl", "wait", "last")
    assert "error: job j-1f2e failed: mapper mine: RuntimeError: no plan\n" in ended.err
    assert "logs" not in ended.err, "nothing has run"


def test_waiting_on_a_job_that_is_not_mapped_says_what_it_waits_for(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = polled(*[{"state": "mapping"}] * 30, DONE)
    why = "waits for node 'node4', to which it is pinned"
    cluster.answers["describe"] = {"tasks": [{"name": "a", "why": why}, {"name": "b"}]}
    assert run("ctl", "wait", "last").err.count(f"task a {why}\n") == 1


def test_watch_prints_the_job_whenever_it_changes_and_only_then(cluster: FakeCluster, run: Run, app: Path) -> None:
    cluster.answers |= {"submit": job(), "get": polled({}, {}, {"items_done": 1}, DONE)}
    lines = run("ctl", "submit", app, "--samples", "--watch", "-o", "json").out.splitlines()
    assert [json.loads(line)["items_done"] for line in lines] == [0, 1, 2]


def test_waiting_survives_the_death_of_the_agent_it_asks(cluster: FakeCluster, run: Run) -> None:
    gone = UnreachableError("gone")
    cluster.answers["get"] = [*polled({}, {}), gone, gone, JupiterError("no home yet"), *polled(DONE)]
    assert run("ctl", "wait", "last").code == 0
    assert cluster.opened > 1


def test_waiting_gives_up_when_nobody_answers_for_long(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = [*polled({}, {}), UnreachableError("no agent answers")]
    assert run("ctl", "wait", "last").code == 4
    assert 1010 < cluster.now < 1020


AWAY = UnreachableError("job j-1f2e has lost its home")


def test_waiting_that_begins_while_the_home_is_away_waits_for_it(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = [*[AWAY] * 9, *polled({}, DONE)]
    assert run("ctl", "wait", "last").code == 0


def test_a_job_that_nobody_knows_is_not_waited_for(cluster: FakeCluster, run: Run) -> None:
    cluster.answers["get"] = JupiterError("there is no job 'lsat'", "", EXIT_USAGE)
    assert (run("ctl", "wait", "lsat").code, cluster.now) == (2, 1000.0)


@pytest.mark.parametrize("begun", [0, 2])
def test_the_patience_with_a_home_that_is_away_lasts_as_long_as_the_timeout(
    cluster: FakeCluster, run: Run, begun: int
) -> None:
    cluster.answers["get"] = [*polled(*[{}] * begun), AWAY]
    assert run("ctl", "wait", "last", "--timeout", 60).code == 4
    assert 1059 < cluster.now < 1061
    cluster.answers["get"], cluster.now = [*polled(*[{}] * begun), AWAY], 1000.0
    assert run("ctl", "wait", "last", "--timeout", 3).code == 4
    assert 1002 < cluster.now < 1004


def test_put_says_what_was_there_already(cluster: FakeCluster, run: Run, inputs: Path) -> None:
    cluster.answers |= {"put": {"accepted": ["a.png"], "ignored": ["b.png"]}, "get": polled({})}
    ended = run("ctl", "put", "last", inputs, "--task", "left", "-o", "json")
    args = cluster.args("put")
    assert (args["job"], args["rename"], "at" in args) == ("j-1f2e", False, False)
    assert json.loads(ended.out)["job"] == "j-1f2e"
    assert [(item["name"], item["task"]) for item in args["inputs"]] == [("a.png", "left"), ("b.png", "left")]
    assert json.loads(ended.out)["accepted"] == ["a.png"]
    assert "ignored, the job has them already: b.png" in ended.err


@pytest.mark.parametrize("verb", ["close", "cancel"])
def test_close_and_cancel_print_the_job(cluster: FakeCluster, run: Run, verb: str) -> None:
    cluster.answers |= {verb: {}, "get": polled({"state": "cancelled"})}
    assert json.loads(run("ctl", verb, "last", "-o", "json").out)["kind"] == "job"
    assert cluster.args(verb) == {"job": "last"}


EVIL = ["../up", "..", ".", "", "a/b", "/etc/x", "nul\0", "line\n", 7, None]


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("place", ["item", "sink", "name"])
def test_results_with_evil_names_are_refused_and_nothing_is_written(
    cluster: FakeCluster, run: Run, tmp_path: Path, evil: object, place: str
) -> None:
    good = {"item": "a.png", "sink": "merge", "name": "a.txt"}
    names = good | {place: evil}
    blob = cluster.result("merge", "a.txt", b"x")
    items = [
        {"name": n["item"], "state": "done", "results": [blob | {"sink": n["sink"], "name": n["name"]}]}
        for n in (good, names)
    ]
    cluster.answers["results"] = {"items": items, "home": "node1"}
    ended = run("ctl", "results", "last", "--out", tmp_path / "deep" / "out")
    assert ended.code == 1
    assert "unsafe name" in ended.err
    assert not list(tmp_path.iterdir())


def save_one(cluster: FakeCluster, run: Run, out: Path, result: dict[str, Any]) -> Ended:
    cluster.answers["results"] = {"items": [{"name": "a.png", "state": "done", "results": [result]}], "home": "node1"}
    return run("ctl", "results", "last", "--out", out, "-o", "json")


def test_results_are_not_written_through_a_link(cluster: FakeCluster, run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to(tmp_path / "elsewhere")
    ended = save_one(cluster, run, tmp_path / "out", cluster.result("merge", "a.txt", b"x"))
    assert ended.code == 2
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_results_cannot_go_to_is_a_usage_error_that_names_the_target(
    cluster: FakeCluster, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "out" / "a.png" / "merge" / "a.txt").mkdir(parents=True)
    result = cluster.result("merge", "a.txt", b"x")
    for out, complaint in (
        ("file", "--out file: File exists"),
        ("file/deeper", "file/deeper/a.png/merge/a.txt: Not a directory"),
        ("out", "cannot write out/a.png/merge/a.txt: Is a directory"),
    ):
        ended = save_one(cluster, run, Path(out), result)
        assert (ended.code, ended.out) == (2, "")
        assert complaint in ended.err
        assert ".part-" not in ended.err


def test_a_result_that_cannot_be_fetched_leaves_no_part_of_itself(
    cluster: FakeCluster, run: Run, tmp_path: Path
) -> None:
    ended = save_one(cluster, run, tmp_path / "out", {"sink": "m", "name": "a.txt", "sha256": "00" * 32, "size": 3})
    assert ended.code == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_results_already_there_are_not_fetched_again_and_wrong_ones_are_replaced(
    cluster: FakeCluster, run: Run, tmp_path: Path
) -> None:
    result = cluster.result("merge", "a.txt", b"right")
    assert save_one(cluster, run, tmp_path / "out", result).code == 0
    cluster.blobs.clear()
    assert save_one(cluster, run, tmp_path / "out", result).code == 0
    path = tmp_path / "out/a.png/merge/a.txt"
    path.write_bytes(b"wrong")
    cluster.write_blob(b"right")
    assert save_one(cluster, run, tmp_path / "out", result).code == 0
    assert path.read_bytes() == b"right"


def test_following_results_prints_each_item_once_and_ends_with_the_job(cluster: FakeCluster, run: Run) -> None:
    a, b = ({"name": name, "state": "done", "results": []} for name in ("a", "b"))
    cluster.answers |= {
        "get": polled({}, {}, {"items_done": 1}, DONE),
        "results": [{"items": [], "home": "n"}, {"items": [a], "home": "n"}, {"items": [a, b], "home": "n"}],
    }
    ended = run("ctl", "results", "last", "--follow", "-o", "json")
    assert ended.code == 0
    assert [json.loads(line)["name"] for line in ended.out.splitlines()] == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("`x` is ambiguous", "type more"), 2),
        (UnreachableError("nobody", "start one"), 4),
        (UnauthorisedError("refused", "another key"), 5),
        (JupiterError("not placeable", "more nodes", 3), 3),
    ],
)
def test_errors_of_the_agent_become_exit_codes_and_a_hint(
    cluster: FakeCluster, run: Run, error: JupiterError, code: int
) -> None:
    cluster.answers["get"] = error
    ended = run("ctl", "get", "jobs", "x", "-o", "json")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err == f"error: {error.message}\nhint: {error.hint}\n"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 77])
def test_an_error_without_a_hint_of_its_own_gets_one(cluster: FakeCluster, run: Run, code: int) -> None:
    cluster.answers["describe"] = JupiterError("oops", "", code)
    ended = run("ctl", "describe", "job", "x")
    assert ended.code == code
    assert ended.err.startswith("error: oops\nhint: ")


def test_what_nobody_expected_is_one_line_and_a_traceback_only_on_request(
    cluster: FakeCluster, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.answers["get"] = ZeroDivisionError("oops")
    ended = run("ctl", "get", "jobs")
    assert ended.code == 1
    assert ended.err.startswith("error: internal: ZeroDivisionError: oops\nhint: set JUPITER_DEBUG=1")
    assert "Traceback" not in ended.err
    monkeypatch.setenv("JUPITER_DEBUG", "1")
    assert "Traceback" in run("ctl", "get", "jobs").err


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for n in range(12_000):
        (folder / f"{n:05}-{'x' * 150}").write_bytes(b"%d" % (n % 7))
    return folder


def fits(args: dict[str, Any]) -> None:
    """With all the bytes that the asked agent may add on the way to the job's home."""
    assert len(encode(Call(1, "put", {**args, "inputs": list(args["inputs"])}))) < MAX_BYTES - INLINE_MESSAGE_BYTES


@pytest.mark.parametrize("more", [[], ["--keep-open"]])
def test_twelve_thousand_inputs_are_submitted_in_calls_that_fit_and_the_intake_is_closed_last(
    cluster: FakeCluster, run: Run, app: Path, many: Path, more: list[str]
) -> None:
    cluster.answers |= {"submit": job(), "put": {"accepted": []}, "close": job(items_in=12_000)}
    ended = run("ctl", "submit", app, "--input", many, "-o", "json", *more)
    assert ended.code == 0
    calls = [(verb, args) for verb, args in cluster.calls if verb in ("submit", "put", "close")]
    assert calls[0][0] == "submit"
    assert calls[0][1]["keep_open"] is True
    assert (calls[-1][0] == "close") == (not more)
    sent = [args for verb, args in calls if verb != "close"]
    for args in sent:
        fits(args)
    assert len({entry["name"] for args in sent for entry in args["inputs"]}) == 12_000
    assert all(args["job"] == "j-1f2e" for args in sent[1:])


def test_twelve_thousand_inputs_are_put_in_calls_that_fit(cluster: FakeCluster, run: Run, many: Path) -> None:
    cluster.answers["put"] = lambda args: {"accepted": [entry["name"] for entry in args["inputs"]]}
    ended = run("ctl", "put", "last", many)
    assert (ended.code, len(ended.out.splitlines())) == (0, 12_000)
    for verb, args in cluster.calls:
        assert verb == "put"
        fits(args)


def test_a_submit_that_stops_halfway_says_what_the_job_has(
    cluster: FakeCluster, run: Run, app: Path, many: Path
) -> None:
    cluster.answers |= {"submit": job(), "put": [{}, UnreachableError("gone")]}
    ended = run("ctl", "submit", app, "--input", many)
    assert ended.code == 4
    assert "job j-1f2e was given 500 of 12000 inputs and is open" in ended.err


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1)])
def test_waiting_for_a_job_that_is_over_and_whose_home_is_lost_says_what_is_known(
    cluster: FakeCluster, run: Run, state: str, code: int
) -> None:
    cluster.answers["get"] = {"items": [job(state=state, degraded=True, home_lost=True, items_in=0)]}
    ended = run("ctl", "wait", "j-1f2e")
    assert ended.code == code
    assert f"job j-1f2e {state}; its home, node node1, is lost" in ended.err
    assert "describe" not in [verb for verb, _ in cluster.calls]


def test_small_inputs_travel_in_the_call_and_large_ones_are_written(
    cluster: FakeCluster, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "small").write_bytes(b"s" * INLINE_BYTES)
    (tmp_path / "large").write_bytes(b"l" * (INLINE_BYTES + 1))
    cluster.answers["put"] = {"accepted": ["small", "large"]}
    run("ctl", "put", "last", tmp_path / "small", tmp_path / "large")
    small, large = cluster.args("put")["inputs"]
    assert small["data"] == b"s" * INLINE_BYTES
    assert "data" not in large
    assert cluster.blobs[large["sha256"]] == b"l" * (INLINE_BYTES + 1)


def test_calls_with_the_bytes_of_small_inputs_fit_into_frames(cluster: FakeCluster, run: Run, tmp_path: Path) -> None:
    for n in range(20):
        (tmp_path / f"{n}").write_bytes(b"%d" % n * (INLINE_BYTES // 2))
    cluster.answers["put"] = lambda args: {"accepted": [entry["name"] for entry in args["inputs"]]}
    assert run("ctl", "put", "last", tmp_path).code == 0
    assert sum(len(args["inputs"]) for _, args in cluster.calls) == 20
    assert len(cluster.calls) > 1
    for _, args in cluster.calls:
        assert len(encode(Call(1, "put", args))) < MAX_BYTES
