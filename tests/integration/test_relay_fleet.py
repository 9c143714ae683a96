"""Three real agents in a line: the ends never have a path to each other, and run a job together all the same.

Needs root and a C compiler.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from jupiter_agent.bench.ground import InLab
from jupiter_agent.bench.rig import Fleet
from jupiter_agent.netlab import Lab, lan, why_not

JUPITER = str(Path(sys.executable).with_name("jupiter"))
APP = {
    "application": {
        "tasks": {
            "dag_tasks": [
                {"name": "far", "base_script": "turn.py", "node": "node3", "children": ["near"]},
                {"name": "near", "base_script": "turn.py", "node": "node1", "children": ["home"]},
            ]
        }
    }
}
TURN = "def process(inputs, ctx):\n    return next(iter(inputs.values()))[::-1]\n"
LARGE = random.Random(1).randbytes(200_000)
"""more than fits into a message: it is fetched as an object"""


@pytest.mark.skipif(bool(why_not()), reason=f"RELAYS NOT TESTED: {why_not()}")
def test_what_is_reached_through_a_neighbour_only_is_used_through_it() -> None:
    ground = InLab(Lab({**lan(3), "links": [{"a": "node1", "b": "node3", "up": False}]}))
    with ground, Fleet(ground) as fleet:
        lab = ground.lab
        assert lab is not None
        fleet.start(["node2", "node1", "node3"])
        assert fleet.wait(lambda: fleet.seen.all_see_all(fleet.running) is not None, 30.0), "alive is one fact"
        app, given = fleet.folder / "app", fleet.folder / "given"
        app.mkdir()
        given.write_bytes(LARGE)
        (app / "app_config.yaml").write_text(json.dumps(APP))
        (app / "turn.py").write_text(TURN)

        def ctl(*words: str) -> str:
            key = ("--peer", ground.address("node1"), "--token-file", str(fleet.folder / "token"))
            return lab.run("node1", JUPITER, "ctl", *key, *words, timeout_s=60.0)

        assert fleet.wait(lambda: "node3" in _not_reachable(ctl("get", "nodes", "-o", "json")), 15.0), "another fact"
        began = fleet.seen_now()
        job = json.loads(ctl("submit", str(app), "--input", str(given), "--ep", "off", "--wait", "-o", "json"))
        assert (job["state"], job["mapping"]) == ("completed", {"far": "node3", "near": "node1"})
        ctl("results", job["id"], "--out", str(fleet.folder / "out"))
        [result] = [path for path in (fleet.folder / "out").rglob("*") if path.is_file()]
        assert result.read_bytes() == LARGE
        assert fleet.seen.dead_since(began, fleet.running) == []


def _not_reachable(listing: str) -> set[str]:
    return {row["name"] for row in json.loads(listing)["items"] if row["state"] == "alive" and not row["reachable"]}
