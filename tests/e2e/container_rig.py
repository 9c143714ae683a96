"""A container engine of the tests' own, and agents in it as the manifests want them: what the kubelet would do by hand.

The engine is the docker daemon that answers, or one started here by root, in a folder of its own. Base images cannot be
fetched everywhere, so one is made of Debian packages (about 15 s), and kept for the next time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from e2e_rig import JUPITER, Ended, eventually, jupiter, run

from jupiter_agent.k8s import manifests

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/base-python:3.11"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jupiter-containers"
PACKAGES = (
    "base-files", "libc6", "libstdc++6", "dash", "coreutils", "sed", "grep", "python3", "python3-minimal",
    "libpython3-stdlib", "libpython3.11-stdlib", "python3.11-venv", "python3-pip-whl", "python3-setuptools-whl",
)  # fmt: skip
"""What `python:3.11-slim` has and the image needs; unpacked, not configured"""


class Engine:
    """`docker`, as far as these tests go."""

    def __init__(self, host: str = "") -> None:
        self.host = host

    def __call__(self, *args: object, limit_s: float = 60.0) -> Ended:
        return run(["docker", *args], limit_s, **self.env)

    @property
    def env(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host} if self.host else {}

    @property
    def answers(self) -> bool:
        return shutil.which("docker") is not None and self("version").code == 0

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = json.loads(self(kind, "inspect", name).ok().out)
        return dict(found)

    def hears(self, container: str, number: signal.Signals) -> bool:
        """Its process 1 handles this signal."""
        pid = self.inspect("container", container)["State"]["Pid"]
        status = Path(f"/proc/{pid}/status").read_text()
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.M)
        return caught is not None and bool(int(caught[1], 16) >> number - 1 & 1)

    def has_image(self, name: str) -> bool:
        return self("image", "inspect", name).code == 0

    def base_image(self) -> str:
        """A base with Python, of Debian's own packages."""
        if not self.has_image(BASE):  # of an engine that lives on
            mark = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
            tar = CACHE / f"base-python-3.11-{mark}.tar"
            if not tar.exists():
                CACHE.mkdir(parents=True, exist_ok=True)
                aside = tar.with_suffix(f".{os.getpid()}")
                include = f"--include={','.join(PACKAGES)}"
                make = ["mmdebstrap", "--quiet", "--variant=extract", include, "--format=tar", "bookworm", aside]
                run([*make, "http://deb.debian.org/debian"], 300).ok()
                aside.rename(tar)
            self("import", tar, BASE, limit_s=120).ok()
        return BASE


def own_folder() -> Path:
    """For a daemon and its images: in memory where there is plenty, as slow disks take a minute to write and delete
    them. What a run that was killed left behind goes first."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) > 6 * 2**30
    top = memory if roomy else Path(tempfile.gettempdir())
    for left in top.glob("jupiter-docker-*"):
        if not Path(f"/proc/{left.name.rpartition('-')[2]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = top / f"jupiter-docker-{os.getpid()}"
    folder.mkdir()
    return folder


@contextmanager
def own_engine() -> Iterator[Engine]:
    """A docker daemon of ours; it and all it made are gone afterwards."""
    folder = own_folder()
    engine = Engine(f"unix://{folder}/sock")
    with (folder / "log").open("wb") as log:
        command = ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec", "-H", engine.host]
        words = [str(word) for word in [*command, "--pidfile", folder / "pid"]]
        daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        eventually(lambda: engine.answers or daemon.poll() is not None, "the docker daemon answers", 30)
        assert daemon.poll() is None, (folder / "log").read_text()[-2000:]
        subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], check=False)  # it closed the door for all others
        yield engine
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


class Network:
    """One docker network; the pods on it find each other by the name of the headless Service."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name
        self._hosts = iter(range(11, 250))
        self._prefix = ""

    def __enter__(self) -> Network:
        """On the first subnet that nobody uses."""
        for number in range(40, 60):
            self._prefix = f"10.55.{number}."
            ended = self.engine("network", "create", "--subnet", f"{self._prefix}0/24", self.name)
            if "overlaps" not in ended.err:
                ended.ok()
                return self
        raise AssertionError("no free subnet")

    def __exit__(self, *_: object) -> None:
        self.engine("network", "rm", self.name).ok()

    def next_ip(self) -> str:
        return f"{self._prefix}{next(self._hosts)}"


class Pods:
    """The DaemonSet of an overlay on nodes that are containers: what its pod template says is what they get."""

    def __init__(self, network: Network, folder: Path, token: str, image: str) -> None:
        self.network, self.folder, self.image = network, folder, image
        self.engine = network.engine
        self.objects = manifests.objects("restricted", token=token, image=image, pull_policy="Never")
        (self.template,) = [each["spec"]["template"] for each in self.objects if each["kind"] == "DaemonSet"]
        self.token_file = folder / "token"
        self.token_file.write_text(token)
        self.ips: dict[str, str] = {}
        self.silent: set[str] = set()
        """those that are cut off: they are not asked"""

    # --- what the kubelet does --------------------------------------------------------------------------------------

    def start(self, node: str, image: str = "", memory: str = "768m") -> None:
        """A new pod on this node: an empty state, another address."""
        self.ips[node] = self.network.next_ip()
        spec, (container,) = self.template["spec"], self.template["spec"]["containers"]
        rights, user = container["securityContext"], spec["securityContext"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]) == (True, False)
        args = [
            "run", "--detach", "--name", self._name(node), "--hostname", node, "--network", self.network.name,
            "--ip", self.ips[node], "--network-alias", manifests.PEERS_SERVICE, "--read-only", "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges", "--memory", memory, "--memory-swap", memory, "--pids-limit", 512,
            "--cpus", 1.5, "--user", f"{user['runAsUser']}:{user['runAsGroup']}",
        ]  # fmt: skip
        for name, value in self._environment(node, container["env"]).items():
            args += ["--env", f"{name}={value}"]
        for mount in container["volumeMounts"]:
            volume = next(each for each in spec["volumes"] if each["name"] == mount["name"])
            mode = "ro" if mount.get("readOnly") else "rw"
            args += ["--volume", f"{self._volume(node, volume, user['fsGroup'])}:{mount['mountPath']}:{mode}"]
        self.engine(*args, image or self.image, *container["args"]).ok()

    def _environment(self, node: str, wanted: list[dict[str, Any]]) -> dict[str, str]:
        fields = {
            "spec.nodeName": node,
            "status.podIP": self.ips[node],
            "metadata.name": f"{manifests.DAEMONSET}-{node}",
            "metadata.namespace": manifests.NAMESPACE,
        }
        env: dict[str, str] = {}
        for each in wanted:
            text = each.get("value") or fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
            env[each["name"]] = re.sub(r"\$\((\w+)\)", lambda found: env[found[1]], text)
        return env

    def _volume(self, node: str, volume: dict[str, Any], group: int) -> Path:
        """A folder as the kubelet makes it: of root, and of the pod's group."""
        folder = self.folder / self._name(node) / str(volume["name"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mode = 0o777
        if "secret" in volume:
            (folder / manifests.TOKEN_KEY).write_text(self.token_file.read_text())
            mode = volume["secret"]["defaultMode"]
        elif "configMap" in volume:
            (settings,) = [each for each in self.objects if each["kind"] == "ConfigMap"]
            for name, text in settings["data"].items():
                (folder / name).write_text(text)
            mode = 0o644
        elif "downwardAPI" in volume:
            labels = self.template["metadata"]["labels"]
            (folder / "labels").write_text("".join(f'{key}="{value}"\n' for key, value in labels.items()))
            mode = 0o644
        else:
            assert volume["emptyDir"] == {}
        for path in (folder, *folder.iterdir()):
            os.chown(path, 0, group)
            path.chmod(0o2777 if path == folder else mode)
        return folder

    def _name(self, node: str) -> str:
        return f"{self.network.name}-{node}"

    # --- what happens to pods ---------------------------------------------------------------------------------------

    def kill(self, node: str) -> None:
        """The power is cut; container and disk are gone."""
        self.engine("kill", self._name(node)).ok()
        self.engine("rm", "--force", "--volumes", self._name(node)).ok()
        del self.ips[node]

    def stop(self, node: str) -> int:
        """SIGTERM, and SIGKILL when its time is over; the exit code."""
        grace = self.template["spec"]["terminationGracePeriodSeconds"]
        self.engine("stop", "--time", grace, self._name(node), limit_s=grace + 30).ok()
        code = self.engine.inspect("container", self._name(node))["State"]["ExitCode"]
        print(f"--- last words of {node}\n" + "\n".join(self.logs(node).splitlines()[-6:]))
        self.engine("rm", "--force", "--volumes", self._name(node)).ok()
        del self.ips[node]
        return int(code)

    def cut_off(self, node: str) -> None:
        """It runs on, and reaches nobody."""
        self.silent.add(node)
        self.engine("network", "disconnect", self.network.name, self._name(node)).ok()

    def reconnect(self, node: str) -> None:
        self.silent.discard(node)
        where = ("--ip", self.ips[node], "--alias", manifests.PEERS_SERVICE)
        self.engine("network", "connect", *where, self.network.name, self._name(node)).ok()

    def remove(self) -> None:
        for node in list(self.ips):
            self.engine("rm", "--force", "--volumes", self._name(node))
        self.ips.clear()

    # --- what they say ----------------------------------------------------------------------------------------------

    def page(self, node: str, path: str) -> tuple[int, str]:
        """As a probe asks: (status, text), status 0 while nobody answers."""
        try:
            url = f"http://{self.ips[node]}:{manifests.HEALTH_PORT}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self, *nodes: str, limit_s: float = 60.0) -> None:
        for node in nodes:
            eventually(functools.partial(self._is_ready, node), f"{node} is ready", limit_s)

    def _is_ready(self, node: str) -> bool:
        assert self.engine.inspect("container", self._name(node))["State"]["Running"], self.logs(node)
        return self.page(node, "/readyz")[0] == 200

    def logs(self, node: str) -> str:
        ended = self.engine("logs", self._name(node)).ok()
        return ended.out + ended.err

    def execute(self, node: str, *command: object) -> Ended:
        """As `kubectl exec`."""
        return self.engine("exec", self._name(node), *command)

    def command(self, *args: object) -> list[str]:
        addresses = [ip for node, ip in self.ips.items() if node not in self.silent]
        peers = [word for ip in addresses for word in ("--peer", f"{ip}:{manifests.AGENT_PORT}")]
        return [JUPITER, "ctl", *peers, "--token-file", str(self.token_file), *map(str, args)]

    def ctl(self, *args: object, limit_s: float = 120.0) -> Ended:
        """From outside, at whichever agent answers."""
        return jupiter(*self.command(*args)[1:], limit_s=limit_s)

    def rows(self, kind: str, *args: object) -> list[dict[str, Any]]:
        return list(self.ctl("-o", "json", "get", kind, *args).ok().json()["items"])

    def job(self, id: str) -> dict[str, Any]:
        return self.rows("jobs", id)[0]

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.rows("nodes") if row["state"] not in ("left", "dead")}
