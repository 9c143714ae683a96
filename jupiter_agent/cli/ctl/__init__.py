"""`jupiter ctl`: ask any agent of a cluster, and tell it what to do (DESIGN 10)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jupiter_agent.cli.ctl import doctor, files, following, jobs, planning, reading, session, stats, steering, tokens
from jupiter_agent.cli.groups import Group, Verb
from jupiter_agent.cli.output import Format, Output, refuse_exports
from jupiter_agent.cli.reach import Where

_SHARED = ("--peer", "--dir", "--token-file", "--context", "--namespace", "--output", "-o")


def hoist(args: list[str]) -> tuple[list[str], list[str]]:
    """The options every verb shares, and the rest: `ctl` reads them in front, so `get jobs -o json` works."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _SHARED:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        elif word.partition("=")[0] in _SHARED[:-1] or (word[:2] == "-o" and word[2:] in tuple(Format)):
            front.append(word)
        else:
            rest.append(word)
    return front, rest


def rejoined(args: list[str]) -> list[str]:
    """Words as they were typed: bash takes `--peer=10.0.0.5:7421` apart at its = and : before it asks us."""
    words: list[str] = []
    for word in args:
        if words and (word in (":", "=") or words[-1].endswith((":", "="))):
            words[-1] += word
        else:
            words.append(word)
    return words


class _Ctl(Group):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        front, rest = hoist(rejoined(args) if ctx.resilient_parsing else args)
        if ctx.resilient_parsing and front and front[-1] in _SHARED:
            rest = []  # the shell asks for this option's value, so the words before are not looked into
        return super().parse_args(ctx, front + rest)


app = typer.Typer(
    cls=_Ctl,
    rich_markup_mode=None,
    help="Ask any agent of a cluster and tell it what to do.",
    epilog="These options may also follow the verb. Exit codes: 0 ok, 1 the job failed, 2 usage, 3 not placeable, "
    "4 no peer reachable, 5 not authorised, 6 timeout, 130 interrupted.",
)


@app.callback()
def ctl(
    ctx: typer.Context,
    peer: Annotated[list[str] | None, typer.Option(metavar="HOST:PORT", help="Whom to ask; tried in order.")] = None,
    folder: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Folder of a local cluster.")] = None,
    token_file: Annotated[Path | None, typer.Option(metavar="F", help="File that holds the cluster's token.")] = None,
    context: Annotated[str, typer.Option(metavar="C", help="Of the kubeconfig: agents in that cluster.")] = "",
    namespace: Annotated[str, typer.Option(metavar="N", help="Of a Kubernetes cluster (default jupiter).")] = "",
    output: Annotated[
        Format, typer.Option("--output", "-o", help="What stdout shows; csv and trace: `stats`.")
    ] = Format.TABLE,
) -> None:
    if ctx.invoked_subcommand != "stats":
        refuse_exports(output, f"ctl {ctx.invoked_subcommand}")
    where = Where(tuple(peer or ()), folder, token_file, context=context, namespace=namespace)
    ctx.obj = session.make_session(where, Output(output))
    ctx.call_on_close(ctx.obj.close)


for module in (jobs, files, reading, stats, following, steering, planning, tokens, doctor):
    for name, verb in module.VERBS.items():
        app.command(name, cls=Verb)(verb)
