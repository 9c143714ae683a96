"""The block of memory that the lab writes and the emulator reads (and the other way round for its counters).

The order of everything here is that of `emulator.c`: a header, counters per directed link (u64), properties per link
(u32), properties per node (u32). Link i -> j is element i * n + j.
"""

from __future__ import annotations

import mmap
import os
import struct

HEADER = struct.Struct("8I32Q2Q")
"""nodes, ip_base, multicast, shared_radio, node_queue_us, seed, ready, spare; a histogram of lateness; 2 counters"""
READY_OFFSET = 6 * 4
COUNTERS = ("packets", "bytes", "lost", "queue_drops")
PER_LINK = ("delay_us", "jitter_us", "rate_kbps", "loss_ppm", "queue_us", "up", "next_hop")
PER_NODE = ("tx_kbps", "rx_kbps")
LAG_BUCKETS = 32


class Shared:
    """`Shared(n, ...)["delay_us"][i * n + j] = ...`; a change acts on the next packet."""

    def __init__(self, n: int, ip_base: int, *, multicast: bool, shared_radio: bool, node_queue_us: int, seed: int):
        links = n * n
        size = HEADER.size + links * (8 * len(COUNTERS) + 4 * len(PER_LINK)) + n * 4 * len(PER_NODE)
        self.fd = os.memfd_create("netlab")
        os.ftruncate(self.fd, size)
        view = memoryview(mmap.mmap(self.fd, size))
        self._header = view[: HEADER.size]
        self._arrays: dict[str, memoryview] = {}
        offset = HEADER.size
        for names, length, width, code in ((COUNTERS, links, 8, "Q"), (PER_LINK, links, 4, "I"), (PER_NODE, n, 4, "I")):
            for name in names:
                self._arrays[name] = view[offset : offset + width * length].cast(code)  # type: ignore[call-overload]
                offset += width * length
        fields = (n, ip_base, int(multicast), int(shared_radio), node_queue_us, seed, 0, 0)
        HEADER.pack_into(self._header, 0, *fields, *([0] * (LAG_BUCKETS + 2)))

    def __getitem__(self, name: str) -> memoryview:
        return self._arrays[name]

    @property
    def ready(self) -> bool:
        """The emulator runs."""
        return bool(struct.unpack_from("I", self._header, READY_OFFSET)[0])

    def lateness_us(self, share: float) -> int:
        """This share of packets was handled less late than that (a power of two)."""
        buckets = HEADER.unpack_from(self._header, 0)[8 : 8 + LAG_BUCKETS]
        total, seen = sum(buckets), 0
        for power, count in enumerate(buckets):
            seen += count
            if count and seen >= share * total:
                return 1 << power
        return 0

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
