"""Loading scripts: what is accepted, and how refusals read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupiter_agent.task.errors import ContractError, last_line, print_trace
from jupiter_agent.task.frames import Pipe
from jupiter_agent.task.load import load
from jupiter_agent.task.profile import in_order


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(app: Path, text: str, name: str = "my_task.py") -> str:
    (app / name).parent.mkdir(parents=True, exist_ok=True)
    (app / name).write_text(text)
    return name


def test_a_script_imports_its_siblings_and_is_not_main(app: Path) -> None:
    write(app, "FACTOR = 3", "my_sibling.py")
    script = write(app, "from my_sibling import FACTOR\ndef process(inputs, ctx): return (FACTOR, __name__, __file__)")
    assert load(str(app), script)({}, None) == (3, "my_task", str(app / script))


def test_a_script_in_a_subfolder_imports_from_the_apps_folder(app: Path) -> None:
    write(app, "FACTOR = 3", "my_sibling.py")
    script = write(app, "from my_sibling import FACTOR\ndef process(inputs, ctx): return FACTOR", "sub/my_other.py")
    assert load(str(app), script)({}, None) == 3


def test_a_script_named_like_a_loaded_module_replaces_nothing(app: Path) -> None:
    script = write(app, "def process(inputs, ctx): return __name__", "sys.py")
    assert load(str(app), script)({}, None) == "jupiter_script_sys"
    assert hasattr(sys, "path")


def test_dataclasses_of_a_script_work(app: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass P:\n    x: int\ndef process(inputs, ctx): return P(1).x"
    )
    assert load(str(app), write(app, text))({}, None) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", r"my_task\.py defines no `process`: write"),
        ("def task(q, pathin, pathout, task_name): ...", "that is the v5 contract"),
        ("process = 3", "is an int, not a function"),
        ("def process(inputs): ...", r"my_task\.py:1: `process` takes 1 arguments"),
        ("def process(a, b, c): ...", "takes 3 arguments"),
        ("async def process(inputs, ctx): ...", "is async"),
        ("def process(inputs, ctx): yield b''", "is a generator"),
    ],
)
def test_a_broken_contract_is_said_at_load(app: Path, text: str, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        load(str(app), write(app, text))


@pytest.mark.parametrize(
    "text",
    [
        "def process(inputs, ctx, more=1): return 5",
        "def process(*args): return 5",
        "process = lambda inputs, ctx: 5",
        "class C:\n    def __call__(self, inputs, ctx): return 5\nprocess = C()",
        "class C:\n    def m(self, inputs, ctx): return 5\nprocess = C().m",
        "import functools\nprocess = functools.partial(lambda k, i, c: k, 5)",
    ],
)
def test_whatever_can_be_called_with_inputs_and_ctx_is_accepted(app: Path, text: str) -> None:
    assert load(str(app), write(app, text))({}, None) == 5


@pytest.mark.parametrize("script", ["", "nowhere.py", "/etc/passwd", "../x.py", "a/../../x.py"])
def test_a_script_must_be_a_file_of_the_app(app: Path, script: str) -> None:
    with pytest.raises(ContractError, match="has no script"):
        load(str(app), script)


def raised(app: Path, text: str) -> BaseException:
    with pytest.raises(BaseException) as caught:
        load(str(app), write(app, text))({}, None)
    return caught.value


def test_the_last_line_names_the_place_in_the_app_not_in_a_library(app: Path) -> None:
    error = raised(app, "import json\ndef process(inputs, ctx):\n    json.loads('{')")
    assert last_line(error, str(app)).startswith("my_task.py:3: JSONDecodeError: Expecting")


def test_the_last_line_of_a_syntax_error_names_its_line(app: Path) -> None:
    assert last_line(raised(app, "x = 1\ny = ("), str(app)).startswith("my_task.py:2: SyntaxError: ")


def test_the_last_line_is_one_line_of_bounded_length(app: Path) -> None:
    line = last_line(raised(app, "raise ValueError('a\\nb' * 1000)"), str(app))
    assert "\n" not in line
    assert len(line) < 600


def test_the_trace_leaves_our_own_frames_out(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_trace(raised(app, "def process(inputs, ctx):\n    1 / 0"), str(app))
    err = capsys.readouterr().err
    assert "load.py" not in err
    assert '  File "my_task.py", line 2, in process' in err
    assert err.endswith("ZeroDivisionError: division by zero\n")


def test_frames_cross_a_pipe_whole_and_end_with_none() -> None:
    read, write_fd = os.pipe()
    reader, writer = Pipe(read), Pipe(write_fd)
    values = [["run", b"\x00" * 300], {"a": None}, 1.5]
    for value in values:
        writer.write(value)
    os.close(write_fd)
    assert [reader.read() for _ in values] == values
    assert reader.read() is None
    os.close(read)


def test_a_profile_runs_parents_first_and_leaves_cycles_out() -> None:
    tasks = [
        {"name": name, "parents": parents}
        for name, parents in [("d", ["b", "c"]), ("b", ["a"]), ("c", ["a"]), ("a", ["home"]), ("x", ["x"])]
    ]
    order = [task["name"] for task in in_order(tasks)]
    assert order == ["a", "b", "c", "d"]
