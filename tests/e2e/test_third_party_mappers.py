"""The example package of mappers, installed beside real agents: `submit --mapper mine` and `--mapper calm`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_rig import Ended, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "app_specific_files" / "mapper-example"

APP = """
application:
  tasks:
    dag_tasks:
      - {name: a, base_script: work.py, children: [b, c]}
      - {name: b, base_script: work.py, children: [d]}
      - {name: c, base_script: work.py, children: [d]}
      - {name: d, base_script: work.py, children: [home]}
"""


def install(package: Path, python: Path) -> None:
    """What an installer leaves of a pure package: its module, and its metadata. (No network, so no build backend.)"""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    for module in package.glob("*.py"):
        shutil.copy(module, site)
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    text = "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups)
    (info / "entry_points.txt").write_text(text)


class Installed:
    """A local cluster of an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        self.python = folder / "venv" / "bin" / "python"
        site = next((folder / "venv" / "lib").glob("python3*")) / "site-packages"
        (site / "beside.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
        app = folder / "app"
        app.mkdir()
        (app / "app_config.yaml").write_text(APP)
        (app / "work.py").write_text("def process(inputs, ctx):\n    return b'x'\n")

    def jupiter(self, *args: object) -> Ended:
        return run([self.python, "-P", "-m", "jupiter_agent.cli.main", *args], 90.0)

    def ctl(self, *args: object) -> Ended:
        return self.jupiter("ctl", "--dir", self.folder / "cluster", *args)

    def submit(self, mapper: str) -> Ended:
        (self.folder / "item").write_bytes(b"x")
        return self.ctl("submit", self.folder / "app", "--input", self.folder / "item", "--mapper", mapper,
                        "--wait", "--timeout", 60, "-o", "json")  # fmt: skip


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    found = Installed(tmp_path_factory.mktemp("third-party"))
    install(PACKAGE, found.python)
    found.jupiter("local", "up", "--nodes", 3, "--dir", found.folder / "cluster").ok()
    yield found
    found.jupiter("local", "down", "--dir", found.folder / "cluster").ok()


def test_the_centralised_mapper_of_a_package_maps_a_job(there: Installed):
    row = there.submit("mine").ok().json()
    assert (row["state"], row["mapper"], sorted(row["mapping"])) == ("completed", "mine", ["a", "b", "c", "d"])
    told = json.loads(there.ctl("explain", "last", "-o", "json").ok().out)
    assert all(entry["why"].startswith("mine over 3 nodes") for entry in told["tasks"])


def test_the_rule_of_a_package_decides_on_the_nodes(there: Installed):
    row = there.submit("calm").ok().json()
    assert (row["state"], row["mapper"]) == ("completed", "wave-rule:calm")
    told = json.loads(there.ctl("explain", "last", "-o", "json").ok().out)
    assert all(entry["why"].startswith("rule calm, of ") for entry in told["tasks"])
    assert there.ctl("plan", there.folder / "app", "--mapper", "calm", "-o", "json").ok().json()["makespan_s"] > 0


def test_a_mapper_that_is_not_installed_is_refused_with_those_that_are(there: Installed):
    there.submit("clam").refused(2, "unknown mapper 'clam'", "did you mean 'calm'?", "mine")
