"""`jupiter bench fuzz [--seconds S]`: every decoder fed with hostile bytes, on all cores; lines reached, findings.

Inputs come from atheris where it is installed, else from the mutator of `bench/fuzzing.py`. A finding is whatever
is raised that the decoder does not say it raises; its input is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupiter_agent.bench import Figure
from jupiter_agent.bench.fuzz_targets import TARGETS
from jupiter_agent.bench.fuzzing import covered

SECONDS = 60.0
INPUTS, INPUTS_FROM_S = 200_000, 60.0
"""so many inputs at least, if it is run for so long"""
LINES_PERCENT = 95.0
SLOW_START_S = 60.0


def run(seconds: float | None = None, seed: int = 1) -> list[Figure]:
    """`seconds` for all targets together, on all cores."""
    total = SECONDS if seconds is None else seconds
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(cores) as pool:
        share = max(1.0, total * cores / len(TARGETS))
        reports = list(pool.map(lambda target: fuzzed(target, Path(name), share, seed), TARGETS))
        figures = [figure for report in reports for figure in _figures(report)]
    inputs = sum(report["inputs"] for report in reports)
    bound = INPUTS if total >= INPUTS_FROM_S else None
    return [*figures, Figure("inputs, all decoders", inputs, "inputs", bound, at_least=True)]


def fuzzed(target: str, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Run one target in a process of its own; its report, with the lines that its corpus reaches."""
    corpus = folder / target
    command = [sys.executable, "-m", "jupiter_agent.bench.fuzzing", target, str(corpus), str(seconds), str(seed)]
    limit = seconds * 3 + SLOW_START_S
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit, check=False)
    path = corpus.with_suffix(".json")
    report: dict[str, Any] = {"inputs": 0, "finding": "", "input": "", "engine": ""}
    if path.exists():
        report = json.loads(path.read_text())
    if done.returncode and not report["finding"]:
        report["finding"] = f"the process ended with {done.returncode}: {done.stderr[-400:]}"
    if report["finding"]:
        print(f"{target}: {report['finding']}\n  input: {report['input'][:2000]}", file=sys.stderr)
    modules, missed = covered(target, corpus)
    return {**report, "target": target, "modules": modules, "missed": missed}


def _figures(report: dict[str, Any]) -> list[Figure]:
    name = f"{report['target']} ({report['engine']}):"
    figures = [
        Figure(f"{name} findings", float(bool(report["finding"])), "findings", 0),
        Figure(f"{name} inputs", report["inputs"], "inputs"),
    ]
    for module, (reached, lines) in report["modules"].items():
        percent = 100.0 * reached / lines
        figures.append(Figure(f"{name} lines reached, {module}", percent, "%", LINES_PERCENT, at_least=True))
    if report["missed"]:
        print(f"{report['target']}: not reached: {' '.join(report['missed'])}", file=sys.stderr)
    return figures
