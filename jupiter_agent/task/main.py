"""Entry of a task process: `python -I -c BOOT <socket fd> <lifeline fd> <job> <task>` (see adapters/processes.py).

The first frame is the setup, a map:

    mode          serve, or profile
    agent_pid     to notice an agent that died before the death signal was asked for
    limits        {address_space, data, memory, file_size, nofile, nproc, cpus}: bytes or counts, None for no limit
    job, task, script, command, contract, children, params, extra, parallel        of the task (mode serve)
    environ       variables to be set
    held_s        see ledger.py
    namespaces    whether paths may be shown in a mount namespace
    sandbox       whether we are in one: paths are shown by links in `top`/view then
    tasks, sample, sample_name, budget_s                  of the app (mode profile)
    app_folder    of the unpacked bundle
    work, top     this process's private folder: HOME and TMPDIR are `home` in it, scratch folders `0`, `1`, ...
    out           where outputs larger than `inline_bytes` are left as `<run>.<n>`
"""

from __future__ import annotations

import os
import sys

from jupiter_agent.task import errors
from jupiter_agent.task.frames import Pipe
from jupiter_agent.task.harden import harden


def main() -> None:
    socket, lifeline = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(socket, False)
    pipe = Pipe(socket)
    setup = pipe.read()
    if setup is None:
        return
    harden(setup["agent_pid"], lifeline, setup["limits"])
    errors.limits.update(setup["limits"])
    os.environ.update(setup.get("environ", {}))
    for slot in range(setup["parallel"]):
        os.makedirs(os.path.join(setup["work"], str(slot)), exist_ok=True)
    os.chdir(os.path.join(setup["work"], "0") if setup["parallel"] == 1 else setup["work"])
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if setup["mode"] == "profile":
        from jupiter_agent.task.profile import profile as work
    else:
        from jupiter_agent.task.serve import serve as work
    sys.dont_write_bytecode = True  # from here on, imports are the app's: its folder stays as it was unpacked
    work(pipe, setup)


if __name__ == "__main__":
    main()
