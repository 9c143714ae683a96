"""Virtual environments of the bench alone, for what it compares with and the product must not depend on.

One folder per name in the user's cache folder, made on demand and used again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def interpreter(name: str, modules: str, installs: Sequence[Sequence[str]]) -> Path | None:
    """The python of the environment `name`; None, said aloud, where it cannot be had.

    `modules`: what must be importable there, as after `import`. `installs`: arguments of `pip install`, one list a run.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))
    folder = cache / "jupiter-bench" / name
    python = folder / "bin" / "python"
    probe = [str(python), "-c", f"import {modules}"]
    if python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return python
    pip = [str(python), "-m", "pip", "install", "-q"]
    for command in ([sys.executable, "-m", "venv", str(folder)], *([*pip, *each] for each in installs), probe):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"{name} CANNOT BE INSTALLED, its figures are lacking: {done.stderr.strip().splitlines()[-1:]}")
            return None
    return python


def environment() -> dict[str, str]:
    """This process's environment without what would lead another Python to our modules."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def say(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)
