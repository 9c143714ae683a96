"""A process that has imported the agent, and forks one for each order: a hundred start in seconds, sharing pages.

Orders come as JSON lines on stdin, pids go back on stdout, the end of stdin ends it. Every agent ends with it, and it
with whoever started it, whatever happens. It keeps no threads and no ZeroMQ context, which would not survive a fork.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import traceback

import zmq  # noqa: F401  # imported once for all

from jupiter_agent.bench import traced
from jupiter_agent.netlab.system import enter


def _become(order: traced.Order) -> None:
    """In the child, for good: an agent with its own session, log and network."""
    traced.end_with_parent()
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.makedirs(order.folder, mode=0o700, exist_ok=True)
    log = os.open(os.path.join(order.folder, "agent.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.closerange(3, 64)
    os.chdir(order.folder)
    if order.netns:
        enter(order.netns)
    traced.main(order)


def main() -> None:
    traced.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the bench, which ends us
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody is waited for
    gc.collect()
    gc.freeze()  # the collector of a child must not touch, and so copy, what is shared
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(SystemExit):
                try:
                    _become(traced.Order(**json.loads(line)))
                    code = 0
                except Exception:  # noqa: BLE001  # the child's end: into its log
                    traceback.print_exc()
            os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
