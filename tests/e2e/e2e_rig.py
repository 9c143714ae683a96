"""What the end-to-end tests are made of: the real commands, real agents, small apps, and who runs on this machine."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jupiter_agent.adapters.client import Client

BIN = Path(sys.executable).parent
JUPITER, JUPITER_AGENT = str(BIN / "jupiter"), str(BIN / "jupiter-agent")
EXAMPLE = Path(__file__).resolve().parents[2] / "app_specific_files" / "example"

MARK = "E2E_TESTS_OF"
"""in the environment of all that these tests start; tasks have another one, and are found by where they work"""

T = TypeVar("T")


def environment(**more: str) -> dict[str, str]:
    """Ours, without what could lead a command to another cluster."""
    return {k: v for k, v in os.environ.items() if not k.startswith("JUPITER_")} | more


def eventually(look: Callable[[], T], what: str, limit_s: float = 15.0, pause_s: float = 0.05) -> T:
    """What `look` gives once that is true."""
    deadline = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(pause_s)
    return found


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def ok(self) -> Ended:
        assert self.code == 0, f"exit {self.code}\n{self.err}{self.out[-2000:]}"
        assert "Traceback" not in self.err
        return self

    def json(self) -> Any:
        """stdout, which must be one JSON document and nothing else."""
        body = json.loads(self.out)
        assert body["apiVersion"] == "jupiter/v1"
        return body

    def lines(self) -> list[Any]:
        """stdout, which must be one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def refused(self, code: int, *words: str) -> Ended:
        """It failed as documented: this exit code, `error:` and `hint:` on stderr that hold the words, nothing else."""
        assert self.code == code, f"exit {self.code}, not {code}\n{self.err}{self.out[-2000:]}"
        assert self.out == ""
        assert "Traceback" not in self.err
        starts = [line.partition(":")[0] for line in self.err.splitlines() if not line.startswith("  ")]
        assert {"error", "hint"} <= set(starts), self.err
        for word in words:
            assert word in self.err, f"{word!r} is not in:\n{self.err}"
        return self


def run(command: Sequence[object], limit_s: float = 60.0, cwd: Path | None = None, **env: str) -> Ended:
    """A command to its end."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=limit_s, cwd=cwd, env=environment(**env), check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def jupiter(*args: object, limit_s: float = 60.0, cwd: Path | None = None, **env: str) -> Ended:
    return run([JUPITER, *args], limit_s, cwd, **env)


def start(command: Sequence[object], **env: str) -> subprocess.Popen[str]:
    """A command that is still running, in a session of its own."""
    return subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(**env), start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str], limit_s: float = 15.0) -> Ended:
    """Wait for its end, which is not forced."""
    out, err = process.communicate(timeout=limit_s)
    return Ended(process.returncode, out, err)


def interrupt(process: subprocess.Popen[str], limit_s: float = 15.0) -> Ended:
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)
    return end(process, limit_s)


# --- processes of this machine ------------------------------------------------------------------------------------


def living(below: Path) -> dict[int, str]:
    """pid -> command line of every process that works below this folder or names it in its command line."""
    found = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
            cwd = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if state != b"Z" and (Path(cwd).is_relative_to(below) or str(below) in command):
            found[pid] = command
    return found


def marked(mark: str) -> list[int]:
    """Every process that inherited our mark, whatever became of its parent."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()):
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environ.split(b"\0"):
            found.append(pid)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
"""Runners beside each other have ports of their own"""
_first = 12000 + 2000 * _WORKER
_ports = itertools.cycle(range(_first, _first + 2000, 4))
for _ in range(os.getpid() % 500):
    next(_ports)


def free_port() -> int:
    """A free port below the kernel's own and `local up`'s; the three after it are not given to others."""
    for port in itertools.islice(_ports, 500):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


# --- clusters and agents --------------------------------------------------------------------------------------------


class Cluster:
    """A local cluster in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clients: dict[str, Client] = {}

    def up(self, nodes: int) -> Cluster:
        jupiter("local", "up", "--nodes", nodes, "--dir", self.folder).ok()
        return self

    def down(self) -> Ended:
        self.hang_up()
        return jupiter("local", "down", "--dir", self.folder)

    def kill(self, node: str) -> None:
        jupiter("local", "kill", node, "--dir", self.folder).ok()

    def start(self, node: str) -> None:
        jupiter("local", "start", node, "--dir", self.folder).ok()

    def hang_up(self) -> None:
        while self._clients:
            self._clients.popitem()[1].close()

    def ctl(self, *args: object, limit_s: float = 60.0, **env: str) -> Ended:
        return jupiter("ctl", "--dir", self.folder, *args, limit_s=limit_s, **env)

    def at(self, node: str) -> list[str]:
        """Options that make ctl ask this node."""
        return ["--peer", self.address(node)]

    def submit(self, app: Path, *args: object, limit_s: float = 60.0) -> Any:
        """The job object that `submit` prints."""
        return self.ctl("-o", "json", "submit", app, *args, limit_s=limit_s).ok().json()

    def agent(self, node: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / node / "agent.json").read_text()))

    def address(self, node: str) -> str:
        return str(self.agent(node)["address"])

    def pid(self, node: str) -> int:
        return int(self.agent(node)["pid"])

    @property
    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("*/agent.json"))

    def client(self, node: str) -> Client:
        """A client of this agent alone; the same as long as the agent stays where it is."""
        client = self._clients.get(node)
        if client is None or client.address != self.address(node):
            token = (self.folder / "token").read_text().strip()
            client = self._clients[node] = Client.open([self.address(node)], token)
        return client

    def call(self, node: str, verb: str, **args: Any) -> Any:
        """Ask one agent, without a process for it."""
        return self.client(node).call(verb, args, 10.0)

    def states(self, node: str) -> dict[str, str]:
        """name -> state of the members, as this node sees them."""
        return {row["name"]: row["state"] for row in self.call(node, "get", kind="nodes")["items"]}

    def member(self, asked: str, name: str) -> dict[str, Any]:
        """What `asked` knows of the node `name`."""
        return next(row for row in self.call(asked, "get", kind="nodes")["items"] if row["name"] == name)

    def job(self, id: str, node: str = "node1") -> dict[str, Any]:
        return dict(self.call(node, "get", kind="jobs", id=id)["items"][0])

    def jobs(self, node: str = "node1") -> list[str]:
        return [row["id"] for row in self.call(node, "get", kind="jobs")["items"]]

    def until(self, id: str, state: str, limit_s: float = 30.0, node: str = "node1") -> dict[str, Any]:
        """The job once it is in this state."""

        def there() -> dict[str, Any] | None:
            job = self.job(id, node)
            return job if job["state"] == state else None

        found = eventually(there, f"job {id} is {state}", limit_s)
        assert found is not None
        return found

    def is_well(self) -> bool:
        """Every agent that should run answers and sees all the others alive."""
        return all(set(self.states(name).values()) <= {"alive", "left"} for name in self.names)


class Agent:
    """One `jupiter-agent run`, with its pages."""

    def __init__(self, folder: Path, name: str, *args: object, **env: str) -> None:
        self.folder, self.name = folder, name
        self.port, self.http = free_port(), free_port()
        self.args, self.env = args, env
        self.log = folder.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *args: object) -> Agent:
        """Start it (again, with other flags), and wait until it says that it is ready."""
        self.args = args or self.args
        command = [
            JUPITER_AGENT, "run", "--name", self.name, "--bind", f"127.0.0.1:{self.port}", "--state-dir", self.folder,
            "--http", f"127.0.0.1:{self.http}", *self.args,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment(**self.env),
            )  # fmt: skip
        process = self.process
        eventually(lambda: self.page("/readyz")[0] == 200 or process.poll() is not None, "the agent is ready")
        assert process.poll() is None, self.log.read_text()
        return self

    def page(self, path: str) -> tuple[int, str]:
        """(status, text), status 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    def ctl(self, *args: object) -> Ended:
        return jupiter("ctl", "--peer", self.address, "--token-file", self.token_file, *args)

    def nodes(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.ctl("get", "nodes", "-o", "json").ok().json()["items"]}

    def client(self) -> Client:
        return Client.open([self.address], self.token_file.read_text().strip())

    def metrics(self) -> Samples:
        status, text = self.page("/metrics")
        assert status == 200
        return parse_metrics(text)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self, limit_s: float = 10.0) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(5)


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""(metric name, labels) -> value"""


LABEL = r'\w+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(" + LABEL + "(?:," + LABEL + r")*)\})? (\S+)"


def parse_metrics(text: str) -> Samples:
    """Prometheus text, format 0.0.4, taken strictly: HELP, TYPE, then the samples of that family, once each."""
    samples: Samples = {}
    families: dict[str, str] = {}
    current = ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if help_line := re.fullmatch(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) \S.*", line):
            current = help_line[1]
            assert current not in families, f"{current} comes twice"
            families[current] = ""
        elif type_line := re.fullmatch(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)", line):
            assert type_line[1] == current
            assert not families[current]
            families[current] = type_line[2]
        else:
            sample = re.fullmatch(SAMPLE, line)
            assert sample, f"not a sample: {line!r}"
            assert sample[1] == current, f"{sample[1]} among the samples of {current}"
            assert families[current], "no TYPE"
            labels = tuple(re.findall(r'(\w+)="((?:[^"\\\n]|\\["\\n])*)"', sample[2] or ""))
            assert (sample[1], labels) not in samples, f"{line!r} comes twice"
            value = float(sample[3])
            assert 0 <= value < float("inf"), line
            samples[sample[1], labels] = value
    return samples


# --- apps -------------------------------------------------------------------------------------------------------------

ECHO = "def process(inputs, ctx):\n    return b''.join(inputs[name] for name in sorted(inputs))\n"


Tasks = Mapping[str, str | tuple[str, str]]
"""name -> its children, or (its children, more YAML such as 'timeout_s: 2')"""


def make_app(folder: Path, tasks: Tasks, scripts: Mapping[str, str] | None = None) -> Path:
    """An app; a task without a script echoes."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["application:", "  tasks:", "    dag_tasks:"]
    for name, said in tasks.items():
        children, more = (said, "") if isinstance(said, str) else said
        rest = f", {more}" if more else ""
        lines.append(f"      - {{name: {name}, base_script: {name}.py, children: [{children}]{rest}}}")
        (folder / f"{name}.py").write_text((scripts or {}).get(name, ECHO))
    (folder / "app_config.yaml").write_text("\n".join(lines) + "\n")
    return folder


def make_inputs(folder: Path, count: int, size: int = 20) -> Path:
    """Files item0..itemN, each with its own bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"item{number}").write_bytes((f"{number} ".encode() * size)[:size])
    return folder


def read_results(folder: Path) -> dict[str, bytes]:
    """'item/sink/file' -> bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
