"""The parts of the file contracts that need no process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

import jupiter_agent.compat
from jupiter_agent.task.command import find, gather, lay_out
from jupiter_agent.task.errors import ContractError
from jupiter_agent.task.inotify import Scan, Watch
from jupiter_agent.task.native import Outputs
from jupiter_agent.task.v4 import destinations, groups, join_key
from jupiter_agent.task.v5 import mentions


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("1botnet.ipsum", "1botnet"), ("1split_0", "1split"), ("1anomalies_x.log", "1anomalies"), ("a.b_c.d", "a.b"),
        ("plain", "plain"), ("_x", ""), (".x", ""),
    ],
)  # fmt: skip
def test_the_join_key_ends_at_the_first_underscore_else_at_the_first_dot(name: str, key: str) -> None:
    assert join_key(name) == key


def test_groups_fire_as_they_become_complete_and_leftovers_never(capsys: pytest.CaptureFixture[str]) -> None:
    assert groups(["1_a", "2_a", "2_b", "1_b", "2_c"], 2, "i") == [["2_a", "2_b"], ["1_a", "1_b"]]
    assert capsys.readouterr().err == "[jupiter] item i: 1 of 2 files with the key '2': not run (2_c)\n"
    assert groups(["a", "b"], 1) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("flag", "children", "expected"),
    [
        ("true", ["x", "y"], [[], [], []]),
        ("false", ["x", "y"], [["x"], ["y"], ["x"]]),
        ("false", ["x", "home", "y", "z"], [["x"], ["home"], ["y"]]),
        ("ordered", [], [["home"]] * 3),
    ],
)
def test_the_flag_decides_who_gets_which_output(flag: str, children: list[str], expected: list[list[str]]) -> None:
    assert destinations({"extra": {"flag": flag}, "children": children}, 3) == expected


@pytest.mark.parametrize("kind", [Watch, Scan])
def test_closed_files_are_named_in_order_and_renamed_ones_too(tmp_path: Path, kind: type[Watch] | type[Scan]) -> None:
    watched = kind(str(tmp_path))
    (tmp_path / "folder").mkdir()
    with open(tmp_path / "slow", "wb") as slow:
        (tmp_path / "quick").touch()
        assert watched.closed() == ["quick"]
        assert watched.open_names == {"slow"}
        slow.write(b"x")
    assert watched.closed() == ["slow"]
    assert watched.open_names == set()
    assert watched.closed() == []
    os.rename(tmp_path / "quick", tmp_path / "folder" / "away")
    os.rename(tmp_path / "folder" / "away", tmp_path / "back")
    (tmp_path / "slow").write_bytes(b"again")
    assert sorted(watched.closed()) == ["back", "slow"]
    watched.close()


def test_more_files_than_the_kernel_queues_are_found(tmp_path: Path) -> None:
    watched = Watch(str(tmp_path))
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 20000:
        pytest.skip("the queue is long here")
    for n in range(limit // 2 + 100):
        os.close(os.open(tmp_path / str(n), os.O_CREAT | os.O_WRONLY))
    assert len(set(watched.closed())) == limit // 2 + 100
    watched.close()


def test_programs_are_found_in_the_app_and_in_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bin/tool", "mine", "sub"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    app = str(tmp_path)
    assert find(["tool"], app) == str(tmp_path / "bin" / "tool")
    assert find(["mine", "-x"], app) == find(["./mine"], app) == str(tmp_path / "mine")
    assert find([str(tmp_path / "sub")], "/") == str(tmp_path / "sub")
    with pytest.raises(ContractError, match="is not a file of the app"):
        find(["./bin"], app)


def test_inputs_lie_by_parent_and_none_hides_another(tmp_path: Path) -> None:
    lay_out(str(tmp_path), [("a/f", "f", b"1", ""), ("a/f", "f", b"2", ""), ("input", "f", b"3", "")])
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("f*")}
    assert found == {"a/f": b"1", "a/f.2": b"2", "input/f": b"3"}


def test_outputs_are_gathered_in_order_of_name_those_for_all_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("y/b", "x/c", "x/a", "z"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    setup = {"task": "t", "children": ["x", "y"], "out": str(tmp_path), "inline_bytes": 10}
    got = [output[:3] for output in gather(str(out), setup, Outputs(setup, 1, str(out)))]
    assert got == [([], "z", b"z"), (["x"], "a", b"x/a"), (["x"], "c", b"x/c"), (["y"], "b", b"y/b")]


def test_task_done_is_seen_in_code_and_not_in_comments() -> None:
    def code(text: str) -> bool:
        return mentions(compile(text, "f", "exec"), "task_done")

    assert code("def task(q):\n  while True:\n    (lambda: q.task_done())()")
    assert not code("def task(q):\n  q.get()  # q.task_done()\n  'task_done'")


@pytest.fixture
def transfer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, *jupiter_agent.compat.__path__])
    for name, value in {
        "MY_TASK_NAME": "t", "JUPITER_CHILDREN": "x home w", "JUPITER_OUTPUT": str(tmp_path / "out"),
        "CIRCE_HOME_IP": "1.1.1.1", "CIRCE_TASK_TO_IP": "t:2.2.2.2 x:3.3.3.3 y:4.4.4.4", "CIRCE_NONDAG_TASK_TO_IP": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(next(iter(jupiter_agent.compat.__path__)))
    from jupiter_utils import transfer as module  # type: ignore[import-not-found]

    return module


def test_a_transfer_finds_its_child_by_the_address_or_by_the_name(transfer: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "t_x_data_1.bin"
    source.write_bytes(b"d")
    ip = transfer.circe_lookup_ip("x")
    assert (ip, ip.task) == ("3.3.3.3", "x")
    transfer.transfer_data_scp(ip, "22", "root", "pw", str(source), "/jupiter/circe_input/")
    transfer.transfer_data_scp("9.9.9.9", "22", "root", "pw", str(source), "/jupiter/circe_input/t_x_other.bin")
    transfer.transfer_data_scp("home", "root", "pw", str(source), "/root/result.txt")
    assert sorted(os.listdir(tmp_path / "out")) == ["t_home_result.txt", "t_x_data_1.bin", "t_x_other.bin"]
    assert transfer.circe_lookup_ip("w").task == "w"
    with pytest.raises(transfer.TransferError, match="cannot be sent to task y: it is no child here"):
        transfer.transfer_data_scp(transfer.circe_lookup_ip("y"), "22", "root", "pw", str(source), "/")
    with pytest.raises(transfer.CIRCEIpNotFoundError, match="no address of the DAG task z is known"):
        transfer.circe_lookup_ip("z")
    with pytest.raises(transfer.CIRCEIpNotFoundError, match="non-DAG"):
        transfer.circe_lookup_nondag_ip("z")
