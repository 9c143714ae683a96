"""Messages about execution profiles: what a node learned of its own runs, and sample runs (DESIGN.md, section 5)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from jupiter_agent.core.messages import Count, Message, Size
from jupiter_agent.core.messages.jobs import Obj

Coefficient = Annotated[float, Meta(ge=0, le=1e9)]
"""seconds, seconds per byte, seconds per byte squared"""
Factor = Annotated[float, Meta(ge=1e-3, le=1e3)]
MAX_TASKS = 10_000
MAX_EDGES = 1_000
ERROR_CHARACTERS = 500

Curve = tuple[Coefficient, Coefficient, Coefficient]
"""p, q, r of p + q x + r x^2"""


class TaskProfile(Struct, frozen=True, array_like=True):
    """What one task takes on the node that says so: idle(x) + work(x) for x bytes in, at no load."""

    task: str
    idle: Curve
    work: Curve
    low: Factor
    high: Factor
    """80 % of runs lie between so many times the estimate"""
    samples: Annotated[int, Meta(ge=1, lt=1 << 53)]
    size: Size
    """mean bytes in"""
    speed: Factor
    """index of that node"""
    sampled: bool = False
    """of sample runs, not of items"""
    edge_bytes: Annotated[dict[str, Count], Meta(max_length=MAX_EDGES)] = {}
    """child -> mean bytes per run"""


class ProfilesWanted(Message, frozen=True, tag=75):
    """What do you know of the runs of this bundle's tasks on your node? Answered by `Profiles`."""

    seq: Count
    bundle: bytes


class Profiles(Message, frozen=True, tag=76):
    """What the sender's own runs of a bundle's tasks came to: as an answer, or to the home of a job (seq 0)."""

    seq: Count
    bundle: bytes
    profiles: Annotated[list[TaskProfile], Meta(max_length=MAX_TASKS)]


class SampleWanted(Message, frozen=True, tag=77):
    """From a job's home: run the whole DAG of this bundle on a sample in so much time. Answered by `SampleDone`."""

    job: str
    bundle: bytes
    bundle_size: Size
    sample: Obj | None
    """None: the app's own first one"""
    budget_s: Annotated[float, Meta(gt=0, le=86400)]
    task_s: Annotated[float, Meta(gt=0, le=86400)]
    """for one task"""


class SampleDone(Message, frozen=True, tag=78):
    """How the sample run went here; with it what it showed; `home` is a task that gives the samples."""

    job: str
    makespan_s: Annotated[float, Meta(ge=0, le=1e9)]
    errors: Annotated[dict[str, str], Meta(max_length=MAX_TASKS)] = {}
    """task -> why there is no profile of it; '' for the run as a whole"""
    profiles: Annotated[list[TaskProfile], Meta(max_length=MAX_TASKS)] = []
