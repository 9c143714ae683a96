"""`jupiter app lint`: what is found, where, and how to mend it."""

from pathlib import Path

import pytest

from jupiter_agent.apps.lint import Finding, join_key, lint
from jupiter_agent.apps.lint_scripts import script_findings
from jupiter_agent.errors import UsageError

APPS = Path(__file__).resolve().parents[3] / "app_specific_files"
CONFIG = "application:\n  tasks:\n    dag_tasks:\n      - {name: a, base_script: a.py}\n"
NATIVE = "def process(inputs, ctx):\n    return b''\n"


def app(folder: Path, config: str = CONFIG, **files: str) -> Path:
    for name, text in {"app_config.yaml": config, "a.py": NATIVE, "samples/s": "", **files}.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def one(folder: Path, offline: bool = False) -> Finding:
    (finding,) = lint(folder, offline)
    assert finding.hint
    return finding


def found(source: str, contract: str = "native", replayed: bool = False) -> list[tuple[int, str]]:
    return [(line, what) for line, what, hint in script_findings(source.encode(), "a.py", contract, replayed) if hint]


def test_the_example_is_clean() -> None:
    assert lint(APPS / "example") == []


def test_what_every_node_would_refuse_is_an_error_with_its_place(tmp_path: Path) -> None:
    finding = one(app(tmp_path, CONFIG.replace("a.py", "b.py")))
    assert finding[:3] == ("error", "app_config.yaml", 4)
    assert finding.hint == "did you mean 'a.py'?"


@pytest.mark.parametrize("source", ["def process(i, c): ...\ndef task(q, i, o, n): ...", "x = 1"])
def test_both_or_none_of_process_and_task_is_an_error(tmp_path: Path, source: str) -> None:
    assert one(app(tmp_path, **{"a.py": source})).level == "error"


def test_a_folder_that_is_none_or_no_app_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        lint(tmp_path / "none")
    assert one(tmp_path)[:3] == ("error", "app_config.yaml", 1)


def test_what_cannot_be_bundled_is_an_error(tmp_path: Path) -> None:
    folder = app(tmp_path / "app")
    (folder / "link").symlink_to(tmp_path)
    assert one(folder).what.startswith("cannot bundle")


def test_unknown_keys_and_missing_samples_are_warnings(tmp_path: Path) -> None:
    folder = app(tmp_path, CONFIG.replace("base_script", "retires: 3, base_script"))
    (folder / "samples" / "s").unlink()
    samples, key = lint(folder)
    assert (samples.level, samples.line, samples.at()) == ("warning", 0, "app_config.yaml")
    assert "no samples" in samples.what
    assert (key.level, key.at()) == ("warning", "app_config.yaml:4")
    assert "did you mean 'retries'?" in key.what
    assert key.hint == "correct the key, or take it out"


def test_a_task_that_cannot_be_reached_and_a_wished_host_are_warnings(tmp_path: Path) -> None:
    config = CONFIG.replace("a.py}", "a.py, k8s_host: n7}\n      - {name: b, base_script: a.py}")
    config = config.replace("dag_tasks", "home: {children: [a]}\n    dag_tasks")
    host, task = lint(app(tmp_path, config))
    assert "a (n7)" in host.what
    assert (task.line, task.hint) == (6, "name it as a child of home or of another task")


def test_requirements_need_wheels_where_nothing_can_be_downloaded_and_where_there_are_wheels(tmp_path: Path) -> None:
    folder = app(tmp_path, **{"requirements.txt": "# none\nNum_Py>=1\n\nscikit.learn\n-r other\n"})
    assert lint(folder) == []
    assert [finding.line for finding in lint(folder, offline=True)] == [2, 4]
    (folder / "wheels").mkdir()
    (folder / "wheels" / "num_py-1-py3-none-any.whl").write_text("")
    finding = one(folder)
    assert finding[:3] == ("error", "requirements.txt", 4)
    assert "'scikit.learn'" in finding.what


@pytest.mark.parametrize(
    ("command", "level", "what"),
    [
        ("[./run]", "error", "which is not executable"),
        ("[no-such-program-here]", "warning", "which is not installed here"),
        ("[/opt/x/run]", "warning", "by its absolute path"),
    ],
)
def test_programs_are_looked_at(tmp_path: Path, command: str, level: str, what: str) -> None:
    finding = one(app(tmp_path, CONFIG.replace("base_script: a.py", f"command: {command}"), run="#!/bin/sh\n"))
    assert finding[:3] == (level, "app_config.yaml", 4)
    assert what in finding.what


def test_a_carriage_return_behind_the_interpreter_is_an_error(tmp_path: Path) -> None:
    folder = app(tmp_path, CONFIG.replace("base_script: a.py", "command: [./run]"))
    (folder / "run").write_bytes(b"#!/bin/sh\r\n")
    (folder / "run").chmod(0o755)
    assert one(folder)[:3] == ("error", "run", 1)


def test_v4_samples_must_make_whole_items(tmp_path: Path) -> None:
    files = {
        "configuration.txt": "1\na 2 true home\n", "scripts__a.py": "def task(f, i, o): ...\n",
        "sample_input__1x_a": "", "sample_input__1x_b": "", "sample_input__2x.a": "",
    }  # fmt: skip
    folder = app(tmp_path, **files)
    (folder / "app_config.yaml").unlink()
    (folder / "samples" / "s").unlink()
    finding = one(folder)
    assert (finding.level, finding.file) == ("warning", "configuration.txt")
    assert "1 samples with the key '2x', and an item of an entry task takes 2" in finding.what


def test_a_v4_program_beside_the_dag_may_be_a_shell_script(tmp_path: Path) -> None:
    files = {
        "configuration.txt": "2\na 1 true home\nx 1 false x\n", "scripts__a.py": "def task(f, i, o): ...\n",
        "scripts__x.sh": "echo $1", "sample_input__s": "",
    }  # fmt: skip
    folder = app(tmp_path, **files)
    (folder / "app_config.yaml").unlink()
    assert lint(folder) == []


def test_a_join_key_ends_at_the_first_underscore_else_at_the_first_dot() -> None:
    names = ("1botnet.ipsum", "1split_0", "1anomalies_x.log", "a.b_c", "plain")
    assert [join_key(name) for name in names] == ["1botnet", "1split", "1anomalies", "a.b", "plain"]


# --- scripts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "line", "name"),
    [
        ("seen = []\ndef process(i, c):\n    seen.append(1)", 3, "seen"),
        ("seen = {}\ndef process(i, c):\n    seen['x'] = 1", 3, "seen"),
        ("seen = {}\ndef process(i, c):\n    del seen['x']", 3, "seen"),
        ("seen: dict = {}\ndef process(i, c):\n    seen['x'] += 1", 3, "seen"),
        ("import collections\nseen = collections.Counter()\ndef process(i, c):\n    seen.update(i)", 4, "seen"),
        ("seen = {}\ndef process(i, c):\n    seen.setdefault(1, []).append(2)", 3, "seen"),
        ("seen = [x for x in 'ab']\ndef process(i, c):\n    return helper()\ndef helper():\n    seen.pop()", 5, "seen"),
        ("count = 0\ndef process(i, c):\n    global count\n    count += 1", 4, "count"),
    ],
)
def test_state_that_outlives_an_item_is_found_where_it_changes(source: str, line: int, name: str) -> None:
    ((at, what),) = found(source)
    assert (at, f"'{name}' is changed in " in what) == (line, True)


@pytest.mark.parametrize(
    "source",
    [
        "TABLE = {1: 2}\ndef process(i, c):\n    return TABLE[1]",
        "_cache = {}\ndef process(i, c):\n    _cache[1] = 2",
        "seen = []\ndef process(i, c):\n    seen = []\n    seen.append(1)",
        "seen = []\ndef process(i, seen):\n    seen.append(1)",
        "def process(i, c):\n    seen = []\n    seen.append(1)",
        "seen = []\nseen.append(1)\ndef process(i, c): ...",
        "seen = []\ndef unused():\n    seen.append(1)\ndef process(i, c): ...",
        "from elsewhere import process",
    ],
)
def test_what_dies_with_its_item_or_only_saves_time_is_not_complained_about(source: str) -> None:
    assert found(source) == []


def test_v5_tasks_may_keep_state_in_their_function_or_ask_for_replay() -> None:
    loop = "    while True:\n        {}\n        q.get()\n        q.task_done()\n"
    inside = "def task(q, i, o, n):\n    seen = {}\n" + loop.format("seen[1] = 2")
    outside = "seen = {}\ndef task(q, i, o, n):\n" + loop.format("seen[1] = 2")
    assert found(inside, "v5") == []
    assert [line for line, _ in found(outside, "v5")] == [4]
    assert found(outside, "v5", replayed=True) == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("def task(q, i, o, n):\n    q.get()\n    q.task_done()", "task() has no loop"),
        ("def task(q, i, o, n):\n    while True:\n        q.get()", "no q.task_done()"),
    ],
)
def test_a_v5_task_that_never_ends_an_item_is_told_so(source: str, what: str) -> None:
    ((line, said),) = found(source, "v5")
    assert (line, what in said) == (1, True)


def test_absolute_paths_are_a_warning_in_native_tasks_only() -> None:
    source = "def process(i, c):\n    open('/home/me/x')\n    return '/', '/api/v1', 'a/home/b', '/dev/null'\n"
    assert [line for line, _ in found(source)] == [2]
    assert found("def task(f, i, o):\n    open('/centralized_scheduler/config.json')\n", "v4") == []


def test_any_module_can_be_looked_at() -> None:
    """Sources of the standard library as scripts: no crash, and everything found has a line and a hint."""
    import email
    import json

    for package in (json, email):
        for path in Path(package.__file__).parent.glob("*.py"):
            for contract in ("native", "v5", "v4"):
                source = path.read_bytes() + b"\ndef process(i, c): return globals\ntask = process\n"
                for line, what, hint in script_findings(source, path.name, contract, False):
                    assert (line > 0, bool(what), bool(hint)) == (True, True, True)
