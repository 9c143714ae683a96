"""`jupiter app init|lint|generate` as commands: what they print, what they exit with, what they import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jupiter_agent.cli.main import main

APPS = Path(__file__).resolve().parents[3] / "app_specific_files"


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("contract", ["native", "command", "v5", "v4"])
def test_init_writes_an_app_that_lint_passes(tmp_path: Path, capsys, contract: str) -> None:
    folder = tmp_path / "mine"
    assert main(["app", "init", str(folder), "--contract", contract]) == 0
    out, err = capsys.readouterr()
    assert out == f"{folder}\n"
    assert f"jupiter ctl submit {folder} --samples" in err
    assert main(["app", "lint", str(folder)]) == 0
    assert capsys.readouterr() == ("", "0 errors, 0 warnings\n")


def test_init_says_what_it_wrote_as_json(tmp_path: Path, capsys) -> None:
    assert main(["app", "init", str(tmp_path / "x"), "--name", "called", "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["apiVersion"], said["kind"], said["name"], said["contract"]) == (
        "jupiter/v1",
        "App",
        "called",
        "native",
    )
    assert set(said["files"]) == set(tree(tmp_path / "x"))


def test_init_never_overwrites(tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["app", "init", str(tmp_path)]) == 2
    assert "error:" in capsys.readouterr().err
    assert tree(tmp_path) == {"notes.txt": b"mine"}


def test_a_v4_app_is_named_by_its_folder(tmp_path: Path, capsys) -> None:
    assert main(["app", "init", str(tmp_path / "x"), "--contract", "v4", "--name", "y"]) == 2
    assert "hint: call the folder y" in capsys.readouterr().err


def test_lint_prints_place_what_and_hint_and_exits_2_for_errors(tmp_path: Path, capsys) -> None:
    (tmp_path / "app_config.yaml").write_text("application:\n  tasks: {dag_tasks: [{name: a_b}]}\n")
    assert main(["app", "lint", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "app_config.yaml:2: error: 'a_b' is no task name",
        "    hint: '_' separates the parts of file names in v5: write 'a-b'",
    ]
    assert err == "1 error, 0 warnings\n"
    assert main(["app", "lint", str(tmp_path), "-o", "name"]) == 2
    assert capsys.readouterr().out == "app_config.yaml:2\n"


def test_lint_as_json_holds_every_finding(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.py").write_text("def process(inputs, ctx): ...\n")
    (tmp_path / "app_config.yaml").write_text("application: {tasks: {dag_tasks: [{name: a, base_script: a.py}]}}\n")
    assert main(["app", "lint", str(tmp_path), "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {key: said[key] for key in ("apiVersion", "kind", "app", "ok", "errors", "warnings")} == {
        "apiVersion": "jupiter/v1", "kind": "Lint", "app": tmp_path.name, "ok": True, "errors": 0, "warnings": 1,
    }  # fmt: skip
    (item,) = said["items"]
    assert set(item) == {"level", "file", "line", "what", "hint"}


def test_lint_of_nothing_is_a_usage_error(tmp_path: Path, capsys) -> None:
    assert main(["app", "lint", str(tmp_path / "none")]) == 2
    assert "hint: APP is the folder" in capsys.readouterr().err


def test_generate_takes_a_file_and_flags_and_prints_where_the_app_is(tmp_path: Path, capsys) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("depth: 5\nwidth_max: 12\ntotal_num: 30\ncomp_mu: 0.001\nseed: 4\n")
    folders = [tmp_path / name / "app" for name in ("one", "two")]
    for folder in folders:
        assert main(["app", "generate", str(spec), "--contract", "v4", "--ccr", "1", "--out", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == "".join(f"{folder}\n" for folder in folders)
    assert "30 tasks" in err
    assert tree(folders[0]) == tree(folders[1])
    assert main(["app", "lint", str(folders[0])]) == 0


def test_generate_writes_several_with_following_seeds(tmp_path: Path, capsys) -> None:
    args = ["app", "generate", "--total-num", "5", "--comp-mu", "0.1", "--out", str(tmp_path), "--count", "2"]
    assert main([*args, "--seed", "7", "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["seed"], row["tasks"]) for row in said["items"]] == [("dummy-1", 7, 5), ("dummy-2", 8, 5)]
    assert (tmp_path / "dummy-2" / "expected").is_dir()
    assert main([*args, "--seed", "7"]) == 2, "they are there already"


@pytest.mark.parametrize(
    "args", [["--count", "0"], ["--depth", "0"], ["--depth", "3", "--total-num", "2"], ["no.yaml"]]
)
def test_generate_refuses_what_it_cannot_make(tmp_path: Path, capsys, args: list[str]) -> None:
    assert main(["app", "generate", *args, "--out", str(tmp_path / "x")]) == 2
    err = capsys.readouterr().err
    assert "error:" in err
    assert "hint:" in err
    assert not (tmp_path / "x").exists()


def test_other_commands_do_not_load_what_app_commands_need() -> None:
    code = (
        "import sys\nfrom jupiter_agent.cli.main import main\nmain(['app', '--help'])\n"
        "loaded = [m for m in sys.modules if m.startswith('jupiter_agent.apps') or m in ('yaml', 'ast', 'random')]\n"
        "print(loaded, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [m for m in ("jupiter_agent.apps", "'yaml'") if m in done.stderr]
