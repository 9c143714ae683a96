"""Whatever comes as a bundle is opened or refused, and never touches anything outside its folder."""

import io
import random
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from jupiter_agent.adapters.bundle import make_bundle, open_bundle
from jupiter_agent.errors import UsageError


def check(content: bytes) -> bool:
    """True when it was opened."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        (here / "state").mkdir()
        (here / "b.tar").write_bytes(content)
        try:
            open_bundle(here / "b.tar", here / "state" / "into")
        except UsageError:
            assert sorted(p.name for p in here.rglob("*")) == ["b.tar", "state"]
            return False
        assert [p.name for p in here.iterdir() if p.name not in {"b.tar", "state"}] == []
        assert [p.name for p in (here / "state").iterdir()] == ["into"]
        return True


def good() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        folder.mkdir()
        (folder / "app_config.yaml").write_text("application: {tasks: {dag_tasks: [{name: a, base_script: t.py}]}}\n")
        (folder / "t.py").write_text("def process(inputs, ctx): return None\n")
        (folder / "data").write_bytes(bytes(range(256)) * 4)
        return make_bundle(folder).file.read()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_garbage_is_refused(content: bytes) -> None:
    assert not check(content)


def test_a_thousand_mutations_of_a_good_bundle_are_opened_or_refused() -> None:
    whole, rng = good(), random.Random(9)
    assert check(whole)
    opened = 0
    for _ in range(1000):
        content = bytearray(whole)
        at = rng.randrange(len(content))
        match rng.randrange(4):
            case 0:
                content[at] = rng.randrange(256)
            case 1:
                content[at : at + 512] = rng.randbytes(512)
            case 2:
                del content[at : at + rng.choice([1, 512, 4096])]
            case _:
                at -= at % 512
                content[at:at] = content[rng.randrange(8) * 512 :][:512]
        opened += check(bytes(content))
    assert opened < 500


_names = st.lists(
    st.sampled_from(["..", ".", "", "a", "A", "demo", "x\n", "é", "e\u0301", "~", "y" * 101]), min_size=1, max_size=4
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_names, st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"6", b"x", b"L", b"S"])), max_size=5))
def test_any_names_and_kinds_are_opened_or_refused(members: list) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for parts, kind in members:
            info = tarfile.TarInfo("/".join(parts))
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    check(good()[:-1024] + out.getvalue())
