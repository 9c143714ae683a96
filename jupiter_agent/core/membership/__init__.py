"""Membership and gossip: who is in the cluster, who of them is alive, and what each publishes about itself."""

from jupiter_agent.core.membership.effects import Delivered, Joined, MemberChanged, ProfileChanged, Recorded, Rekeyed
from jupiter_agent.core.membership.machine import Membership
from jupiter_agent.core.membership.member import Member
from jupiter_agent.core.membership.settings import PROFILES, MembershipSettings

__all__ = [
    "PROFILES",
    "Delivered",
    "Joined",
    "Member",
    "MemberChanged",
    "Membership",
    "MembershipSettings",
    "ProfileChanged",
    "Recorded",
    "Rekeyed",
]
