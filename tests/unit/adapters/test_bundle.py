"""Bundles: same content, same digest; and no archive, however evil, writes a byte outside its folder."""

import hashlib
import io
import os
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from jupiter_agent.adapters import bundle
from jupiter_agent.adapters.bundle import check_folder, make_bundle, open_bundle
from jupiter_agent.errors import CapacityError, UsageError

CONFIG = b"application: {tasks: {dag_tasks: [{name: a, base_script: t.py}]}}\n"
SCRIPT = b"def process(inputs, ctx): return None\n"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "demo"
    for name, content in {
        "app_config.yaml": CONFIG,
        "t.py": SCRIPT,
        "samples/x.txt": b"x",
        "lib/deep/m.py": b"",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar(*members: tuple[tarfile.TarInfo | str, bytes], style: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for info, content in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)  # noqa: PLW2901
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue().rstrip(b"\0") + bytes(1024 + -len(out.getvalue().rstrip(b"\0")) % 512)


GOOD = (("demo/app_config.yaml", CONFIG), ("demo/t.py", SCRIPT))


def special(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def refusal(content: bytes, tmp_path: Path) -> str:
    """The message; and nothing was written anywhere."""
    file = tmp_path / "evil.tar"
    file.write_bytes(content)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="bundle refused") as caught:
        open_bundle(file, tmp_path / "state" / "into")
    assert set(tmp_path.rglob("*")) == before
    assert caught.value.message.isprintable()
    return caught.value.message


def opened(folder: Path, tmp_path: Path) -> Path:
    file = tmp_path / "b.tar"
    file.write_bytes(make_bundle(folder).file.read())
    open_bundle(file, tmp_path / "into")
    return tmp_path / "into"


# --- making ---------------------------------------------------------------------------------------------------


def test_a_bundle_opens_to_the_same_files_and_the_same_app(app: Path, tmp_path: Path) -> None:
    (app / "t.py").chmod(0o700)
    made = make_bundle(app)
    content = made.file.read()
    assert (hashlib.sha256(content).digest(), len(content)) == (made.sha256, made.size)
    file = tmp_path / "b.tar"
    file.write_bytes(content)
    into = tmp_path / "state" / "x"
    spec = open_bundle(file, into)
    assert spec == check_folder(app)
    assert (spec.name, spec.samples) == ("demo", ["samples/x.txt"])
    assert {p.relative_to(into).as_posix() for p in into.rglob("*") if p.is_file()} == {
        "app_config.yaml",
        "t.py",
        "samples/x.txt",
        "lib/deep/m.py",
    }
    assert (into / "t.py").stat().st_mode & 0o777 == 0o755
    assert (into / "app_config.yaml").stat().st_mode & 0o777 == 0o644


def test_the_digest_depends_on_names_content_and_the_x_bit_only(app: Path) -> None:
    first = make_bundle(app).sha256
    os.utime(app / "t.py", (1, 1))
    (app / "t.py").chmod(0o640)
    for junk in (".git/config", "__pycache__/t.pyc", "lib/deep/m.pyc", ".venv/x", "results/i/a/out"):
        (app / junk).parent.mkdir(parents=True, exist_ok=True)
        (app / junk).write_bytes(b"junk")
    assert make_bundle(app).sha256 == first
    (app / "t.py").chmod(0o750)
    assert make_bundle(app).sha256 != first


def test_the_format_is_a_tar_that_others_read(app: Path) -> None:
    long = app / ("d" * 90) / ("e" * 50) / ("f" * 95)
    long.parent.mkdir(parents=True)
    long.write_bytes(b"long")
    (app / "größe.txt").write_bytes(b"ok")
    with tarfile.open(fileobj=make_bundle(app).file) as archive:
        names = archive.getnames()
        assert names == sorted(names)
        assert "demo/größe.txt" in names
        assert archive.extractfile(f"demo/{long.relative_to(app)}").read() == b"long"
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in archive} == {(0, 0, 0, "")}


def test_a_link_to_a_file_inside_counts_as_that_file(app: Path, tmp_path: Path) -> None:
    (app / "same.py").symlink_to("t.py")
    assert (opened(app, tmp_path) / "same.py").read_bytes() == SCRIPT


def test_what_no_node_would_accept_is_refused_at_home(app: Path, tmp_path: Path) -> None:
    def refused(make: object, what: str) -> None:
        path = app / "bad"
        make(path)
        with pytest.raises(UsageError, match=what):
            make_bundle(app)
        path.unlink()

    (tmp_path / "secret").write_bytes(b"key")
    refused(lambda p: p.symlink_to(tmp_path / "secret"), "leads out of the app")
    refused(lambda p: p.symlink_to(app / "lib"), "a link to a folder")
    refused(lambda p: p.symlink_to("nowhere"), "No such file")
    refused(os.mkfifo, "not a file")
    for name, what in (("A\nB", "no plain name"), ("T.PY", "twice"), ("x" * 101, "too long"), (b"\xff", "UTF-8")):
        path = os.path.join(os.fsencode(app), os.fsencode(name))
        with open(path, "wb"):
            pass
        with pytest.raises(UsageError, match=what):
            make_bundle(app)
        os.unlink(path)
    with pytest.raises(UsageError, match="no folder"):
        make_bundle(app / "t.py")


def test_a_name_whose_folders_do_not_fit_is_refused_when_made(app: Path) -> None:
    deep = app / ("a" * 99) / ("b" * 100) / "c"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"")
    with pytest.raises(UsageError, match="too long"):
        make_bundle(app)


def test_too_many_bytes_are_refused_with_a_way_out(app: Path) -> None:
    (app / "big").write_bytes(bytes(10_000))
    with pytest.raises(UsageError, match="more than 8000 bytes") as caught:
        make_bundle(app, max_bytes=8000)
    assert "--input" in caught.value.hint


# --- opening --------------------------------------------------------------------------------------------------


def test_opening_twice_keeps_the_folder_and_what_tasks_left_in_it(app: Path, tmp_path: Path) -> None:
    into = opened(app, tmp_path)
    (into / "cache").write_bytes(b"left by a task")
    inode = into.stat().st_ino
    assert opened(app, tmp_path).stat().st_ino == inode
    assert (into / "cache").exists()


@pytest.mark.parametrize("damage", ["shorter", "other", "gone", "link"])
def test_a_damaged_folder_is_replaced(app: Path, tmp_path: Path, damage: str) -> None:
    path = opened(app, tmp_path) / "t.py"
    path.unlink()
    if damage == "link":
        path.symlink_to(app / "t.py")
    elif damage != "gone":
        path.write_bytes(SCRIPT[:-1] + (b"#" if damage == "other" else b""))
    assert (opened(app, tmp_path) / "t.py").read_bytes() == SCRIPT
    assert not path.is_symlink()
    assert not list(tmp_path.glob(".unpack-*"))


def test_a_bundle_whose_app_is_wrong_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    file.write_bytes(tar(("demo/app_config.yaml", CONFIG)))
    with pytest.raises(UsageError, match=r"app_config.yaml:1: no script 't.py'"):
        open_bundle(file, tmp_path / "state" / "into")
    assert not (tmp_path / "state").exists()


def test_a_full_disk_is_a_capacity_error_and_leaves_nothing(app: Path, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "b.tar"
    file.write_bytes(make_bundle(app).file.read())

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        bundle,
        "_bytes",
        lambda archive, member, most=0: full() if not most else [CONFIG, SCRIPT][member.path == "t.py" :][:1],
    )
    with pytest.raises(CapacityError, match="No space left"):
        open_bundle(file, tmp_path / "state" / "into")
    assert list((tmp_path / "state").iterdir()) == []


def test_folder_entries_of_other_tars_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    file.write_bytes(
        tar(special("demo", tarfile.DIRTYPE), *GOOD, special("demo/empty/", tarfile.DIRTYPE)) + bytes(9 * 512)
    )
    assert open_bundle(file, tmp_path / "into").name == "demo"
    assert not (tmp_path / "into" / "empty").exists()


# --- evil -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "demo/../x",
        "demo/../../x",
        "/etc/x",
        "demo//x",
        "demo/./x",
        "./demo/x",
        "demo/",
        "demo/a\nb",
        "demo/\x1b[31m",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    assert "name" in refusal(tar(*GOOD, (name, b"evil")), tmp_path)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a fifo"),
        (tarfile.CONTTYPE, "no file"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
    ],
)
def test_only_files_are_allowed(kind: bytes, what: str, tmp_path: Path) -> None:
    assert what in refusal(tar(*GOOD, special("demo/evil", kind, "/etc/passwd")), tmp_path)


def test_a_link_that_later_members_would_be_written_through_is_refused(tmp_path: Path) -> None:
    members = (special("demo/out", tarfile.SYMTYPE, "/tmp"), ("demo/out/x", b"evil"))
    assert "symbolic link" in refusal(tar(*GOOD, *members), tmp_path)


@pytest.mark.parametrize(
    ("style", "what"), [(tarfile.GNU_FORMAT, "not a bundle"), (tarfile.PAX_FORMAT, "an extended header")]
)
def test_long_names_of_other_dialects_are_refused(style: int, what: str, tmp_path: Path) -> None:
    assert what in refusal(tar((f"demo/{'x' * 150}", b""), *GOOD, style=style), tmp_path)


@pytest.mark.parametrize("twin", ["demo/t.py", "demo/T.PY", "demo/t.py/x", "demo/app_config.yaml/../x"])
def test_a_name_that_is_there_already_is_refused(twin: str, tmp_path: Path) -> None:
    refusal(tar(*GOOD, (twin, b"")), tmp_path)


def test_a_folder_that_is_a_file_later_is_refused(tmp_path: Path) -> None:
    assert "twice" in refusal(tar(("demo/Lib/x", b""), ("demo/lib", b"")), tmp_path)


def test_two_top_folders_or_none_are_refused(tmp_path: Path) -> None:
    assert "one folder" in refusal(tar(*GOOD, ("other/x", b"")), tmp_path)
    assert "one folder" in refusal(tar(("app_config.yaml", CONFIG)), tmp_path)


def claimed(size: int) -> bytes:
    info = tarfile.TarInfo("demo/zeros")
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def test_a_gigabyte_of_zeros_that_is_only_claimed_is_refused_at_once(tmp_path: Path) -> None:
    start = time.perf_counter()
    assert "claims 1073741824 bytes" in refusal(claimed(1 << 30) + bytes(4096), tmp_path)
    assert time.perf_counter() - start < 0.2


def test_a_gigabyte_of_zeros_in_a_sparse_file_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "sparse.tar"
    with file.open("wb") as out:
        out.write(claimed(1 << 30))
        out.truncate((1 << 30) + 2048)
    start = time.perf_counter()
    with pytest.raises(UsageError, match="bundle refused: 1073743872 bytes"):
        open_bundle(file, tmp_path / "into")
    assert time.perf_counter() - start < 0.2


def test_a_hundred_thousand_members_are_refused(tmp_path: Path) -> None:
    header = [tarfile.TarInfo(f"demo/{i}").tobuf(tarfile.USTAR_FORMAT) for i in range(10_001)]
    assert "more than 10000 files" in refusal(b"".join(header * 10) + bytes(1024), tmp_path)


def test_a_bundle_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tar(*GOOD)
    for cut in [*range(0, len(whole) - 1024, 97), len(whole) - 1024]:
        refusal(whole[:cut], tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"garbage" * 1000, bytes(512), bytes(1024), bytes(100_000), b"\xff" * 4096]
)
def test_garbage_is_refused(content: bytes, tmp_path: Path) -> None:
    refusal(content, tmp_path)


def test_a_zip_or_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("demo/app_config.yaml", CONFIG)
    refusal(out.getvalue(), tmp_path)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("demo/x"))
    refusal(out.getvalue(), tmp_path)


def test_a_header_with_a_false_checksum_or_number_is_refused(tmp_path: Path) -> None:
    whole = bytearray(tar(*GOOD))
    whole[0] ^= 1
    assert "checksum" in refusal(bytes(whole), tmp_path)
    whole = bytearray(tar(*GOOD))
    whole[124:136] = b"\x80" + bytes(10) + b"\x09"
    assert "number" in refusal(bytes(whole), tmp_path)


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    assert "more follows" in refusal(tar(*GOOD) + tar(*GOOD), tmp_path)
    assert "more follows" in refusal(tar(*GOOD) + bytes(100 * 512), tmp_path)


def test_another_file_kind_in_place_of_a_bundle_is_no_crash(tmp_path: Path) -> None:
    refusal(Path("/bin/true").read_bytes(), tmp_path)
