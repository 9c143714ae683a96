"""Which agents `jupiter ctl` means when Kubernetes is around."""

from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace

import pytest

from jupiter_agent.cli import reach
from jupiter_agent.cli.k8s.forward import Forward
from jupiter_agent.cli.k8s.pods import Pod
from jupiter_agent.cli.k8s.reaching import first_of
from jupiter_agent.cli.reach import Where
from jupiter_agent.errors import UnreachableError

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reach, "SYSTEM_DIR", tmp_path / "none")


def test_inside_a_pod_the_service_is_asked_by_the_variables_that_its_namespace_gets(tmp_path):
    env = {**POD, "JUPITER_SERVICE_HOST": "10.96.7.7", "JUPITER_SERVICE_PORT": "7421", "HOME": str(tmp_path)}
    assert reach.addresses(Where(env=env)) == ["10.96.7.7:7421"]


def test_inside_a_pod_of_another_namespace_the_service_is_asked_by_name(tmp_path):
    assert reach.addresses(Where(env={**POD, "HOME": str(tmp_path)})) == ["jupiter:7421", "jupiter.jupiter.svc:7421"]


def test_outside_of_pods_the_service_is_nothing(tmp_path):
    with pytest.raises(UnreachableError):
        reach.addresses(Where(env={"JUPITER_SERVICE_HOST": "10.96.7.7", "JUPITER_SERVICE_PORT": "7421",
                                   "HOME": str(tmp_path)}))  # fmt: skip


def test_inside_a_pod_the_token_is_the_mounted_one(tmp_path, monkeypatch):
    mounted = tmp_path / "token"
    mounted.write_text("jup1.x\n")
    monkeypatch.setattr(reach, "IN_POD", mounted)
    assert reach.find_token(Where(env={**POD, "HOME": str(tmp_path)})) == ("jup1.x", mounted)
    assert reach.find_token(Where(env={"HOME": str(tmp_path)})) == ("", None)


def test_a_context_or_a_namespace_leads_to_the_cluster_and_nowhere_else(monkeypatch):
    asked = []
    monkeypatch.setattr("jupiter_agent.cli.k8s.reaching.open_client", lambda *given: asked.append(given))
    reach.open_client(Where(peers=("10.0.0.2:7421",), context="field"))
    reach.open_client(Where(namespace="ours"))
    assert asked == [("field", "", ("10.0.0.2:7421",), None), ("", "ours", (), None)]


@pytest.mark.parametrize(
    ("env", "own", "mounted", "inside"),
    [
        (POD, "ours", True, True),
        ({**POD, "POD_NAMESPACE": "ours"}, "", True, True),
        (POD, "", True, True),
        (POD, "theirs", True, False),
        (POD, "ours", False, False),
        ({**POD, "KUBECONFIG": "/x"}, "ours", True, False),
        ({}, "ours", True, False),
    ],
)
def test_a_pod_reaches_the_agents_of_its_own_namespace_itself(tmp_path, monkeypatch, env, own, mounted, inside):
    asked, secret, said = [], tmp_path / "secret", tmp_path / "namespace"
    for path, text in ((secret, "jup1.x" if mounted else ""), (said, own)):
        if text:
            path.write_text(text)
    monkeypatch.setattr(reach, "IN_POD", secret)
    monkeypatch.setattr(reach, "POD_NAMESPACE", said)
    monkeypatch.setattr("jupiter_agent.cli.k8s.reaching.open_client", lambda *given: asked.append("outside"))
    monkeypatch.setattr(
        "jupiter_agent.adapters.client.Client.open", lambda tried, token: asked.append((*tried, token)), raising=True
    )
    env = {"HOME": str(tmp_path), "JUPITER_SERVICE_HOST": "10.96.7.7", "JUPITER_SERVICE_PORT": "7421", **env}
    reach.open_client(Where(namespace="ours", env=env))
    assert asked == [("10.96.7.7:7421", "jup1.x") if inside else "outside"]
    reach.open_client(Where(namespace="ours", context="field", env=env))
    assert asked[1:] == ["outside"]


# --- a forwarded port ---


class Echo:
    """A tunnel whose far end says everything back."""

    def __init__(self) -> None:
        self.error = ""
        self.closed = threading.Event()

    def carry(self, near: socket.socket, first: bytes) -> None:
        near.sendall(first.upper())
        while data := near.recv(100):
            near.sendall(data.upper())

    def close(self) -> None:
        self.closed.set()


def call(address: str, offset: int = 0) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port) + offset), 5.0)


def test_two_ports_in_a_row_lead_to_the_two_of_the_agent():
    ports, tunnels = [], []

    def connect(port):
        ports.append(port)
        tunnels.append(Echo())
        return tunnels[-1]

    forward = Forward(connect)
    for offset in (0, 1):
        with call(forward.address, offset) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"
            client.sendall(b"again")
            assert client.recv(100) == b"AGAIN"
    assert ports == [7421, 7422]
    for tunnel in tunnels:
        assert tunnel.closed.wait(5.0)
    forward.close()


def test_who_only_looks_whether_the_port_is_open_reaches_no_pod():
    ports = []
    forward = Forward(lambda port: ports.append(port) or Echo())
    call(forward.address).close()
    with call(forward.address) as client:
        client.sendall(b"x")
        assert client.recv(100) == b"X"
    assert ports == [7421]
    forward.close()


def test_why_a_pod_could_not_be_reached_is_kept_and_the_caller_is_hung_up_on():
    def connect(port):
        raise UnreachableError("no route to host")

    forward = Forward(connect)
    with call(forward.address) as client:
        client.sendall(b"x")
        assert client.recv(100) == b""
    assert forward.error is not None
    assert forward.error.message == "no route to host"
    forward.close()


def test_closing_ends_what_is_open():
    forward = Forward(lambda port: Echo())
    with call(forward.address) as client:
        client.sendall(b"x")
        assert client.recv(100) == b"X"
        forward.close()
        assert client.recv(100) == b""
    with pytest.raises(OSError):
        call(forward.address)


# --- whichever agent answers first ---


def pods(*numbers: int) -> list[Pod]:
    return [Pod(f"p{n}", f"u{n}", f"n{n}", f"10.0.0.{n}", "ready") for n in numbers]


def test_the_first_agent_that_answers_is_taken_and_pods_in_which_nobody_does_hold_nobody_up():
    waiting, closed = threading.Event(), []

    def opened(pod):
        if pod.node == "n9":
            return SimpleNamespace(pod=pod, close=lambda: closed.append(pod.node))
        if pod.node == "n1":
            raise UnreachableError("no route to host")
        waiting.wait(20.0)
        raise UnreachableError("late")

    began = time.monotonic()
    assert first_of(pods(1, 2, 9), opened).pod.node == "n9"
    assert time.monotonic() - began < 10.0
    assert closed == []
    waiting.set()


def test_when_nobody_answers_the_first_pods_reason_is_told():
    def opened(pod):
        raise UnreachableError(f"{pod.node} is away")

    with pytest.raises(UnreachableError, match="n4 is away"):
        first_of(pods(4, *range(5, 30)), opened)
