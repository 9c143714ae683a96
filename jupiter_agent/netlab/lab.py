"""The lab: real processes with real sockets, each in a network namespace of its own, over an emulated network.

One C program carries every packet between the namespaces with the delay, jitter, rate, loss and queue of a directed
link matrix that can change at any moment. No kernel module, no netem; needs Linux, root, `ip`, `nsenter`, `setpriv`
and a C compiler. Everything in it ends with it, whatever becomes of the process that made it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupiter_agent.errors import JupiterError
from jupiter_agent.netlab import system
from jupiter_agent.netlab.links import Links
from jupiter_agent.netlab.topology import expanded

DEVICE = "net0"
START_S = 5.0
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
OFFLOAD_CSUM_TSO = 0x01 | 0x02 | 0x04


class Lab:
    """`with Lab(topology) as lab:`. Call `advance` now and then where nodes move. Use it from one thread."""

    def __init__(self, topology: dict[str, Any]) -> None:
        system.require()
        self._topology = topology
        nodes = expanded(topology)
        base = struct.unpack(">I", bytes(map(int, topology.get("subnet", "10.77.0.0").split("."))))[0]
        self._ip_base = base & 0xFFFF0000
        self._links = Links(topology, nodes, self._ip_base)
        self.names = self._links.names
        self._fds: list[int] = []
        self._emulator: subprocess.Popen[bytes] | None = None
        self._gso = False
        self._began = time.monotonic()

    # --- its life ---

    def start(self) -> Lab:
        """Make the namespaces and the network. What an earlier lab left behind is removed first."""
        program = system.build_emulator()
        system.allow_congestion_control(self._topology.get("tcp", "cubic"))
        system.remove(system.abandoned())
        names = [system.netns(name) for name in self.names]
        try:
            system.run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in names))
            self._fds += [self._make_device(name, system.netns(name)) for name in self.names]
            self._offload(first=True)
            shared = self._links.shared
            descriptors = [shared.fd, *self._fds]
            self._emulator = subprocess.Popen([str(program), *map(str, descriptors)], pass_fds=descriptors)
            deadline = time.monotonic() + START_S
            while not shared.ready:
                self.check()
                if time.monotonic() > deadline:
                    raise JupiterError("the network emulator does not start")
                time.sleep(0.002)
        except BaseException:
            self.close()
            raise
        self._began = time.monotonic()
        return self

    def close(self) -> None:
        """End every process in the lab and remove every trace of it."""
        mine = {system.netns(name) for name in self.names}
        system.remove([name for name in system.namespaces() if name in mine])
        if self._emulator is not None:
            self._emulator.kill()
            self._emulator.wait()
            self._emulator = None
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        self._links.shared.close()

    def check(self) -> None:
        """JupiterError when the emulator has died."""
        if self._emulator is not None and (status := self._emulator.poll()) is not None:
            raise JupiterError(f"the network emulator ended with {status}")

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def now(self) -> float:
        """Seconds since the network came up."""
        return time.monotonic() - self._began

    # --- the network ---

    def ip(self, node: str) -> str:
        number = self._ip_base + self._links.index[node] + 1
        return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))

    def set_link(self, a: str, b: str, *, both: bool = True, **link: Any) -> None:
        """Change some properties of a link; '*' stands for every node."""
        self._links.change(a, b, self.now(), both=both, **link)
        self._offload()

    def partition(self, *groups: Sequence[str]) -> None:
        """Cut every link between different groups; nodes that are not named form one more."""
        self._links.partition(groups, self.now())

    def isolate(self, *names: str) -> None:
        """Let every packet from and to these nodes vanish, besides what is cut already."""
        self._links.isolate(names, self.now())

    def heal(self) -> None:
        self._links.heal(self.now())

    def move(self, positions: dict[str, tuple[float, float]]) -> None:
        self._links.move(positions, self.now())
        self._offload()

    def advance(self) -> None:
        """Let the nodes walk on; JupiterError when the emulator has died."""
        self.check()
        self._links.advance(self.now())

    def stand_still(self) -> None:
        """Nobody walks on from here. Go on to call `advance`: routes follow cuts and their healing only there."""
        self._links.stand_still()

    def parts(self) -> list[set[str]]:
        """The connected parts of the network, as it is now."""
        return self._links.parts()

    def totals(self) -> dict[str, int]:
        """Since the start, over all links and hops, headers included: packets, bytes, lost, queue_drops."""
        return {name: sum(self._links.shared[name]) for name in ("packets", "bytes", "lost", "queue_drops")}

    def sent_bytes(self, node: str) -> int:
        """Bytes this node put on its links, headers and what it forwarded included."""
        n, i = len(self.names), self._links.index[node]
        return sum(self._links.shared["bytes"][i * n : (i + 1) * n])

    def lateness_us(self, share: float) -> int:
        """This share of packets was less late than that."""
        return self._links.shared.lateness_us(share)

    # --- processes ---

    def netns_path(self, node: str) -> Path:
        return system.NETNS / system.netns(node)

    def command(self, node: str, *command: str) -> list[str]:
        """What runs this command in a node's network. It ends when the thread that started it does."""
        return ["nsenter", f"--net={self.netns_path(node)}", "setpriv", "--pdeathsig", "KILL", "--", *command]

    def run(self, node: str, *command: str, timeout_s: float = 60.0) -> str:
        """Run a command in a node to its end; its output. JupiterError when it fails or takes too long."""
        try:
            done = subprocess.run(
                self.command(node, *command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                timeout=timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise JupiterError(f"{command[0]} in {node} takes more than {timeout_s:g} s") from error
        if done.returncode:
            raise JupiterError(f"{command[0]} in {node} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    # --- inside ---

    def _make_device(self, node: str, netns: str) -> int:
        """A TUN device in the node's namespace; its descriptor."""
        topology = self._topology
        with system.inside(system.NETNS / netns):
            fd = os.open(system.TUN, os.O_RDWR | os.O_NONBLOCK)
            try:
                fcntl.ioctl(
                    fd, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
                )  # fmt: skip
                knobs = {  # a new namespace inherits the host's values: pin what changes results
                    "tcp_congestion_control": topology.get("tcp", "cubic"),
                    "tcp_rmem": topology.get("tcp_rmem", "4096 131072 33554432"),
                    "tcp_wmem": topology.get("tcp_wmem", "4096 16384 16777216"),
                    "ping_group_range": "0 2147483647",
                }
                for knob, value in knobs.items():
                    Path(f"/proc/sys/net/ipv4/{knob}").write_text(str(value))
                for device in ("all", "default"):
                    with suppress(FileNotFoundError):
                        Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
                system.run(
                    "ip", "-batch", "-",
                    stdin=f"link set lo up\nlink set {DEVICE} mtu {int(topology.get('mtu', 1500))} txqueuelen 2000 up\n"
                    f"addr add {self.ip(node)}/16 brd + dev {DEVICE}\nroute add 224.0.0.0/4 dev {DEVICE}\n",
                )  # fmt: skip
            except BaseException:
                os.close(fd)
                raise
        return fd

    def _offload(self, first: bool = False) -> None:
        """Super-frames save work, but each is lost or late as one: only where nothing is lost."""
        mode = self._topology.get("gso", "auto")
        wanted = self._links.lossless() if mode == "auto" else bool(mode)
        if self._fds and (first or wanted != self._gso):
            for fd in self._fds:
                fcntl.ioctl(fd, TUNSETOFFLOAD, OFFLOAD_CSUM_TSO if wanted else 0)
            self._gso = wanted
