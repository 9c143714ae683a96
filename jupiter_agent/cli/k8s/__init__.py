"""`jupiter k8s`: an agent on every node of a Kubernetes cluster, and off it again (DESIGN.md 103)."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jupiter_agent.cli.groups import Group
from jupiter_agent.cli.guard import say
from jupiter_agent.cli.output import Format, Output, refuse_exports
from jupiter_agent.config import did_you_mean
from jupiter_agent.errors import EXIT_OK, EXIT_TIMEOUT, JupiterError, UnauthorisedError, UnreachableError, UsageError
from jupiter_agent.k8s.manifests import NAMESPACE, OVERLAYS, TOKEN_KEY

if TYPE_CHECKING:
    from jupiter_agent.cli.k8s.access import Access
    from jupiter_agent.cli.k8s.objects import Objects

app = typer.Typer(cls=Group, rich_markup_mode=None, help="Agents on the nodes of a Kubernetes cluster.")

PULL = ("Always", "IfNotPresent", "Never")

Context = Annotated[str, typer.Option("--context", metavar="C", help="Of the kubeconfig (default: its current one).")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="N", help=f"Where the agents are (default {NAMESPACE}).")
]
App = Annotated[
    Path | None, typer.Option("--app", metavar="DIR", help="Take namespace_prefix from this app's app_config.yaml.")
]
Form = Annotated[Format, typer.Option("--output", "-o", help="What stdout shows.")]


def place(namespace: str | None, folder: Path | None) -> str:
    """The namespace that is meant. UsageError for an app that cannot be read."""
    if namespace:
        return namespace
    if folder is None:
        return NAMESPACE
    from jupiter_agent.adapters.bundle import check_folder

    if not folder.is_dir():
        raise UsageError(f"--app {folder}: no such folder", "the folder with app_config.yaml")
    prefix = check_folder(folder.resolve()).namespace_prefix
    if not prefix:
        say(f"{folder} says no namespace_prefix: the namespace is {NAMESPACE}")
    return f"{prefix}-{NAMESPACE}" if prefix else NAMESPACE


def _objects(context: str, namespace: str) -> tuple[Access, Objects]:
    from jupiter_agent.cli.k8s.access import open_access
    from jupiter_agent.cli.k8s.objects import Objects

    _check_name(namespace)
    access = open_access(context, os.environ)
    return access, Objects(access, namespace)


def _check_name(namespace: str) -> None:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        hint = "small letters, digits and '-', at most 63: --namespace N"
        raise UsageError(f"{namespace!r} cannot be a namespace", hint)


@app.command()
def up(
    context: Context = "",
    namespace: Namespace = None,
    folder: App = None,
    image: Annotated[str, typer.Option(metavar="NAME:TAG", help="The agents' image.")] = "",
    pull_policy: Annotated[str, typer.Option(metavar="|".join(PULL), help="When nodes pull the image.")] = "",
    overlay: Annotated[str, typer.Option(metavar="|".join(OVERLAYS), help="Which manifests.")] = OVERLAYS[0],
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0, help="How long to wait for the agents (0: not at all).")
    ] = 300.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the objects (-o yaml, json) only.")] = False,
    output: Form = Format.TABLE,
) -> int:
    """Put an agent on every node; returns when all see all. May be repeated: what is right already stays."""
    from jupiter_agent.adapters.keys import ClusterKeys, encode_token, founding_token
    from jupiter_agent.cli.ctl.session import Clock
    from jupiter_agent.cli.k8s.deploy import Watcher, await_namespace, put, summary
    from jupiter_agent.cli.k8s.members import Members, opener
    from jupiter_agent.cli.k8s.reaching import read_token
    from jupiter_agent.cli.k8s.rollout import Rollout
    from jupiter_agent.k8s import manifests

    refuse_exports(output, "k8s up")
    if overlay not in OVERLAYS:
        raise UsageError(f"--overlay {overlay}: there is none", did_you_mean(overlay, OVERLAYS))
    if pull_policy and pull_policy not in PULL:
        raise UsageError(f"--pull-policy {pull_policy}: there is none", did_you_mean(pull_policy, PULL))
    where, clock = place(namespace, folder), Clock()
    new = encode_token(founding_token(ClusterKeys.found()))
    settings: dict[str, Any] = {"namespace": where, "image": image, "pull_policy": pull_policy}
    if dry_run:
        _check_name(where)
        return _print_objects(manifests.objects(overlay, token=new, **settings), output)
    began = clock.now()
    access, objects = _objects(context, where)
    await_namespace(objects, clock)
    known = read_token(objects) or new
    done = put(objects, manifests.objects(overlay, token=known, **settings))
    token = read_token(objects)  # another `up` may have been faster
    say(f"objects in namespace {where}: {summary(done)}")
    if not timeout:
        return EXIT_OK
    rollout, members = Rollout(began, say), Members(opener(access, where, token))
    try:
        Watcher(objects, members, clock).wait(rollout, timeout)
    finally:
        members.close()
    seconds = clock.now() - began
    at = "" if not context else f" --context {context}"
    ready = f"{len(rollout.joined)} agents see each other after {seconds:.1f} s"
    say(f"{ready}; try: jupiter ctl{at} --namespace {where} get nodes")
    if output is not Format.TABLE:
        rows = [{"name": node, "joined_s": joined} for node, joined in sorted(rollout.joined.items())]
        extra = {"namespace": where, "seconds": round(seconds, 3), "not_waited_for": rollout.skipped}
        Output(output).items("k8s", rows, extra)
    return EXIT_OK


def _print_objects(wanted: list[dict[str, Any]], output: Format) -> int:
    import yaml

    say("a new cluster's token is in the Secret: keep what is printed to yourself")
    if output is Format.JSON:
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted}, indent=2))
    else:
        yaml.safe_dump_all(wanted, sys.stdout, sort_keys=False)
    return EXIT_OK


@app.command()
def down(
    context: Context = "",
    namespace: Namespace = None,
    folder: App = None,
    grace: Annotated[int, typer.Option(metavar="S", min=0, help="How long each agent may take to leave.")] = 2,
    timeout: Annotated[float, typer.Option(metavar="S", min=1, help="How long to wait for all to be gone.")] = 120.0,
) -> None:
    """Remove the agents, their state and all that `up` made; jobs that run are lost. Touches nothing else."""
    from jupiter_agent.cli.ctl.session import Clock
    from jupiter_agent.cli.k8s.removal import remove

    where, clock = place(namespace, folder), Clock()
    began = clock.now()
    _, objects = _objects(context, where)
    removed = remove(objects, clock, grace, timeout)
    count, seconds = len(removed.titles), clock.now() - began
    wiped = removed.wiped
    if removed.why_left or wiped.failed or removed.stuck:
        say(f"{count} objects are removed after {seconds:.1f} s")
    for node, disk in sorted(wiped.foreign):
        say(f"{node}: {disk} is not ours but another cluster's: left alone")
    for (node, disk), why in sorted(wiped.failed.items()):
        stays = "may be left" if (node, disk) in wiped.unsure else "stays"
        say(f"{node}: agents' state {stays} on its disk, the cluster's keys with it: {disk} ({why})")
    if removed.stuck:
        hint = "is the node there? its kubelet has to say so; `kubectl delete pod --force` does without"
        raise JupiterError(f"pods do not end on {', '.join(removed.stuck)}", hint, EXIT_TIMEOUT)
    if wiped.failed:
        hint = "as root, there: `rm -rf FOLDER FOLDER.going-*`; what is called FOLDER-... is of other clusters"
        sure = {node for node, _ in wiped.failed.keys() - wiped.unsure}
        maybe = {node for node, _ in wiped.failed} - sure
        counts = [f"is left on {len(sure)} nodes"] * bool(sure) + [f"may be left on {len(maybe)} nodes"] * bool(maybe)
        raise JupiterError(f"state {' and '.join(counts)}", hint)
    if removed.why_left:
        hint = f"what is not jupiter's stays; `kubectl delete namespace {where}` removes it with all that is in it"
        raise JupiterError(f"the namespace {where} is left: {removed.why_left}", hint)
    if removed.titles:
        say(f"nothing is left of {count} objects after {seconds:.1f} s")
    else:
        say(f"there is nothing of jupiter's in namespace {where}")


@app.command()
def status(context: Context = "", namespace: Namespace = None, folder: App = None, output: Form = Format.TABLE) -> None:
    """List the agents' pods, what they do, and whether the others see them."""
    from jupiter_agent.cli.k8s.members import Members, opener
    from jupiter_agent.cli.k8s.reaching import agent_pods, nodes_without, read_token

    refuse_exports(output, "k8s status")
    where = place(namespace, folder)
    access, objects = _objects(context, where)
    pods, token = agent_pods(objects), ""
    try:
        token = read_token(objects)
    except UnauthorisedError as error:
        say(f"whom the agents see is not known: {error.message}")
    if not pods:
        say(f"there are no agents in namespace {where}: `jupiter k8s up --namespace {where}`")
    alive, without = None, nodes_without(objects)
    running = [pod for pod in pods if pod.runs and pod.node not in without]
    members = Members(opener(access, where, token))
    until = time.monotonic() + 5.0
    while token and running and alive is None and time.monotonic() < until:
        alive = members.poll(running, time.monotonic())
        time.sleep(0.05)
    members.close()
    rows = [
        {
            "name": pod.node, "pod": pod.name, "address": pod.ip, "state": pod.phase,
            "joined": None if alive is None else pod.ip in alive, "restarts": pod.restarts,
            "reason": str(pod) if pod.is_stuck else without.get(pod.node, ""), "hint": pod.hint if pod.is_stuck else "",
        }
        for pod in pods
    ]  # fmt: skip
    Output(output).items("k8s", rows, {"namespace": where})


@app.command()
def logs(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node, or its pod; all without it.")] = "",
    context: Context = "",
    namespace: Namespace = None,
    folder: App = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows (one NODE).")] = False,
    tail: Annotated[int, typer.Option(metavar="N", min=0, help="The last lines only.")] = 100,
    previous: Annotated[bool, typer.Option("--previous", help="Of the agent that ran before a restart.")] = False,
) -> None:
    """Print what agents log."""
    from jupiter_agent.cli.k8s.objects import RESOURCES
    from jupiter_agent.cli.k8s.reaching import agent_pods

    where = place(namespace, folder)
    access, objects = _objects(context, where)
    pods = agent_pods(objects)
    found = [pod for pod in pods if not node or node in (pod.node, pod.name)]
    if not found:
        hint = did_you_mean(node, [pod.node for pod in pods]) if pods else f"`jupiter k8s up --namespace {where}`"
        raise UsageError(f"no agent on {node!r}" if node else f"there are no agents in namespace {where}", hint)
    if follow and len(found) > 1:
        raise UsageError("one log can be followed at a time", f"jupiter k8s logs {found[0].node} -f")
    query = {"container": "agent", "tailLines": str(tail), "follow": str(follow).lower()}
    for pod in found:
        show = functools.partial(_print_line, f"{pod.node}: " if len(found) > 1 else "")
        try:
            access.lines(
                RESOURCES["Pod"].path(where, f"{pod.name}/log"), {**query, "previous": str(previous).lower()},
                show,
            )  # fmt: skip
        except JupiterError as error:
            if len(found) == 1:
                raise
            say(f"{pod.node}: {error.message}")


def _print_line(prefix: str, line: str) -> None:
    print(prefix + line, flush=True)


@app.command()
def token(
    context: Context = "",
    namespace: Namespace = None,
    folder: App = None,
    new: Annotated[bool, typer.Option("--new", help="Of a new cluster: for `daemonset/base/token`.")] = False,
    replace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Put this one into the Secret, after `ctl token rotate`.")
    ] = None,
) -> None:
    """Print the cluster's token, for machines outside of it; with --new the one that a new cluster starts from."""
    from jupiter_agent.adapters.keys import ClusterKeys, decode_token, encode_token, founding_token, plain_token
    from jupiter_agent.cli.k8s.reaching import read_token

    if new:
        print(encode_token(founding_token(ClusterKeys.found())))
        return
    where = place(namespace, folder)
    _, objects = _objects(context, where)
    found = read_token(objects)
    if not found:
        raise UnreachableError(
            f"there is no Secret with a {TOKEN_KEY} in namespace {where}", f"`jupiter k8s up --namespace {where}`"
        )
    if replace is not None:
        from jupiter_agent.cli.k8s.reaching import replace_token

        replace_token(objects, found, replace)
        say("new pods start with it; running agents know it already")
        return
    print(encode_token(plain_token(decode_token(found))))
