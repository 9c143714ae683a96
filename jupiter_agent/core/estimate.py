"""What this node believes of its own links: round trips and finished transfers in, one estimate out (DESIGN.md 5).

Latency is half the smoothed round trip of the probes, bandwidth the age-weighted mean of real transfers. What was
never measured is estimated from what was, and says so.
"""

from __future__ import annotations

from statistics import median

from jupiter_agent.core.surroundings import LinkEstimate

WEIGHT = 0.3
"""Weight of the newest transfer"""
PRIOR_LATENCY_S = 0.001
PRIOR_BANDWIDTH_BPS = 12.5e6
"""100 Mbit/s, before anything was measured"""
SELF = LinkEstimate(0.0, 1e12, 1, "measured")


class Links:
    """The directed links from one node to its peers."""

    def __init__(self) -> None:
        self._rtt_s: dict[str, float] = {}
        self._bandwidth: dict[str, tuple[float, int]] = {}
        self._measured_at: dict[str, float] = {}

    def on_rtt(self, peer: str, rtt_s: float, now: float) -> None:
        """The present smoothed round trip time to a peer, as membership measures it."""
        if rtt_s > 0:
            self._rtt_s[peer] = rtt_s
            self._measured_at[peer] = now

    def on_transfer(self, peer: str, size: int, seconds: float, now: float) -> None:
        """`size` bytes came from this peer in `seconds`, latency included."""
        bandwidth = size / max(seconds, 1e-6)
        mean, count = self._bandwidth.get(peer, (bandwidth, 0))
        self._bandwidth[peer] = (mean + WEIGHT * (bandwidth - mean), count + 1)
        self._measured_at[peer] = now

    def estimate(self, peer: str) -> LinkEstimate:
        rtt, transfer = self._rtt_s.get(peer), self._bandwidth.get(peer)
        latency = rtt if rtt is not None else median(self._rtt_s.values()) if self._rtt_s else 2 * PRIOR_LATENCY_S
        bandwidths = [mean for mean, _ in self._bandwidth.values()]
        bandwidth = transfer[0] if transfer else median(bandwidths) if bandwidths else PRIOR_BANDWIDTH_BPS
        samples = (transfer[1] if transfer else 0) + (rtt is not None)
        source = "transfer" if transfer else "measured" if rtt is not None else "estimated"
        return LinkEstimate(latency / 2, bandwidth, samples, source)

    def measured(self) -> dict[str, tuple[float, float, int]]:
        """Peer -> (latency s, bandwidth bytes/s or 0 when never measured, samples), as `Links` carries it."""
        rows = {}
        for peer in {*self._rtt_s, *self._bandwidth}:
            bandwidth, count = self._bandwidth.get(peer, (0.0, 0))
            rows[peer] = (self._rtt_s.get(peer, 2 * PRIOR_LATENCY_S) / 2, bandwidth, count + (peer in self._rtt_s))
        return rows

    def age_s(self, peer: str, now: float) -> float | None:
        at = self._measured_at.get(peer)
        return None if at is None else max(0.0, now - at)
