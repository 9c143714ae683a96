"""Ideal multi-hop routing: next hops of least expected transmission time."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Sequence

NO_ROUTE = 0xFFFFFFFF
UNLIMITED_KBPS = 10**7
LOST = 1_000_000
"""parts per million"""


def shortest_routes(n: int, up: Sequence[int], rate_kbps: Sequence[int], loss_ppm: Sequence[int]) -> array[int]:
    """`next_hop[i * n + dst]`; link i -> j is element i * n + j, its cost 1 / (rate * (1 - loss)). O(n * links)."""
    edges_to: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for i in range(n):
        for j in range(n):
            k = i * n + j
            if up[k] and i != j and loss_ppm[k] < LOST:
                edges_to[j].append((i, 1e9 / ((rate_kbps[k] or UNLIMITED_KBPS) * (LOST - loss_ppm[k]))))
    routes = array("I", [NO_ROUTE]) * (n * n)
    for dst in range(n):
        best = [math.inf] * n
        best[dst] = 0.0
        queue = [(0.0, dst)]
        while queue:
            cost, j = heapq.heappop(queue)
            if cost > best[j]:
                continue
            for i, more in edges_to[j]:
                if cost + more < best[i]:
                    best[i] = cost + more
                    routes[i * n + dst] = j
                    heapq.heappush(queue, (cost + more, i))
    return routes


def components(nodes: Sequence[int], n: int, up: Sequence[int]) -> list[set[int]]:
    """The connected parts of the graph of links that are up both ways."""
    left, parts = set(nodes), []
    while left:
        part, edge = set(), {left.pop()}
        while edge:
            i = edge.pop()
            part.add(i)
            near = {j for j in left if up[i * n + j] and up[j * n + i]}
            left -= near
            edge |= near
        parts.append(part)
    return parts
