"""A blocking session with one agent, for programs without a loop: is anybody there, who is it, talk to it.

Reachability is judged by a plain TCP connect before a key is used; a failing handshake afterwards means that the key is
wrong. The agent's own key is learned from its join socket, which holders of any token can serve, and believed when the
cluster's issuer has signed it.
"""

from __future__ import annotations

import time

import zmq

from jupiter_agent.adapters.authority import ClusterAuthority
from jupiter_agent.adapters.curve import (
    HANDSHAKE_FAILED,
    Context,
    CurvePair,
    Socket,
    curve_socket,
    monitor_events,
    readable,
)
from jupiter_agent.adapters.keys import ClusterKeys, Token, fingerprint
from jupiter_agent.adapters.ports import first_open, join_address, numeric, parse_address
from jupiter_agent.core.ids import node_id
from jupiter_agent.core.messages import Message
from jupiter_agent.core.messages.membership import PROTOCOL_MAX, PROTOCOL_MIN, Iam, Record, Refused, Who
from jupiter_agent.core.wire import decode, encode
from jupiter_agent.errors import PeerError, UnauthorisedError, UnreachableError, UsageError

REACH_S = 2.0
HANDSHAKE_S = 3.0
_SEND_S = 10.0


class LostError(UnreachableError):
    """The agent went away, or stopped answering its heartbeats."""


class Link:
    """An authenticated session with what listens at a numeric address. Raises LostError and UnauthorisedError."""

    def __init__(self, context: Context, address: str, pair: CurvePair, server_key: str) -> None:
        self.address = address
        self._up = False
        self._sock: Socket = curve_socket(context, zmq.DEALER, pair)
        self._sock.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
        self._sock.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_S * 1000))
        self._sock.setsockopt(zmq.SNDTIMEO, int(_SEND_S * 1000))
        events = HANDSHAKE_FAILED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_SUCCEEDED
        self._monitor: Socket = self._sock.get_monitor_socket(events)
        self._poller = zmq.Poller()
        self._poller.register(self._sock, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._opened = time.monotonic()
        self._sock.connect("tcp://" + address)

    def wait_open(self) -> None:
        """Until the handshake is done, or has failed."""
        while not self._up:
            if time.monotonic() - self._opened >= HANDSHAKE_S + REACH_S:
                raise LostError(f"the agent at {self.address} does not answer")
            self._monitor.poll(100)
            self.check()

    def send(self, message: Message) -> None:
        self.check()
        try:
            self._sock.send(encode(message))
        except zmq.Again:
            raise LostError(f"the agent at {self.address} takes nothing any more") from None

    def receive(self, deadline: float) -> Message | None:
        """The next message, or None when `deadline` (monotonic) has passed. What is no message is skipped."""
        while True:
            if not readable(self._sock):
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._poller.poll(max(1, int(left * 1000)))
            if readable(self._sock):
                try:
                    return decode(self._sock.recv_multipart()[-1])
                except PeerError:
                    continue
            self.check()

    def close(self) -> None:
        self._sock.disable_monitor()
        self._sock.close(0)

    def check(self) -> None:
        """Raise if the session was refused or is gone."""
        for event, _, _ in monitor_events(self._monitor, 20):
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._up = True
            elif self._up or event == zmq.EVENT_CLOSED:
                raise LostError(f"the agent at {self.address} went away")
            elif time.monotonic() - self._opened >= HANDSHAKE_S * 0.9:
                raise LostError(f"the agent at {self.address} does not answer")
            elif first_open(self.address, REACH_S) is None:  # it did not refuse us: it died meanwhile
                raise LostError(f"the agent at {self.address} went away")
            else:
                raise UnauthorisedError(
                    f"the agent at {self.address} refused our key", "it belongs to another cluster, or the token is old"
                )


def ask_who(context: Context, address: str, token: Token, limit_s: float = HANDSHAKE_S) -> Iam:
    """Who listens at this numeric address. UnauthorisedError, UnreachableError, UsageError (a foreign protocol)."""
    access = token.access()
    link = Link(context, join_address(address), access.join_client, access.join_server.public)
    try:
        link.send(Who(grant=token.grant))
        answer = link.receive(time.monotonic() + limit_s)
    finally:
        link.close()
    if isinstance(answer, Refused):
        raise UnauthorisedError(f"the agent at {address} refused our key: {answer.reason}", answer.hint)
    if not isinstance(answer, Iam):
        raise UnreachableError(f"the agent at {address} does not answer", "it may be starting or overloaded: try again")
    low, high = answer.protocol
    if high < PROTOCOL_MIN or low > PROTOCOL_MAX:
        raise UsageError(
            f"the agent at {address} (version {answer.version}) speaks protocol {low} to {high}, "
            f"this program {PROTOCOL_MIN} to {PROTOCOL_MAX}",
            "use the `jupiter` of the agent's version",
        )
    _check_member(answer, address, token)
    return answer


def _check_member(iam: Iam, address: str, token: Token) -> None:
    """Whoever holds a token can serve the door; only a member of the token's cluster has the issuer's word for the key
    that the session is opened with."""
    if not iam.admission:
        raise UnreachableError(f"the agent at {address} is not a member of its cluster yet", "try again in a moment")
    keys = ClusterKeys(token.fingerprint, b"", issuer=iam.cluster_key)
    record = Record(iam.id, iam.name, address, iam.sign_key, iam.curve_key, iam.role, 0, 0, admission=iam.admission)
    ours = fingerprint(iam.cluster_key) == token.fingerprint and node_id(iam.sign_key) == iam.id
    if not ours or not ClusterAuthority(keys).verify_admission(record):
        hint = "somebody stands between you and the cluster, or the token is of another one: ask who runs that host"
        raise UnauthorisedError(f"the agent at {address} does not prove to be a member of the cluster", hint)


def first_reachable(addresses: list[str]) -> list[str]:
    """The addresses from the first on where somebody listens. UnreachableError names all that were tried."""
    for at, address in enumerate(addresses):
        if first_open(address, REACH_S):
            return addresses[at:]
    raise UnreachableError(
        f"no agent answers at {', '.join(addresses) or 'no address'}", "is it running? `jupiter local status`"
    )


def open_link(context: Context, address: str, token: Token) -> Link:
    """A session with the agent at `address`, authenticated as operator.

    The two ports of a Service may lead to two agents: kube-proxy remembers for each port by itself where a caller went.
    Whoever does not hold the key of the one at the door ends our handshake at once; then that one is asked where it
    says it is. Not there first: from outside, through a forwarded port, that place only keeps one waiting.
    """
    where = first_open(address, REACH_S)
    if where is None:
        raise UnreachableError(f"no agent answers at {address}")
    iam, pair = ask_who(context, where, token), token.access().operator
    try:
        return _opened(context, where, pair, iam.curve_key)
    except (LostError, UnauthorisedError) as error:
        if numeric(iam.address) == where or not _is_address(iam.address):
            raise
        if (own := first_open(iam.address, REACH_S)) is None:
            hint = f"or several agents are behind it: the one that answered is at {iam.address}, out of reach from here"
            raise type(error)(error.message, f"{error.hint}; {hint}".lstrip("; ")) from None
        return _opened(context, own, pair, iam.curve_key)


def _opened(context: Context, where: str, pair: CurvePair, server_key: str) -> Link:
    """A session whose handshake is done. LostError, UnauthorisedError."""
    link = Link(context, where, pair, server_key)
    try:
        link.wait_open()
    except BaseException:
        link.close()
        raise
    return link


def _is_address(text: str) -> bool:
    """An agent that is older than the field says nothing of where it is."""
    try:
        return bool(parse_address(text))
    except UsageError:
        return False
