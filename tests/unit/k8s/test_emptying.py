"""What removes an agent's state folder from a node: that of the cluster that goes, and no other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jupiter_agent.adapters.keys import ClusterKeys, founding_token
from jupiter_agent.adapters.state import StateDir
from jupiter_agent.cli.k8s import emptying
from jupiter_agent.cli.k8s.emptying import DONE, FOREIGN, IN_USE, empty


def state_of(folder: Path, cluster: ClusterKeys) -> StateDir:
    state = StateDir(folder)
    state.node_keys()
    state.cluster_keys(founding_token(cluster))
    return state


def test_the_state_of_the_cluster_that_goes_is_removed_and_what_is_beside_it_stays(tmp_path: Path) -> None:
    folder, cluster = tmp_path / "agent", ClusterKeys.found()
    state_of(folder, cluster).close()
    (tmp_path / "agent-of-somebody").mkdir()
    text, mark = Path(emptying.__file__).read_text(), cluster.fingerprint.hex()
    done = subprocess.run([sys.executable, "-I", "-c", text, str(folder), mark], check=False)
    assert (done.returncode, [path.name for path in tmp_path.iterdir()]) == (DONE, ["agent-of-somebody"])
    assert empty(str(folder), mark) == DONE, "again"


def test_state_of_another_cluster_is_left_whether_its_agent_runs_or_not(tmp_path: Path) -> None:
    folder, ours = tmp_path / "agent", ClusterKeys.found().fingerprint.hex()
    state = state_of(folder, ClusterKeys.found())
    assert empty(str(folder), ours) == FOREIGN
    state.close()
    assert empty(str(folder), ours) == FOREIGN
    assert (folder / "cluster.json").is_file()
    (folder / "cluster.json").write_text("{]")
    assert empty(str(folder), ours) == FOREIGN, "nobody knows"


def test_state_that_an_agent_uses_is_left_also_before_it_has_a_cluster(tmp_path: Path) -> None:
    folder, cluster = tmp_path / "agent", ClusterKeys.found()
    state = StateDir(folder)
    assert empty(str(folder), cluster.fingerprint.hex()) == FOREIGN
    state.cluster_keys(founding_token(cluster))
    assert empty(str(folder), cluster.fingerprint.hex()) == IN_USE
    state.close()
    assert empty(str(folder), cluster.fingerprint.hex()) == DONE


def test_cut_short_it_leaves_nothing_under_the_name_of_a_state_folder_and_ends_it_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cluster = tmp_path / "agent", ClusterKeys.found()
    state_of(folder, cluster).close()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", _cut_short)
        with pytest.raises(OSError, match="cut short"):
            empty(str(folder), cluster.fingerprint.hex())
    assert not folder.exists()
    assert empty(str(folder), cluster.fingerprint.hex()) == DONE
    assert list(tmp_path.iterdir()) == []


def _cut_short(path: str) -> None:
    raise OSError("cut short")
