"""Absolute paths told to Python's own file functions, where the kernel gives no mount namespace (views.py).

`open`, `os`, `pathlib`, `shutil`, `glob` and the arguments of `subprocess` see them. Libraries in C and other
programs do not: a program that is started with a script which itself names such a path is refused, and the error says
why.
"""

from __future__ import annotations

import builtins
import functools
import io
import os

TYPE_CHECKING = False  # importing `typing` would cost 12 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ONE_PATH = (
    "open", "listdir", "scandir", "stat", "lstat", "mkdir", "remove", "unlink", "rmdir", "access", "chmod", "chown",
    "utime", "truncate", "chdir", "readlink", "statvfs", "walk", "makedirs",
)  # fmt: skip
TWO_PATHS = ("rename", "replace", "link", "symlink")
MAX_SCRIPT = 1024 * 1024


def map_paths(places: dict[str, str]) -> None:
    """Prefix -> folder, for the rest of this process's life."""
    to = functools.partial(mapped, places)
    for module, names in ((os, ONE_PATH), (io, ("open",)), (builtins, ("open",))):
        for name in names:
            setattr(module, name, _first(getattr(module, name), to, 1))
    for name in TWO_PATHS:
        setattr(os, name, _first(getattr(os, name), to, 2))
    os.system = _first(os.system, functools.partial(_command, places), 1)
    import subprocess

    begin = subprocess.Popen.__init__

    @functools.wraps(begin)
    def started(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        if "cwd" in options:
            options["cwd"] = to(options["cwd"])
        begin(self, _command(places, args), *rest, **options)

    subprocess.Popen.__init__ = started  # type: ignore[method-assign]


def mapped(places: dict[str, str], path: Any) -> Any:
    """The path it stands for; anything else is given back as it is."""
    try:
        text = os.fspath(path)
    except TypeError:
        return path
    plain = os.fsdecode(text)
    for prefix, folder in places.items():
        if plain == prefix or plain.startswith(prefix + "/"):
            there = folder + plain[len(prefix) :]
            return os.fsencode(there) if isinstance(text, bytes) else there
    return path


def _first(function: Any, to: Callable[[Any], Any], count: int) -> Any:
    """The function with its first `count` arguments mapped; what it is keyed by, such as os.supports_fd, stays true."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        return function(*map(to, args[:count]), *args[count:], **{key: to(v) for key, v in options.items()})

    for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if function in known:
            known.add(wrapped)
    return wrapped


def _command(places: dict[str, str], command: Any) -> Any:
    """Program and arguments, or a shell's line, with paths mapped. OSError when a script among them cannot work."""
    if isinstance(command, str):
        words = [_line(places, command)]
        scripts = words[0].split()
    elif isinstance(command, bytes) or not hasattr(command, "__iter__"):
        return command
    else:
        words = [_line(places, word) if isinstance(word, str) else mapped(places, word) for word in command]
        scripts = [os.fsdecode(word) for word in words if isinstance(word, str | bytes | os.PathLike)]
    for script in scripts:
        _check(places, script)
    return words[0] if isinstance(command, str) else words


def _line(places: dict[str, str], text: str) -> str:
    for prefix, folder in places.items():
        text = text.replace(prefix + "/", folder + "/")
        if text.endswith(prefix):
            text = text[: -len(prefix)] + folder
    return text


def _check(places: dict[str, str], script: str) -> None:
    if not any(script.startswith(folder + "/") for folder in places.values()) or not os.path.isfile(script):
        return
    if os.path.getsize(script) > MAX_SCRIPT:
        return
    with open(script, "rb") as file:
        content = file.read()
    for prefix in places:
        if prefix.encode() + b"/" in content:
            name = os.path.basename(script)
            raise OSError(
                f"{name} names {prefix}, which other programs cannot see here: this machine gives no mount namespace; "
                f"pass the path as an argument, or run the agent where it may use one"
            )
