"""The demo: a local cluster, the example app, every result compared with one computed without the cluster."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "app_specific_files" / "example"
JUPITER = [str(Path(sys.executable).with_name("jupiter"))]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def jupiter(*args: str, check: bool = True, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a `jupiter` command; its stdout is data, its stderr is shown: of a quiet one only when it fails."""
    done = subprocess.run(
        [*JUPITER, *args], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE if quiet else None
    )
    if quiet and done.returncode:
        say(done.stderr.rstrip())
    if check:
        done.check_returncode()
    return done


def reference() -> ModuleType:
    """The app's own single-process evaluation."""
    spec = importlib.util.spec_from_file_location("reference", APP / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


def read_results(folder: Path) -> dict[str, dict[str, dict[str, bytes]]]:
    """item -> sink task -> file name -> bytes, as `--results` wrote them."""
    return {
        item.name: {
            sink.name: {f.name: f.read_bytes() for f in sorted(sink.iterdir())} for sink in sorted(item.iterdir())
        }
        for item in sorted(folder.iterdir())
    }


def run(cluster: str, nodes: int, work: Path) -> dict[str, Any]:
    """One job over the cluster; the report."""
    began = time.monotonic()
    # Quiet: it recommends commands for a cluster that is gone in a moment.
    jupiter("local", "up", "--nodes", str(nodes), "--dir", cluster, quiet=True)
    say(f"{nodes} agents see each other after {time.monotonic() - began:.1f} s")
    results = work / "results"
    ctl = ("ctl", "--dir", cluster, "-o", "json")
    submit = (*ctl, "submit", str(APP), "--samples", "--wait", "--results", str(results))
    job = json.loads(jupiter(*submit).stdout)
    say(f"{job['items_done']} of {job['items_in']} items in {job['makespan_s']:.1f} s; comparing")
    samples = sorted((APP / "samples").iterdir())
    expected = reference().expected(APP, samples)
    got = read_results(results)
    more = sum(len(sinks) > 1 for sinks in got.values())
    files = sum(len(names) for sinks in got.values() for names in sinks.values())
    say(f"{files} results of {len(got)} items: each has a report, {more} have evidence, too: the traffic of an alert")
    compared = [item for item in got if got[item] == expected.get(item)]
    stats = json.loads(jupiter(*ctl, "describe", "job", job["id"]).stdout)
    return {
        "nodes": nodes,
        "items": len(samples),
        "results": len(compared),
        "verified": got == expected and len(compared) == len(samples) == job["items_done"],
        "mapper": job["mapper"],
        "hosts": len(set(job["mapping"].values())),
        "moved_bytes": stats["moved_bytes"],
        "mapping_s": round(job["mapping_s"], 3),
        "makespan_s": round(job["makespan_s"], 3),
        "total_s": round(time.monotonic() - began, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5, help="how many agents (default 5)")
    nodes = parser.parse_args().nodes
    if nodes < 1:
        parser.error("--nodes must be at least 1")
    work = Path(tempfile.mkdtemp(prefix="jupiter-demo-"))
    os.environ.pop("JUPITER_DIR", None)
    os.environ.pop("JUPITER_PEER", None)
    cluster = str(work / "cluster")
    try:
        report = run(cluster, nodes, work)
    except subprocess.CalledProcessError as error:
        say(f"error: `{' '.join(error.cmd)}` ended with {error.returncode}")
        return 1
    finally:
        jupiter("local", "down", "--dir", cluster, check=False)
        say(f"deleting {work}")
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps(report))
    return 0 if report["verified"] else 1


if __name__ == "__main__":
    sys.exit(main())
