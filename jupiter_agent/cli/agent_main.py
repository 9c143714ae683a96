"""`jupiter-agent`: the daemon's own command. Light on purpose: an idle agent pays for every import for good."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jupiter_agent import __version__, config
from jupiter_agent.cli.guard import guarded
from jupiter_agent.errors import UsageError

FLAGS = ("name", "bind", "advertise", "state_dir", "join", "profile", "http", "mdns", "beacon")
"""Settings that have a flag; the others are set in the file or the environment."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


def make_parser() -> argparse.ArgumentParser:
    """`run` and its flags, made from the settings' own descriptions."""
    parser = _Parser(prog="jupiter-agent", description="The agent of one node.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jupiter-agent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="run")
    run = commands.add_parser(
        "run", help="run the agent until SIGTERM", allow_abbrev=False,
        epilog="Settings: defaults < --config FILE (TOML) < JUPITER_* environment < flags; "
        "all of them: " + ", ".join(config.SETTINGS) + ".",
    )  # fmt: skip
    for name in FLAGS:
        about = config.SETTINGS[name].metadata
        action = "append" if name == "join" else "store"
        flag = "--" + name.replace("_", "-")
        run.add_argument(flag, dest=name, action=action, metavar=about["metavar"], help=about["help"])
    run.add_argument("--config", metavar="FILE", type=Path, help="a TOML file of settings")
    return parser


def run(argv: Sequence[str]) -> int:
    """Parse, merge the settings and run the agent; returns its exit code."""
    options = make_parser().parse_args(argv)
    settings = config.load({name: getattr(options, name) for name in FLAGS}, os.environ, options.config)
    from jupiter_agent.agent import run_agent

    return run_agent(settings) or 0


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    return guarded(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
