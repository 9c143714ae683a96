"""The nodes of the stand-in: a pod is a process of this machine with the environment and files that its object says.

Its address is one of its own in 127.0.0.0/8. Mounts become folders of the pod's own folder, and what the environment
says of them is translated; nothing else tells the agent that it is in no container.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from jupiter_agent.bench.kube.controllers import key_of
from jupiter_agent.bench.kube.rights import POD_TOKEN
from jupiter_agent.bench.kube.store import Key, Object, Store

AGENT = [sys.executable, "-P", "-m", "jupiter_agent.cli.agent_main"]
PROGRAMS = {"python": sys.executable}
"""Of the image, by their place on its path"""
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
POLL_S = 0.1
START_S, END_S = 1.0, 0.5
"""What a container runtime and the kubelet take to start a pod's process, and to say that it has ended"""
BACK_OFF_S = (0.0, 2.0, 4.0, 8.0)
PASSED_ON = ("PATH", "HOME", "PYTHONPATH", "LANG", "JUPITER_LOG_LEVEL")


@dataclass
class Pod:
    """One pod of this node, and its process."""

    key: Key
    uid: str
    object: Object
    folder: Path
    ip: str
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    since: float = 0.0
    """when it was first seen here"""
    ended_at: float | None = None
    """when its process was first seen to have ended for good"""
    again_at: float = 0.0
    kill_at: float = 0.0
    probed_at: float = 0.0
    ready: bool = False
    last_exit: int | None = None
    said: Object = field(default_factory=dict)


class Kubelet:
    """The pods of one node. `images`: those that are on it; `down`: as if the machine had lost power."""

    def __init__(
        self, store: Store, name: str, number: int, folder: Path, cluster_env: dict[str, str], net: str
    ) -> None:
        self.name, self.number = name, number
        self._net = net
        """the first half of the addresses of its pods"""
        self.start_s, self.end_s = START_S, END_S
        self.images: set[str] | None = None
        """None: all"""
        self.pods: dict[str, Pod] = {}
        self._store, self._folder, self._cluster_env = store, folder, cluster_env
        self.disk = folder / f"{name}-disk"
        """What outlives the pods: the folders of the machine itself"""
        self._count = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Kill what runs."""
        self._stopping = True
        self._thread.join()
        for pod in self.pods.values():
            self.kill(pod)

    def kill(self, pod: Pod) -> None:
        """SIGKILL to a pod's agent."""
        if pod.process is not None and pod.process.poll() is None:
            pod.process.kill()
            pod.process.wait()

    def _run(self) -> None:
        while not self._stopping:
            self._turn(time.monotonic())
            time.sleep(POLL_S)

    def _turn(self, now: float) -> None:
        mine = {
            each["metadata"]["uid"]: each
            for each in self._store.listed("pods", wanted=lambda pod: pod["spec"].get("nodeName") == self.name)
        }
        for uid in [uid for uid in self.pods if uid not in mine]:  # struck off
            self.kill(self.pods[uid])
            shutil.rmtree(self.pods.pop(uid).folder, ignore_errors=True)
        for uid, found in mine.items():
            if uid not in self.pods:
                self.pods[uid] = self._admit(uid, found, now)
            pod = self.pods[uid]
            pod.object = found
            if found["metadata"].get("deletionTimestamp"):
                self._end(pod, now)
            else:
                self._keep(pod, now)

    def _admit(self, uid: str, found: Object, now: float) -> Pod:
        self._count += 1
        ip = f"{self._net}.{self.number}.{self._count % 250 + 1}"
        return Pod(key_of("pods", found), uid, found, self._folder / f"{self.name}-{self._count}", ip, since=now)

    # --- a pod's life ---

    def _keep(self, pod: Pod, now: float) -> None:
        container = pod.object["spec"]["containers"][0]
        if self.images is not None and container["image"] not in self.images:
            self._tell(pod, waiting=self._no_image(container))
            return
        if pod.process is not None and (code := pod.process.poll()) is not None:
            if pod.object["spec"].get("restartPolicy") == "Never":
                if self._is_over(pod, now):
                    self._tell_end(pod, container, code)
                return
            pod.last_exit, pod.process, pod.ready = code, None, False
            pod.again_at = now + BACK_OFF_S[min(pod.restarts, len(BACK_OFF_S) - 1)]
            pod.restarts += 1
            with contextlib.suppress(OSError):
                shutil.copy(pod.folder / "log", pod.folder / "log.previous")
        if pod.process is None and now < pod.again_at:
            self._tell(pod, waiting=("CrashLoopBackOff", f"back-off {BACK_OFF_S[-1]:g}s restarting failed container"))
            return
        if pod.process is None and now < pod.since + self.start_s:
            self._tell(pod)
            return
        if pod.process is None:
            try:
                self._start(pod, container)
            except LookupError as error:
                self._tell(pod, waiting=("CreateContainerConfigError", str(error)))
                return
        if "readinessProbe" in container and now >= pod.probed_at + (0.2 if not pod.ready else 1.0):
            pod.probed_at, pod.ready = now, self._probe(pod)
        self._tell(pod)

    def _is_over(self, pod: Pod, now: float) -> bool:
        """Whether the end of its process is known by now."""
        if pod.ended_at is None:
            pod.ended_at = now
        return now >= pod.ended_at + self.end_s

    def _tell_end(self, pod: Pod, container: Object, code: int) -> None:
        """Of a pod that is not started again."""
        ended: Object = {"exitCode": code, "reason": "Error" if code else "Completed"}
        if code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = (pod.folder / "log").read_text("utf-8", "replace")[-2048:]
        each = {"name": container["name"], "containerID": _id(pod), "ready": False, "restartCount": 0}
        status: Object = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{**each, "state": {"terminated": ended}}],
        }
        self._store.update(pod.key, lambda after: after.update(status=status))

    def _end(self, pod: Pod, now: float) -> None:
        """SIGTERM, and SIGKILL when its time is over."""
        process = pod.process
        if process is None or process.poll() is not None:
            if self._is_over(pod, now):
                self._store.remove(pod.key)
            return
        grace_s = float(pod.object["metadata"].get("deletionGracePeriodSeconds") or 0)
        if not pod.kill_at:
            process.send_signal(signal.SIGTERM)
            pod.kill_at = now + grace_s
        elif now >= min(pod.kill_at, now + grace_s):
            self.kill(pod)

    @staticmethod
    def _no_image(container: Object) -> tuple[str, str]:
        image = container["image"]
        if container.get("imagePullPolicy") == "Never":
            return "ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never'
        return "ErrImagePull", f'failed to pull and unpack image "{image}": not found'

    def _start(self, pod: Pod, container: Object) -> None:
        mounts = self._mount(pod, container)
        env = {key: os.environ[key] for key in PASSED_ON if key in os.environ} | self._cluster_env
        for each in container.get("env") or ():
            value = str(each.get("value", "")) if "valueFrom" not in each else self._field(pod, each["valueFrom"])
            for name, known in env.items():
                value = value.replace(f"$({name})", known)
            env[each["name"]] = _placed(value, mounts)
        env["JUPITER_BIND"] = f"{pod.ip}:7421"  # all pods share this machine's ports
        env["JUPITER_SERVICE_ACCOUNT"] = str(mounts[ACCOUNT])
        env["JUPITER_MDNS"] = "off"
        program, *words = container.get("command") or AGENT
        command = [PROGRAMS.get(program, program), *(_placed(word, mounts) for word in words)]
        with (pod.folder / "log").open("wb") as log:
            pod.process = subprocess.Popen(
                [*command, *container.get("args", [])], env=env, cwd=pod.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    def _field(self, pod: Pod, source: Object) -> str:
        metadata = pod.object["metadata"]
        fields = {
            "spec.nodeName": self.name, "status.podIP": pod.ip, "status.hostIP": "127.0.0.1",
            "metadata.name": metadata["name"], "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
        }  # fmt: skip
        return str(fields.get((source.get("fieldRef") or {}).get("fieldPath", ""), ""))

    def _mount(self, pod: Pod, container: Object) -> dict[str, Path]:
        """mount path -> folder. LookupError for an object that is not there."""
        namespace = pod.object["metadata"]["namespace"]
        volumes = {each["name"]: each for each in pod.object["spec"].get("volumes") or ()}
        mounts = {}
        for mount in container.get("volumeMounts") or ():
            volume = volumes[mount["name"]]
            folder = pod.folder / "volumes" / mount["name"]
            if "hostPath" in volume:
                folder = self.disk / volume["hostPath"]["path"].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            mounts[mount["mountPath"]] = folder
            if "secret" in volume:
                self._write(folder, "secrets", namespace, volume["secret"]["secretName"])
            elif "configMap" in volume:
                self._write(folder, "configmaps", namespace, volume["configMap"]["name"])
        account = pod.folder / "account"
        account.mkdir(parents=True, exist_ok=True)
        name = pod.object["spec"].get("serviceAccountName", "default")
        (account / "token").write_text(f"{POD_TOKEN}{namespace}:{name}")
        (account / "namespace").write_text(namespace)
        shutil.copy(self._cluster_env["STAND_IN_CA"], account / "ca.crt")
        return {**mounts, ACCOUNT: account}

    def _write(self, folder: Path, plural: str, namespace: str, name: str) -> None:
        found = self._store.find(plural, namespace, name)
        if found is None:
            raise LookupError(f'{plural[:-1]} "{name}" not found')
        for key, value in (found.get("data") or {}).items():
            content = base64.b64decode(value) if plural == "secrets" else value.encode()
            (folder / key).write_bytes(content)

    def _probe(self, pod: Pod) -> bool:
        port = next(
            (p["containerPort"] for p in pod.object["spec"]["containers"][0]["ports"] if p["name"] == "health"), 0
        )
        try:
            with urllib.request.urlopen(f"http://{pod.ip}:{port}/readyz", timeout=2.0) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _tell(self, pod: Pod, waiting: tuple[str, str] | None = None) -> None:
        """Write the status, if it is another one."""
        running = pod.process is not None and waiting is None
        state: Object = {"running": {}} if running else {}
        if waiting:
            state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
        container: Object = {"name": "agent", "ready": pod.ready, "restartCount": pod.restarts, "state": state}
        if pod.process is not None or pod.restarts:
            container["containerID"] = _id(pod)
        if pod.last_exit is not None:
            container["lastState"] = {"terminated": {"exitCode": pod.last_exit, "reason": "Error"}}
        ready = "True" if running and pod.ready else "False"
        status: Object = {
            "phase": "Running" if running or pod.restarts else "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}],
            "containerStatuses": [container],
            **({"podIP": pod.ip} if running or pod.restarts else {}),
        }
        if status != pod.said:
            pod.said = status
            self._store.update(pod.key, lambda after: after.update(status=status))


def _id(pod: Pod) -> str:
    """As a container runtime names what it has started."""
    return f"process://{pod.uid}-{pod.restarts}"


def _placed(text: str, mounts: dict[str, Path]) -> str:
    """What begins with a mount's path, where that is here."""
    for path, folder in mounts.items():
        if text == path or text.startswith(f"{path}/"):
            return str(folder) + text[len(path) :]
    return text


class SimulatedKubelet:
    """Of nodes that are no machines: it says that pods run and are ready, and nothing does."""

    def __init__(self, store: Store, names: set[str]) -> None:
        self._store, self._names = store, names
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            for pod in self._store.listed("pods", wanted=lambda pod: pod["spec"].get("nodeName") in self._names):
                self._turn(pod)
            time.sleep(POLL_S)

    def _turn(self, pod: Object) -> None:
        key = key_of("pods", pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._store.remove(key)
        elif pod["status"].get("phase") != "Running":
            number = sorted(self._names).index(pod["spec"]["nodeName"])
            status = {
                "phase": "Running", "podIP": f"10.99.0.{number + 1}",
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "agent", "ready": True, "restartCount": 0, "state": {"running": {}}}],
            }  # fmt: skip

            def change(after: Object) -> None:
                after["status"] = status
                after["metadata"].setdefault("annotations", {})["stand-in/simulated"] = "true"

            self._store.update(key, change)
