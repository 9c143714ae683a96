"""The image and the manifests, run: containers that get what the pod template of the DaemonSet says, and nothing else.

`scripts/containers` runs these tests (about two minutes): they need root, docker and packages that it installs.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_rig import ROOT, Engine, Network, Pods, own_engine
from e2e_rig import EXAMPLE, eventually, make_app, make_inputs, read_results, run

from jupiter_agent import __version__
from jupiter_agent.adapters.keys import ClusterKeys, encode_token, founding_token
from jupiter_agent.cli.k8s.wipe import wiper
from jupiter_agent.k8s import manifests

NODES = ("worker1", "worker2", "worker3", "worker4")
DEAD_S = 40.0
"""Kubernetes takes 47 s to notice"""
MOST_BYTES = 200 * 10**6
TAG = f"jupiter-agent:{__version__}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        os.environ.get("JUPITER_CONTAINERS") != "1", reason="containers are tried by scripts/containers (root, Debian)"
    ),
]


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    found = Engine()
    if found.answers:
        yield found
        return
    with own_engine() as own:
        yield own


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """Built as people build it; JUPITER_IMAGE names one that is there already."""
    if given := os.environ.get("JUPITER_IMAGE"):
        return given
    began = time.monotonic()
    base = engine.base_image()
    based = time.monotonic()
    build = [ROOT / "scripts" / "image", "--base", base, "--offline", "--tag", TAG]
    run(build, 900, **engine.env).ok()
    print(f"base image {based - began:.1f} s, image {time.monotonic() - based:.1f} s")
    return TAG


@pytest.fixture
def pods(engine: Engine, image: str, tmp_path: Path) -> Iterator[Pods]:
    with Network(engine, f"jupiter-{os.getpid()}") as network:
        made = Pods(network, tmp_path, encode_token(founding_token(ClusterKeys.found())), image)
        try:
            yield made
        finally:
            for node in made.ips:
                print(f"--- {node}\n{made.logs(node)[-1500:]}")
            made.remove()


def up(pods: Pods) -> None:
    for node in NODES:
        pods.start(node)
    pods.ready(*NODES)
    eventually(lambda: pods.states() == dict.fromkeys(NODES, "alive"), "all see each other", 60)


# --- the image -------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_the_image_adds_little_to_its_base_and_has_no_compiler(engine: Engine, image: str) -> None:
    size = engine.inspect("image", image)["Size"] - engine.inspect("image", engine.base_image())["Size"]
    print(f"{size / 1e6:.0f} MB beyond the base")
    assert size <= MOST_BYTES
    look = "for p in cc gcc g++ c++ clang make ld; do command -v $p && echo found; done; true"
    assert engine("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", look).ok().out == ""


@pytest.mark.smoke
def test_the_image_runs_as_nobody_in_particular_and_needs_nothing_writable_to_say_what_it_is(
    engine: Engine, image: str
) -> None:
    rights = ("--rm", "--network", "none", "--read-only", "--cap-drop", "ALL")
    assert engine("run", *rights, image, "--version").ok().out.split() == ["jupiter-agent", __version__]
    assert engine("run", *rights, "--entrypoint", "id", image, "-u").ok().out.strip() == "10421"
    python = ("--entrypoint", "/opt/jupiter/bin/python", image, "-c")
    rendered = "from jupiter_agent.k8s.manifests import objects; print(len(objects(token='t')))"
    assert int(engine("run", *rights, *python, rendered).ok().out) >= 10, "the wheel has the manifests"


@pytest.mark.smoke
def test_on_the_edge_the_folder_of_the_node_becomes_the_agents_own_and_its_user_may_remove_its_state(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    """The init container has the one right that the first takes; the agent has none, nor the pod that empties it."""
    state = tmp_path / "var-lib-jupiter"
    state.mkdir(mode=0o755)
    rendered = manifests.objects("edge", token="t", image=image)[-1]["spec"]["template"]["spec"]
    (init,) = rendered["initContainers"]
    rights = init["securityContext"]
    assert rights["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    options = ["--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--volume", f"{state}:/var/lib/jupiter"]
    keys = """echo '{"fingerprint": "f00d"}' > agent/cluster.json"""
    make = f"cd /var/lib/jupiter && mkdir -m 700 agent && {keys} && : > .x"
    write = ["--entrypoint", "sh", image, "-c", make]
    assert engine("run", *options, *write).code != 0, "without it nothing can be written"
    program, *words = init["command"]
    as_root = ["--cap-add", "CHOWN", "--user", rights["runAsUser"], "--entrypoint", program]
    engine("run", *options, *as_root, image, *words).ok()
    engine("run", *options, *write).ok()
    assert sorted(path.name for path in state.iterdir()) == [".x", "agent"]

    sent = wiper("jupiter", "n1", {"spec": rendered}, "f00d")["spec"]
    (container,) = sent["containers"]
    assert (container["image"], container["securityContext"]) == (image, rendered["containers"][0]["securityContext"])
    program, *words = container["command"]
    as_agent = ["--user", sent["securityContext"]["runAsUser"], "--entrypoint", program]
    engine("run", *options, *as_agent, image, *words).ok()
    assert [path.name for path in state.iterdir()] == [".x"], "what is not the agent's stays"


def test_an_agent_that_is_stopped_while_it_starts_does_not_wait_to_be_killed(engine: Engine, image: str) -> None:
    """It is process 1 there, and hears no signal that it does not handle; it handles this one before it loads anything.
    In a pod the processes are shared, so that another one is process 1."""
    for pause_s in (0.0, 0.2, 0.5, 1.2):
        name = f"jupiter-stopped-{os.getpid()}"
        engine("run", "--detach", "--name", name, "--cap-drop", "ALL", "--network", "none", image).ok()
        eventually(functools.partial(engine.hears, name, signal.SIGTERM), "it can be stopped", pause_s=0.01)
        time.sleep(pause_s)
        began = time.monotonic()
        engine("stop", "--time", 30, name).ok()
        took, code = time.monotonic() - began, engine.inspect("container", name)["State"]["ExitCode"]
        engine("rm", "--force", "--volumes", name).ok()
        assert code in (0, 143), f"{code} after {pause_s} s: 137 is killed"
        assert took < 15


# --- pods ------------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_agents_with_the_same_token_and_no_first_one_find_each_other_by_the_name_of_their_service(pods: Pods) -> None:
    began = time.monotonic()
    up(pods)
    print(f"{len(NODES)} agents see each other after {time.monotonic() - began:.1f} s")
    rows = pods.rows("nodes")
    assert {"dns", "self"} <= {row["found_by"] for row in rows} <= {"dns", "self", "gossip"}
    assert pods.page("worker1", "/metrics")[0] == 401, "metrics need a token, health does not"
    described = pods.ctl("-o", "json", "describe", "node", "worker1").ok().json()
    seen = (described["memory_bytes"], described["cpus"])
    assert seen == (768 * 2**20, 1.5), "the profiler sees the container, not the machine"
    inside = pods.execute("worker2", "jupiter", "ctl", "-o", "name", "get", "nodes").ok()
    assert len(inside.out.split()) == len(NODES), "from inside any pod"
    writable = pods.execute("worker1", "sh", "-c", "touch /opt/x || touch /etc/x || touch /x")
    assert writable.code != 0


@pytest.mark.smoke
def test_a_pod_that_is_killed_in_mid_job_costs_no_result_of_the_example(pods: Pods, tmp_path: Path) -> None:
    up(pods)
    samples = sorted((EXAMPLE / "samples").iterdir())
    first = [word for path in samples[:40] for word in ("--input", path)]
    job = pods.ctl("-o", "json", "submit", EXAMPLE, *first, "--keep-open").ok().json()
    row = eventually(lambda: (row := pods.job(job["id"]))["items_done"] >= 3 and row, "some items are done", 90)
    hosts = [host for host in set(row["mapping"].values()) if host != row["home"]]
    pods.kill(hosts[0])
    pods.ctl("put", job["id"], *samples[40:]).ok()
    pods.ctl("close", job["id"]).ok()
    killed = time.monotonic()
    left = dict.fromkeys(set(NODES) - {hosts[0]}, "alive")
    eventually(lambda: pods.states() == left, "the lost one is known to be dead", DEAD_S)
    print(f"known to be dead after {time.monotonic() - killed:.1f} s")
    pods.ctl("wait", job["id"], "--timeout", 120, limit_s=150).ok()
    pods.ctl("results", job["id"], "--out", tmp_path / "out").ok()
    compare(tmp_path / "out")


def compare(results: Path) -> None:
    """With what the app computes without a cluster."""
    import sys

    sys.path.insert(0, str(ROOT / "scripts"))
    import demo

    samples = sorted((EXAMPLE / "samples").iterdir())
    got = demo.read_results(results)
    assert got == demo.reference().expected(EXAMPLE, samples)
    assert len(got) == len(samples) > 20


def begun(pods: Pods, tmp_path: Path, items: int) -> tuple[str, str, Path]:
    """A job of which some items are done, its home, and its inputs."""
    app = make_app(tmp_path / "app", {"a": "b", "b": "home"}, {"a": STEP, "b": STEP})
    inputs = make_inputs(tmp_path / "in", items)
    job = pods.ctl("-o", "json", "submit", app, "--input", inputs, "--ep", "off").ok().json()["id"]
    row = eventually(lambda: (row := pods.job(job))["items_done"] >= 5 and row, "some items are done", 90)
    return job, row["home"], inputs


def test_the_home_of_a_job_is_killed_and_a_new_pod_takes_its_node(pods: Pods, tmp_path: Path) -> None:
    """The new one has another key and another address, and the name of the dead: that is no conflict."""
    up(pods)
    job, home, inputs = begun(pods, tmp_path, 40)
    pods.kill(home)
    pods.start(home)
    pods.ctl("wait", job, "--timeout", 120, limit_s=150).ok()
    finished(pods, job, inputs, tmp_path)
    pods.ready(home)
    eventually(lambda: pods.states() == dict.fromkeys(NODES, "alive"), "the new pod is one of them", 60)


def test_a_home_that_is_cut_off_in_mid_job_and_comes_back_costs_no_item(pods: Pods, tmp_path: Path) -> None:
    up(pods)
    job, home, inputs = begun(pods, tmp_path, 60)
    pods.cut_off(home)
    others = dict.fromkeys(set(NODES) - {home}, "alive")
    eventually(lambda: pods.states() == others, "it is dead for the others", DEAD_S)
    eventually(lambda: pods.job(job)["home"] != home, "another one is home", 30)
    pods.reconnect(home)
    eventually(lambda: pods.states() == dict.fromkeys(NODES, "alive"), "it is one of them again", 60)
    pods.ctl("wait", job, "--timeout", 120, limit_s=150).ok()
    finished(pods, job, inputs, tmp_path)


STEP = """
import time
def process(inputs, ctx):
    time.sleep(0.15)
    return b"".join(inputs[name] for name in sorted(inputs)) + ctx.task.encode()
"""


def finished(pods: Pods, job: str, inputs: Path, tmp_path: Path) -> None:
    """Every item came out once, and as it should."""
    pods.ctl("results", job, "--out", tmp_path / "out").ok()
    whole = {path.name: path.read_bytes() for path in inputs.iterdir()}
    assert read_results(tmp_path / "out") == {f"{name}/b/b": data + b"ab" for name, data in whole.items()}
    row = pods.job(job)
    assert (row["state"], row["items_done"], row["items_failed"]) == ("completed", len(whole), 0)


# --- another version -------------------------------------------------------------------------------------------------

NEWER = """
FROM {image}
USER 0:0
RUN cd /opt/jupiter/lib/python3*/site-packages/jupiter_agent \\
    && sed -i 's/^PROTOCOL_MIN, PROTOCOL_MAX = 1, 1$/PROTOCOL_MIN, PROTOCOL_MAX = 1, 2/' core/messages/membership.py \\
    && grep -q '^PROTOCOL_MIN, PROTOCOL_MAX = 1, 2$' core/messages/membership.py \\
    && sed -i 's/^__version__ = .*/__version__ = "99.0"/' __init__.py && python3 -m compileall -q .
USER 10421:10421
"""


@pytest.fixture(scope="session")
def newer(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of a version to come, that speaks one more version of the protocol."""
    folder = tmp_path_factory.mktemp("newer")
    (folder / "Dockerfile").write_text(NEWER.format(image=image))
    engine("build", "-q", "-t", "jupiter-agent:newer", folder, limit_s=120).ok()
    return "jupiter-agent:newer"


def test_a_new_image_is_rolled_out_under_a_job_that_loses_no_item(pods: Pods, newer: str, tmp_path: Path) -> None:
    """Node by node as the DaemonSet does, the next as soon as the one before is ready; input comes all the time."""
    up(pods)
    app = make_app(tmp_path / "app", {"a": "b", "b": "home"}, {"a": STEP, "b": STEP})
    inputs = make_inputs(tmp_path / "in", 20 * (len(NODES) + 1))
    files = sorted(inputs.iterdir())
    job = pods.ctl("-o", "json", "submit", app, "--keep-open", "--ep", "off").ok().json()["id"]
    pods.ctl("put", job, *files[:20]).ok()
    for number, node in enumerate(NODES, 1):
        began = time.monotonic()
        assert pods.stop(node) == 0, "it did not end by itself"
        stopped = time.monotonic()
        pods.start(node, newer)
        pods.ready(node)
        print(f"{node}: drained in {stopped - began:.1f} s, ready after {time.monotonic() - stopped:.1f} s")
        eventually(lambda: pods.states() == dict.fromkeys(NODES, "alive"), "all see each other", 60)
        versions = [row["version"] for row in pods.rows("nodes") if row["state"] == "alive"]
        assert versions.count("99.0") == number, versions
        pods.ctl("put", job, *files[20 * number : 20 * (number + 1)]).ok()
    pods.ctl("close", job).ok()
    pods.ctl("wait", job, "--timeout", 120, limit_s=150).ok()
    finished(pods, job, inputs, tmp_path)
