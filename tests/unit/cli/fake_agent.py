"""Stands in for `jupiter-agent run`: says where it listens, leaves a token, and waits to be told to stop."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

options = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
state_dir = Path(options["--state-dir"])
behaviour = os.environ.get("FAKE_AGENT", "").split()
if f"{options['--name']}-dies" in behaviour:
    sys.exit("error: port 7 is taken")
if "stubborn" in behaviour:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
(state_dir / "environment.json").write_text(json.dumps(dict(os.environ)))
(state_dir / "token").write_text("token of " + options["--name"])
if f"{options['--name']}-hides" not in behaviour:
    content = {"pid": os.getpid(), "name": options["--name"], "id": "ff", "address": options["--bind"]}
    (state_dir / "agent.new").write_text(json.dumps(content))
    (state_dir / "agent.new").rename(state_dir / "agent.json")
while True:
    signal.pause()
