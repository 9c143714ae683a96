"""Bad input: a clear error and hint, the documented exit code, no traceback, nothing accepted, and the agents live."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_rig import EXAMPLE, JUPITER, Cluster, Ended, jupiter, make_app, run

from jupiter_agent.adapters.bundle import MAX_BYTES, make_bundle
from jupiter_agent.errors import JupiterError

CONFIG = "application:\n  tasks:\n    dag_tasks:\n      - {name: a, base_script: a.py, children: [home]}\n"


@pytest.fixture
def unharmed(cluster: Cluster) -> Iterator[Cluster]:
    """The shared cluster; after the test it has the jobs it had, and every agent answers and sees the others."""
    before = cluster.jobs()
    pids = [cluster.pid(name) for name in cluster.names]
    yield cluster
    assert cluster.jobs() == before, "something was accepted"
    assert [cluster.pid(name) for name in cluster.names] == pids
    assert cluster.is_well()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path / "app", {"a": "b", "b": "home"})


def submit(cluster: Cluster, app: object, *args: object) -> Ended:
    return cluster.ctl("-o", "json", "submit", app, *args)


# --- apps ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_or_has_no_config_is_refused(unharmed: Cluster, tmp_path: Path) -> None:
    submit(unharmed, tmp_path / "none").refused(2, "none: no such folder")
    (tmp_path / "empty").mkdir()
    submit(unharmed, tmp_path / "empty").refused(2, "app_config.yaml", "empty")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (CONFIG.replace("children: [home]", "children: [home"), ("app_config.yaml:4: not YAML",)),
        (CONFIG.replace("[home]", "[b]") + CONFIG.splitlines()[-1].replace("name: a", "name: b").replace("home", "a"),
         ("app_config.yaml:5", "cycle")),
        (CONFIG.replace("[home]", "[nobody]"), ("app_config.yaml:4", "nobody")),
        (CONFIG.replace("a.py", "gone.py"), ("app_config.yaml:4", "gone.py")),
        (CONFIG.replace("name: a,", "name: a_b,"), ("app_config.yaml:4", "a_b")),
        (CONFIG.replace("name: a,", "name: a/b,"), ("app_config.yaml:4", "a/b")),
        (CONFIG.replace("name: a,", "name: '../../x',"), ("app_config.yaml:4", "x")),
    ],
    ids=["yaml-error", "cycle", "unknown-child", "missing-script", "underscore", "slash", "dots"],
)  # fmt: skip
@pytest.mark.smoke
def test_a_config_that_cannot_be_is_refused_with_its_file_and_line(
    unharmed: Cluster, app: Path, config: str, words: tuple[str, ...]
) -> None:
    (app / "app_config.yaml").write_text(config)
    submit(unharmed, app).refused(2, *words)


def test_a_bundle_of_a_folder_with_links_or_a_gigabyte_is_not_made(unharmed: Cluster, app: Path) -> None:
    (app / "secret").symlink_to("/etc/passwd")
    submit(unharmed, app).refused(2, "a link that leads out of the app")
    (app / "secret").unlink()
    with (app / "zeros").open("wb") as file:
        file.truncate(1 << 30)
    began = time.monotonic()
    submit(unharmed, app).refused(2, "cannot bundle", "--input")
    assert time.monotonic() - began < 10


def hostile(kind: str) -> bytes:
    """A bundle that no folder of ours gives, around an app that would be fine."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, data: bytes = b"", **fields: object) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))

        add("app/app_config.yaml", CONFIG.encode())
        add("app/a.py", b"def process(inputs, ctx):\n    return b''\n")
        if kind == "dots":
            add("app/../../../../escaped", b"x")
        elif kind == "absolute":
            add("/tmp/escaped", b"x")
        elif kind == "symlink":
            add("app/link", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        elif kind == "hardlink":
            add("app/link", type=tarfile.LNKTYPE, linkname="app/a.py")
        elif kind == "device":
            add("app/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        elif kind == "two-tops":
            add("other/a.py", b"x")
    if kind == "claims-a-gigabyte":
        liar = tarfile.TarInfo("app/zeros")
        liar.size = 1 << 30
        return liar.tobuf(tarfile.USTAR_FORMAT) + buffer.getvalue()
    if kind == "gzip":
        return gzip.compress(buffer.getvalue())
    if kind == "noise":
        return os.urandom(4096)
    return buffer.getvalue()


KINDS = ["dots", "absolute", "symlink", "hardlink", "device", "two-tops", "claims-a-gigabyte", "gzip", "noise"]


def test_a_hostile_bundle_is_refused_by_the_agent_itself(unharmed: Cluster) -> None:
    node = unharmed.folder / "node2"
    before = {path for path in node.rglob("*") if path.is_dir()}
    client = unharmed.client("node2")
    for kind in KINDS:
        bundle = hostile(kind)
        digest = client.write_blob(bundle)
        with pytest.raises(JupiterError) as caught:
            client.call("submit", {"bundle": digest.hex(), "size": len(bundle), "app": "app"})
        assert (caught.value.exit_code, caught.value.message[:15]) == (2, "bundle refused:"), (kind, caught.value)
    unpacked = {path for path in node.rglob("*") if path.is_dir()} - before
    assert all(path.is_relative_to(node / "objects") for path in unpacked), unpacked
    assert not list(unharmed.folder.rglob("escaped"))


def test_more_zeros_than_a_bundle_may_have_are_refused_when_they_did_arrive(unharmed: Cluster, tmp_path: Path) -> None:
    zeros = tmp_path / "zeros"
    with zeros.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    digest = unharmed.client("node2").write_blob(zeros)
    with pytest.raises(JupiterError, match="bundle refused") as caught:
        unharmed.call("node2", "submit", bundle=digest.hex(), size=MAX_BYTES + 1, app="app")
    assert caught.value.exit_code == 2


def test_a_bundle_that_never_arrived_or_lies_about_itself_is_refused(unharmed: Cluster, app: Path) -> None:
    bundle = make_bundle(app)
    for args in (
        {"bundle": bundle.sha256.hex(), "size": bundle.size, "app": "app"},
        {"bundle": "no digest", "size": 1, "app": "app"},
        {"bundle": "../../etc/passwd", "size": 1, "app": "app"},
        {"bundle": bundle.sha256.hex(), "size": -1, "app": "app"},
        {"bundle": [1], "size": "x"},
        {},
    ):
        with pytest.raises(JupiterError) as caught:
            unharmed.call("node3", "submit", **args)
        assert caught.value.exit_code == 2, args


# --- what goes with an app ------------------------------------------------------------------------------------------


def test_inputs_mappers_and_places_that_are_not_there_are_refused(unharmed: Cluster, app: Path, tmp_path: Path) -> None:
    submit(unharmed, app, "--input", tmp_path / "none").refused(2, "none: no such file")
    submit(unharmed, app, "--samples").refused(2, "has no samples")
    submit(unharmed, app, "--mapper", "heftt").refused(
        2, "unknown mapper 'heftt'", "did you mean 'heft'?", "wave-greedy", "wave-random"
    )
    submit(unharmed, app, "--param", "novalue").refused(2, "--param novalue")
    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"a": "node1"}')
    submit(unharmed, app, "--mapping", mapping).refused(2, "lacks tasks: b")
    mapping.write_text('{"a": "node1", "b": "node9"}')
    submit(unharmed, app, "--mapping", mapping).refused(3, "task 'b' wants node 'node9'", "node5")
    mapping.write_text("[1")
    submit(unharmed, app, "--mapping", mapping).refused(2, "--mapping")


def test_a_strict_pin_to_a_node_that_is_not_there_is_not_placeable(unharmed: Cluster, tmp_path: Path) -> None:
    pinned = make_app(tmp_path / "pinned", {"a": ("home", "node: atlantis")})
    (tmp_path / "x").write_bytes(b"x")
    for mapper in ("wave-auction", "wave-greedy", "heft"):
        submit(unharmed, pinned, "--mapper", mapper, "--input", tmp_path / "x", "--wait").refused(
            3, "task 'a' wants node 'atlantis', which is not there", "living nodes: "
        )


def test_an_unknown_mapper_named_in_the_app_is_refused_too(unharmed: Cluster, app: Path) -> None:
    config = app / "app_config.yaml"
    config.write_text("jupiter_config: {task_mapper: waev-greedy}\n" + config.read_text())
    submit(unharmed, app).refused(2, "unknown mapper 'waev-greedy'", "did you mean 'wave-greedy'?")


# --- whom one asks, and how -----------------------------------------------------------------------------------------


def test_nobody_there_is_4_and_a_wrong_key_is_5(unharmed: Cluster, tmp_path: Path) -> None:
    token = unharmed.folder / "token"
    jupiter("ctl", "--peer", "127.0.0.1:9", "--token-file", token, "get", "nodes").refused(4, "127.0.0.1:9")
    jupiter("ctl", "--dir", tmp_path / "none", "get", "nodes").refused(4, "no agent has ever run in")
    at = unharmed.at("node1")
    (tmp_path / "token").write_text("jup1.AAAA")
    jupiter("ctl", *at, "--token-file", tmp_path / "token", "get", "nodes").refused(5, "token")
    words = token.read_text().strip()
    (tmp_path / "token").write_text(words[:-3])
    jupiter("ctl", *at, "--token-file", tmp_path / "token", "get", "nodes").refused(5, "token")
    jupiter("ctl", *at, "get", "nodes", cwd=tmp_path, JUPITER_STATE_DIR=str(tmp_path)).refused(5, "--token-file")
    jupiter("ctl", "--peer", "127.0.0.1:9", "--token-file", tmp_path / "token", "get", "nodes").refused(4)
    jupiter("ctl", *at, "--token-file", tmp_path / "gone", "get", "nodes").refused(2, "cannot read the token file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get", "cows"], "nodes"),
        (["get", "jobs", "no-such-job"], "no job"),
        (["describe", "job", "no-such-job"], "no job"),
        (["describe", "node", "node9"], "no node"),
        (["logs", "no-such-job"], "no job"),
        (["cancel", "no-such-job"], "no job"),
        (["wait", "no-such-job"], "no job"),
        (["results", "no-such-job"], "no job"),
        (["put", "no-such-job", __file__], "no job"),
        (["explain", "no-such-job"], "no job"),
        (["submit"], "APP"),
        (["submit", str(EXAMPLE), "--timeout", "soon"], "--timeout"),
        (["submit", str(EXAMPLE), "--ep", "maybe"], "--ep"),
        (["fly"], "fly"),
        (["get", "nodes", "-o", "xml"], "xml"),
        (["get", "nodes", "--peer", "nowhere"], "HOST:PORT"),
    ],
    ids=lambda value: " ".join(value)[-30:] if isinstance(value, list) else "",
)
def test_wrong_words_of_verbs_are_refused(unharmed: Cluster, words: list[str], said: str) -> None:
    unharmed.ctl("-o", "json", *words).refused(2, said)


def test_calls_with_senseless_arguments_are_refused_by_the_agent(unharmed: Cluster) -> None:
    senseless: list[tuple[str, dict[str, object]]] = [
        ("fly", {}), ("get", {}), ("get", {"kind": ["nodes"]}), ("get", {"kind": "items", "id": {"a": 1}}),
        ("describe", {"kind": 3, "id": 4}), ("events", {"since": "the beginning"}), ("events", {"since": None}),
        ("events", {"since": 1e300}), ("log", {"job": "last", "offset": "x"}), ("put", {"job": "last", "inputs": 7}),
        ("put", {"job": "last", "inputs": [{"sha256": "zz"}]}), ("put", {"job": "last", "inputs": ["x"]}),
        ("submit", {"inputs": "x"}), ("submit", {"bundle": "00", "size": 1, "app": "x", "inputs": [[]]}),
        ("results", {"job": "../.."}), ("explain", {"job": "last", "task": 1}),
        ("read-log", {"job": "x", "task": "y", "offset": "z"}), ("considered", {"job": "x", "tasks": 5}),
        ("considered", {"job": [], "tasks": [{}]}), ("explain", {"job": ""}),
    ]  # fmt: skip
    for verb, args in senseless:
        with pytest.raises(JupiterError) as caught:
            unharmed.call("node4", verb, **args)
        assert caught.value.exit_code == 2, (verb, args, caught.value)
    outside = unharmed.call("node4", "read-log", job="../../..", task="etc/passwd")
    assert (outside["data"], outside["end"]) == (b"", 0)


def test_a_reader_that_leaves_early_is_no_error_worth_a_traceback(unharmed: Cluster) -> None:
    done = run(["sh", "-c", f"'{JUPITER}' ctl --dir '{unharmed.folder}' get nodes -o json | head -1"])
    assert (done.code, done.out, done.err) == (0, "{\n", "")
