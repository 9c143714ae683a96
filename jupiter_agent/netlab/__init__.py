"""netlab: many nodes on one machine, over an emulated WAN or mobile ad-hoc network.

    with Lab(load("wan8")) as lab:
        lab.set_link("sfo", "ams", delay_ms=80, loss=0.01)
        print(lab.run("sfo", "ping", "-c1", lab.ip("ams")))

`topology` says what can be described, `lab` what can be done with it.
"""

from jupiter_agent.netlab.lab import Lab
from jupiter_agent.netlab.system import why_not
from jupiter_agent.netlab.topology import known, lan, load, trimmed

__all__ = ["Lab", "known", "lan", "load", "trimmed", "why_not"]
