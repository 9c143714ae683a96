"""`jupiter bench predict`: how well execution times are predicted, beside the original's estimators on the same runs.

The runs are real ones: a data set is recorded on this machine (predict_data.py, some minutes), or read with `--data`.
Each run is predicted from those before it, in the order in which they ended. The original took a single run of each
task, without load, for all sizes and times; and for transfers a polynomial of degree 2 through the last ten samples,
which is tried on runs here. Errors are |predicted - taken| / taken.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from jupiter_agent.bench import Figure
from jupiter_agent.bench.predict_data import cores, record
from jupiter_agent.core.profiling.crowding import Crowding
from jupiter_agent.core.profiling.exec_fit import LEAST_S, Sample
from jupiter_agent.core.profiling.exec_model import TaskModel

LAST = 10
DEGREE = 2
WARM_UP = 10
"""runs of a task before its intervals are judged"""
BETTER = 2.0
HELD = (0.75, 0.85)


class Predicted(Struct):
    """What the estimators said of one run before it was known."""

    task: str
    seconds: float
    ours: float
    held: bool | None
    """inside our interval; None: too early to judge"""
    one_run: float
    polynomial: float


def run(data: str = "", record_to: str = "", items: int = 200) -> list[Figure]:
    """Replay the runs of `data`, or of a new recording of so many items, kept in `record_to`."""
    rows = json.loads(Path(data).read_text()) if data else record(items)
    if record_to:
        Path(record_to).write_text(json.dumps(rows))
    predicted = replay(rows)
    _print_tasks(predicted)
    return figures(predicted)


def replay(rows: list[dict[str, Any]]) -> list[Predicted]:
    """All runs but the first of each task."""
    crowding = Crowding(float(cores()))
    models: dict[str, TaskModel] = {}
    past: dict[str, list[tuple[float, float]]] = {}
    found = []
    for row in rows:
        at = datetime.fromisoformat(row["finish"]).timestamp()
        run = Sample(row["bytes_in"], row["seconds"], row["cpu_s"], row["load"], at)
        seconds = max(run.seconds, LEAST_S)
        model, before = models.setdefault(row["task"], TaskModel(crowding)), past.setdefault(row["task"], [])
        if before:
            guess = model.predict(run.size, run.load, at)
            held = guess.low <= seconds <= guess.high if model.count >= WARM_UP else None
            found.append(
                Predicted(row["task"], seconds, guess.seconds, held, before[0][1], _polynomial(before, run.size))
            )
        model.learn(run, at)
        before.append((run.size, seconds))
    return found


def _polynomial(before: list[tuple[float, float]], size: float) -> float:
    """As numpy's polyfit has it, unconstrained; of a lower degree through fewer samples."""
    import warnings

    import numpy as np

    sizes, seconds = zip(*before[-LAST:], strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of poor conditioning
        fitted = np.polyfit(sizes, seconds, min(DEGREE, len(sizes) - 1))
    return float(np.polyval(fitted, size))


def figures(predicted: list[Predicted]) -> list[Figure]:
    """The table."""
    errors = {name: [_error(p, name) for p in predicted] for name in ("ours", "one_run", "polynomial")}
    ours = _quantile(errors["ours"], 0.5)
    judged = [p.held for p in predicted if p.held is not None]
    held = sum(judged) / len(judged) if judged else 0.0
    rows = [
        Figure("runs predicted", len(predicted), ""),
        Figure("relative error, median", ours, ""),
        Figure("relative error, p90", _quantile(errors["ours"], 0.9), ""),
    ]
    for name, what in (("one_run", "one run, no load"), ("polynomial", f"degree {DEGREE} through the last {LAST}")):
        median = _quantile(errors[name], 0.5)
        rows += [
            Figure(f"the original, {what}: relative error, median", median, ""),
            Figure(f"the original, {what}: relative error, p90", _quantile(errors[name], 0.9), ""),
            Figure(f"the original, {what}: its median beside ours", median / ours, "x", BETTER, at_least=True),
        ]
    return [
        *rows,
        Figure("predictions that are negative", sum(p.ours < 0 for p in predicted), "", 0),
        Figure("the original, polynomial: predictions that are negative", sum(p.polynomial < 0 for p in predicted), ""),
        Figure("runs inside their interval of 80 %", 100 * held, "%", 100 * HELD[0], at_least=True),
        Figure("runs inside their interval of 80 %, at most", 100 * held, "%", 100 * HELD[1]),
    ]


def _error(p: Predicted, name: str) -> float:
    return float(abs(getattr(p, name) - p.seconds) / p.seconds)


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[int(share * (len(ordered) - 1))] if ordered else float("nan")


def _print_tasks(predicted: list[Predicted]) -> None:
    for task in dict.fromkeys(p.task for p in predicted):
        mine = [p for p in predicted if p.task == task]
        medians = (_quantile([_error(p, name) for p in mine], 0.5) for name in ("ours", "one_run", "polynomial"))
        ours, one, polynomial = (f"{value:.3f}" for value in medians)
        print(f"   {task}: ours {ours}, one run {one}, polynomial {polynomial}", file=sys.stderr, flush=True)
