"""The native contract, without a process around it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jupiter_agent.task.errors import ContractError
from jupiter_agent.task.native import MAX_INLINE_TOTAL, Context, Inputs, Outputs, copy
from jupiter_agent.task.serve import empty

INLINE = 64


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    return tmp_path


def outputs(folders: Path, children: list[str] | None = None) -> Outputs:
    setup = {"task": "t", "children": children or [], "out": str(folders / "out"), "inline_bytes": INLINE}
    return Outputs(setup, 7, str(folders / "scratch"))


def context(folders: Path, inputs: Inputs, **setup: Any) -> Context:
    base = {"job": "j1", "task": "t", "params": {"k": "3"}}
    return Context({**base, **setup}, "item1", inputs, str(folders / "scratch"))


# --- outputs -------------------------------------------------------------------------------------------------


def test_none_gives_nothing_to_nobody(folders: Path) -> None:
    assert outputs(folders, ["a"]).take(None) == []


@pytest.mark.parametrize("value", [b"xyz", bytearray(b"xyz"), memoryview(b"xyz")])
def test_a_plain_value_is_for_all_children_and_named_after_the_task(folders: Path, value: object) -> None:
    assert outputs(folders, ["a", "b"]).take(value) == [([], "t", b"xyz", 0, 3)]


def test_an_empty_value_is_an_object_too(folders: Path) -> None:
    assert outputs(folders).take(b"") == [([], "t", b"", 0, 0)]


def test_a_path_keeps_its_base_name(folders: Path) -> None:
    path = folders / "scratch" / "face.png"
    path.write_bytes(b"png")
    assert outputs(folders).take(path) == [([], "face.png", b"png", 0, 3)]


def test_a_dict_routes_and_none_in_it_means_nothing_for_that_child(folders: Path) -> None:
    taken = outputs(folders, ["a", "b", "c"]).take({"b": b"1", "a": None, "c": b"2"})
    assert taken == [(["b"], "t", b"1", 0, 1), (["c"], "t", b"2", 1, 1)]


def test_the_same_value_for_two_children_is_one_object(folders: Path) -> None:
    value = os.urandom(10)
    assert outputs(folders, ["a", "b"]).take({"a": value, "b": value}) == [(["a", "b"], "t", value, 0, 10)]


def test_a_task_without_children_may_name_home(folders: Path) -> None:
    assert outputs(folders).take({"home": b"r"}) == [(["home"], "t", b"r", 0, 1)]


def test_an_unknown_child_is_a_contract_error_that_lists_the_known(folders: Path) -> None:
    with pytest.raises(ContractError, match=r"naming 'c'; the children are a, b"):
        outputs(folders, ["a", "b"]).take({"c": b""})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("text", r"returned a str: .*text\.encode\(\)"),
        (3, "returned an int"),
        ([b"x"], "returned a list"),
        ({"a": "text"}, "returned a str for a"),
    ],
)
def test_a_wrong_type_is_a_contract_error_that_says_what_is_right(folders: Path, value: object, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        outputs(folders, ["a"]).take(value)


def test_a_path_that_is_not_a_file_is_a_contract_error(folders: Path) -> None:
    for path in (folders / "nowhere", folders):
        with pytest.raises(ContractError, match="is not a file"):
            outputs(folders).take(path)


def test_a_file_name_that_could_not_travel_is_a_contract_error(folders: Path) -> None:
    path = folders / "scratch" / "a\nb"
    path.write_bytes(b"")
    with pytest.raises(ContractError, match="with the name"):
        outputs(folders).take(path)


def test_large_bytes_are_left_as_a_file(folders: Path) -> None:
    data = os.urandom(INLINE + 1)
    assert outputs(folders).take(data) == [([], "t", None, 0, len(data))]
    assert (folders / "out" / "7.0").read_bytes() == data


def test_a_large_file_of_the_scratch_folder_is_moved_not_copied(folders: Path) -> None:
    path = folders / "scratch" / "big"
    path.write_bytes(bytes(INLINE + 1))
    number = path.stat().st_ino
    outputs(folders).take(path)
    assert not path.exists()
    assert (folders / "out" / "7.0").stat().st_ino == number


def test_a_large_file_from_elsewhere_is_copied(folders: Path) -> None:
    path = folders / "model.bin"
    path.write_bytes(bytes(INLINE + 1))
    outputs(folders).take(path)
    assert path.exists()
    assert (folders / "out" / "7.0").read_bytes() == path.read_bytes()


def test_a_link_to_a_large_file_elsewhere_does_not_move_that_file(folders: Path) -> None:
    path = folders / "model.bin"
    path.write_bytes(bytes(INLINE + 1))
    (folders / "scratch" / "soft").symlink_to(path)
    (folders / "scratch" / "hard").hardlink_to(path)
    for name in ("soft", "hard"):
        assert Outputs(
            {"task": "t", "children": [], "out": str(folders / "out"), "inline_bytes": INLINE},
            len(name) + ord(name[0]),
            str(folders / "scratch"),
        ).take(folders / "scratch" / name)[0][1:3] == (name, None)
    assert path.exists()


def test_many_small_values_do_not_make_an_endless_frame(folders: Path) -> None:
    size = 64 * 1024
    count = MAX_INLINE_TOTAL // size + 3
    children = [f"c{n}" for n in range(count)]
    setup = {"task": "t", "children": children, "out": str(folders / "out"), "inline_bytes": size}
    taken = Outputs(setup, 1, str(folders)).take({child: bytes([n]) * size for n, child in enumerate(children)})
    assert sum(data is None for _, _, data, _, _ in taken) == 3


# --- inputs --------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "stored"
    path.write_bytes(b"large")
    return path


def lazy(stored: Path) -> Inputs:
    return Inputs([("a", "n1", b"small", ""), ("b", "n2", None, str(stored))])


def test_an_input_in_the_store_is_read_when_asked_for_and_once(stored: Path) -> None:
    inputs = lazy(stored)
    assert inputs["b"] == b"large"
    stored.unlink()
    assert inputs["b"] == b"large"


@pytest.mark.parametrize(
    "use",
    [dict, lambda i: {**i}, lambda i: i.copy(), lambda i: dict(i.items()),
     lambda i: dict(zip(i, i.values(), strict=True)), lambda i: {k: i.get(k) for k in i},
     lambda i: i | {}, lambda i: {k: i.pop(k) for k in list(i)}],
)  # fmt: skip
def test_every_way_of_reading_a_dict_sees_the_stored_bytes(stored: Path, use: Any) -> None:
    assert use(lazy(stored)) == {"a": b"small", "b": b"large"}
    assert lazy(stored) == {"a": b"small", "b": b"large"}


def test_inputs_are_a_dict_that_may_be_changed(stored: Path) -> None:
    inputs = lazy(stored)
    assert isinstance(inputs, dict)
    inputs["b"] = b"mine"
    assert inputs["b"] == b"mine"
    assert inputs.get("c") is None
    with pytest.raises(KeyError, match="no input from 'c'; this item has: "):
        inputs["c"]


def test_a_path_of_a_parent_that_sent_nothing_names_those_that_did(folders: Path) -> None:
    ctx = context(folders, Inputs([("left", "f", b"", "")]))
    with pytest.raises(KeyError, match="no input from 'right'; this item has: left"):
        ctx.path("right")


# --- ctx -----------------------------------------------------------------------------------------------------


def test_ctx_has_item_job_task_params_and_scratch(folders: Path) -> None:
    ctx = context(folders, Inputs([]))
    assert (ctx.item, ctx.job, ctx.task, ctx.params) == ("item1", "j1", "t", {"k": "3"})
    assert ctx.scratch == folders / "scratch"


def test_an_input_as_a_file_is_a_copy_with_the_objects_name(folders: Path, stored: Path) -> None:
    ctx = context(folders, lazy(stored))
    path = ctx.path("b")
    assert path.name == "n2"
    assert path == ctx.path("b")
    path.write_bytes(b"harm")
    assert stored.read_bytes() == b"large"
    assert ctx.path("a").read_bytes() == b"small"


def test_changed_params_do_not_reach_the_next_item(folders: Path) -> None:
    setup = {"params": {"k": "3"}}
    context(folders, Inputs([]), **setup).params["k"] = "4"
    assert context(folders, Inputs([]), **setup).params == {"k": "3"}


def test_the_log_formats_like_a_logger_and_never_raises(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = context(folders, Inputs([])).log
    log.info("%d faces in %s", 2, "x.png")
    log.warning("100%")
    log.error("%d", "two")
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("oh")
    err = capsys.readouterr().err
    assert err.startswith("INFO 2 faces in x.png\nWARNING 100%\nERROR %d ('two',)\nERROR oh\nTraceback")
    assert err.endswith("ValueError: bad\n")


# --- files ---------------------------------------------------------------------------------------------------


def test_a_copy_works_where_the_kernel_cannot_share_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(18, "cross-device")

    (tmp_path / "a").write_bytes(b"x" * 100_000)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    copy(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"x" * 100_000


def test_emptying_removes_everything_but_what_links_point_to(tmp_path: Path) -> None:
    folder, outside = tmp_path / "f", tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "file").touch()
    (folder / "link").symlink_to(outside)
    empty(str(folder))
    assert list(folder.iterdir()) == []
    assert (outside / "keep").exists()
    folder.rmdir()
    empty(str(folder))
    assert folder.is_dir()
