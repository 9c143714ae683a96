"""The numbers of membership. The defaults are the `lan` profile, simulated and measured for 1 to 106 agents."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MembershipSettings:
    """All times in seconds."""

    rings: int = 4
    many: int = 500
    """above so many members there is one ring more"""
    random_links: int = 1
    random_link_s: float = 60.0
    near_links: int = 0
    """so many of those whose beacons are heard are neighbours, where there are; then one ring is enough"""
    topology_s: float = 0.2
    """the overlay is computed anew at most this often"""
    unwanted_s: float = 10.0
    """a link that neither end wants is kept this long"""

    wanted_s: float = 12.0
    """so long after a ping that says so the other end wants a link"""

    tick_s: float = 0.2
    rest_s: float = 1.0
    """a tick comes at least so often, also while nothing is the matter"""
    probe_s: float = 1.25
    early: float = 0.25
    """of a period: when one ping is due those of other links that soon will be leave with it. What costs a node that
    idles is how often it, and everybody it has to do with, must wake up."""
    ack_timeout_s: float = 0.5
    misses: tuple[int, int] = (3, 8)
    silent_s: float = 2.5
    """without a session: silence after which a member is checked; with one: how old a round trip still proves life"""
    stalled_s: float = 3.0
    check_s: float = 0.7
    """how long the neighbours asked about a silent member may take"""
    ask_s: float = 1.2
    """how long a member asked for a sign of life may take"""
    bad_edge_s: tuple[float, float] = (30.0, 300.0)
    """probation of a link that fails while others reach the member: first, and at most"""

    shut_s: tuple[float, float] = (10.0, 300.0)
    """when a member that cannot be reached from here is tried again: first, and at most"""
    quiet_s: float = 60.0
    """without news of a member for so long, those who never met it accuse it too"""
    met_s: float = 60.0
    """silence of a member means something to those who heard it themselves this lately"""
    near_s: float = 30.0
    """how often the links that routes are made of are published, while they are needed"""
    relay_bps: float = float(1 << 20)
    """what is passed on for one member, bytes per second"""

    suspicion_min_s: float = 3.0
    suspicion_log_s: float = 4.0
    last_checks: int = 0
    """so many pings of one's own before a suspicion expires; where messages get lost a refutation may have, too"""
    evidence_s: float = 0.5
    """owner-written data this much newer than a suspicion drops it"""
    hold_s: float = 1.5
    recheck_s: float = 1.0
    witness_s: float = 60.0
    vouched_s: float = 5.0
    contest_s: float = 3.0
    """a death read in a digest waits this long, then for a sign of life"""

    lag_s: float = 0.15
    """a tick so late counts once a second against our own health: we are starved, others are not slow"""
    pause_s: float = 0.5
    grace_s: float = 1.5

    coalesce_s: float = 0.02
    crowded_s: float = 1.0
    """after a record, those of the next second are gathered for longer, and the overlay follows only this often: a
    cluster is starting, or healing"""
    gather_s: float = 0.3
    pull_s: float = 1.0
    audit_s: float = 10.0
    heal_s: float = 3.0
    key_bps: float = 2000.0
    """bytes per second that the paced versions of one key of all members may cost each of them"""
    digest_lines: int = 100
    range_ids: int = 128
    answer_items: int = 24
    tombstones: int = 512

    eager_s: float = 10.0
    seed_s: tuple[float, float] = (1.0, 9.0)
    """how often a seed that is not alive here is tried: in the first `eager_s`, and later"""
    guest_s: float = 60.0
    """an admitted joiner that never shows up is forgotten"""

    def suspicion_s(self, members: int, accusers: int) -> float:
        """Lifeguard: from 6 x min with one accuser down to min with as many confirmations as the cluster can give."""
        shortest = max(self.suspicion_min_s, self.suspicion_log_s * math.log10(max(2, members)))
        enough = 2 if members > 5 else 1 if members > 3 else 0
        confirmations = max(0, accusers - 1)
        if confirmations >= enough:
            return shortest
        return shortest * (6 - 5 * math.log(confirmations + 1) / math.log(enough + 1))


PROFILES = {
    "lan": MembershipSettings(),
    "wan": MembershipSettings(
        probe_s=2.5,
        ack_timeout_s=1.5,
        silent_s=5.0,
        stalled_s=5.0,
        check_s=1.5,
        ask_s=2.5,
        suspicion_min_s=5.0,
        suspicion_log_s=5.0,
        last_checks=1,
        wanted_s=24.0,
        key_bps=1500.0,
        audit_s=20.0,
        relay_bps=float(1 << 18),
    ),
    "manet": MembershipSettings(
        rings=2,
        random_link_s=600.0,
        near_links=2,
        probe_s=8.0,
        early=0.0,
        ack_timeout_s=2.5,
        misses=(4, 8),
        silent_s=20.0,
        stalled_s=20.0,
        check_s=3.0,
        ask_s=4.0,
        bad_edge_s=(60.0, 600.0),
        suspicion_min_s=10.0,
        suspicion_log_s=6.0,
        last_checks=3,
        wanted_s=60.0,
        hold_s=3.0,
        contest_s=6.0,
        shut_s=(15.0, 300.0),
        quiet_s=240.0,
        met_s=240.0,
        near_s=15.0,
        relay_bps=float(1 << 14),
        key_bps=100.0,
        pull_s=5.0,
        audit_s=60.0,
        heal_s=10.0,
        digest_lines=40,
        answer_items=8,
        seed_s=(2.0, 15.0),
    ),
}
"""`lan`: switches, loss below a few percent. `wan`: 50 to 500 ms. `manet`: radios, 30 % loss, 16 kbit/s per node at 20
nodes; deaths are found later."""
