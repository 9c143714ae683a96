"""What the processes of one runner share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jupiter_agent.adapters.answers import ObjectStore
from jupiter_agent.adapters.limits import Limits
from jupiter_agent.adapters.processes import Spawner
from jupiter_agent.adapters.requirements import Requirements
from jupiter_agent.adapters.watch import Watch
from jupiter_agent.core.events import Event


@dataclass(frozen=True)
class Surroundings:
    """See the module. `bundles`: digest -> folder of the unpacked app."""

    post: Callable[[Event], None]
    spawner: Spawner
    requirements: Requirements
    bundles: Callable[[bytes], Path]
    objects: ObjectStore
    limits: Limits
    watch: Watch
