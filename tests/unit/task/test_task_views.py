"""Private roots and mapped paths, each in a child process: neither can be undone."""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from jupiter_agent.task import mapping, views

NOBODY = 65534
PR_SET_DUMPABLE = 4
SKIPPED = 77
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def become(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)  # as after an exec


def in_child(test: Callable[[], None], uid: int | None = None) -> None:
    """Run it in a fork, as another user if given. SKIPPED as exit code skips."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if uid is not None:
                become(uid)
            test()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:  # noqa: BLE001 - said by the exit code
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == SKIPPED:
        pytest.skip("the kernel gives no namespace here")
    assert code == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Another user may write here."""
    for path in (tmp_path, *tmp_path.parents):
        if not os.stat(path).st_mode & 0o001:
            if path.stat().st_uid != os.getuid():
                pytest.skip(f"{path} is closed to others")
            path.chmod(path.stat().st_mode | 0o011)
    (tmp_path / "view").mkdir(mode=0o777)
    (tmp_path / "view" / "file").write_text("shown")
    tmp_path.chmod(0o777)
    (tmp_path / "view").chmod(0o777)
    return tmp_path


@pytest.mark.parametrize("uid", [pytest.param(0, marks=as_root), pytest.param(NOBODY, marks=as_root), None])
def test_an_own_root_shows_a_folder_and_nobody_else_sees_it(folder: Path, uid: int | None) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()

    def test() -> None:
        here = os.getcwd()
        there = set(os.listdir("/"))
        if not views.own_root({"centralized_scheduler": str(folder / "view")}, str(folder / "root")):
            raise SystemExit(SKIPPED)
        assert Path("/centralized_scheduler/file").read_text() == "shown"
        Path("/centralized_scheduler/new").write_text("written")
        assert os.getcwd() == here
        assert set(os.listdir("/")) == there | {"centralized_scheduler"}
        assert os.listdir("/proc/self/fd")
        if os.getuid():
            assert "CapEff:\t0000000000000000" in Path("/proc/self/status").read_text()
        assert os.system("grep -q shown /centralized_scheduler/file") == 0

    in_child(test, uid)
    assert (folder / "view" / "new").read_text() == "written"
    assert not os.path.lexists("/centralized_scheduler")
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert os.listdir(folder / "root") == []


def test_without_a_namespace_pythons_file_functions_are_told(folder: Path) -> None:
    def test() -> None:
        import glob
        import pathlib
        import shutil
        import subprocess

        mapping.map_paths({"/centralized_scheduler": str(folder / "view")})
        top = pathlib.Path("/centralized_scheduler")
        assert (top / "file").read_text() == "shown"
        with open("/centralized_scheduler/file") as file:
            assert file.read() == "shown"
        shutil.copy(b"/centralized_scheduler/file", "/centralized_scheduler/copy")
        os.rename("/centralized_scheduler/copy", "/centralized_scheduler/moved")
        os.makedirs("/centralized_scheduler/deep/er")
        assert glob.glob("/centralized_scheduler/mov*") == ["/centralized_scheduler/moved"]
        assert sorted(os.listdir(top)) == ["deep", "file", "moved"]
        assert [name for name, _, _ in os.walk("/centralized_scheduler")][-1].endswith("deep/er")
        assert sorted(path.name for path in top.iterdir()) == ["deep", "file", "moved"]
        shutil.rmtree("/centralized_scheduler/deep")
        os.chdir("/centralized_scheduler")
        assert subprocess.check_output(["cat", "/centralized_scheduler/file"], cwd="/centralized_scheduler") == b"shown"
        assert subprocess.check_output("cat '/centralized_scheduler/file'", shell=True) == b"shown"
        assert os.path.exists("/centralized_schedulers") is False
        (top / "names.sh").write_text("cat /centralized_scheduler/file")
        for run in (lambda: os.system("sh /centralized_scheduler/names.sh"), lambda: os.popen(f"sh {top}/names.sh")):
            with pytest.raises(OSError, match=r"names\.sh names /centralized_scheduler, which other programs cannot"):
                run()

    in_child(test, NOBODY if os.getuid() == 0 else None)
    assert sorted(os.listdir(folder / "view")) == ["file", "moved", "names.sh"]


def test_a_task_in_its_own_root_is_killed_and_found_like_any_other(folder: Path) -> None:
    """Its environment stays readable for the agent, also through a user namespace."""
    if os.getuid():
        pytest.skip("needs root")
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        become(NOBODY)
        worked = views.own_root({"jupiter": str(folder / "view")}, str(folder / "root"))
        os.write(ready[1], b"1" if worked else b"0")
        os.read(done[0], 1)
        os._exit(0)
    assert os.read(ready[0], 1) in b"01"
    assert Path(f"/proc/{pid}/environ").read_bytes()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    for fd in (*ready, *done):
        os.close(fd)
