"""`jupiter app init`: the same small app in four contracts."""

import json
import stat
from pathlib import Path

import pytest
from app_evaluation import evaluate

from jupiter_agent.adapters.bundle import check_folder
from jupiter_agent.apps.lint import lint
from jupiter_agent.apps.templates import CONTRACTS, template, write_app
from jupiter_agent.errors import UsageError

SINK = {
    "native": "{item}.txt/report/report",
    "command": "{item}.txt/report/report",
    "v5": "{item}.txt/report/{item}.txt",
    "v4": "{item}/report/{item}_report",
}


def made(tmp_path: Path, contract: str, name: str = "words") -> Path:
    write_app(tmp_path / name, template(contract, name))
    return tmp_path / name


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_template_is_an_app_that_lint_finds_nothing_in(tmp_path: Path, contract: str) -> None:
    folder = made(tmp_path, contract)
    assert lint(folder) == []
    spec = check_folder(folder)
    assert (spec.name, spec.contract, len(spec.samples)) == ("words", contract, 2)
    assert [task.name for task in spec.tasks] == ["clean", "count", "longest", "report"]
    assert (spec.home_task is not None) == (contract == "v5")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_template_computes_what_its_readme_says(tmp_path: Path, contract: str) -> None:
    folder = made(tmp_path, contract)
    results = {path: json.loads(data) for path, data in evaluate(folder, tmp_path / "scratch").items()}
    assert results == {
        SINK[contract].format(item="river"): {"words": 24, "longest": "stream"},
        SINK[contract].format(item="mesh"): {"words": 16, "longest": "neighbours"},
    }
    readme = (folder / "README.md").read_text()
    assert all(json.dumps(result) in readme for result in results.values())


def test_shell_scripts_are_executable(tmp_path: Path) -> None:
    folder = made(tmp_path, "command")
    assert all(path.stat().st_mode & stat.S_IXUSR for path in folder.glob("*.sh"))


@pytest.mark.parametrize("name", ["1", "null", "my app", 'a"b', "a: b", "#x", "ä"])
def test_any_name_an_app_can_have_survives_the_template(tmp_path: Path, name: str) -> None:
    assert check_folder(made(tmp_path, "native", name)).name == name


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    made(tmp_path, "native")
    (tmp_path / "words" / "clean.py").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        made(tmp_path, "native")
    assert (tmp_path / "words" / "clean.py").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is there already"):
        write_app(tmp_path / "file", {})


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*: Not a directory"):
        write_app(tmp_path / "file" / "app", {"x": "y"})


@pytest.mark.parametrize(("contract", "name"), [("v6", "x"), ("native", "a/b"), ("native", "")])
def test_a_contract_or_name_that_is_none_is_refused(contract: str, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        template(contract, name)
    assert caught.value.hint
