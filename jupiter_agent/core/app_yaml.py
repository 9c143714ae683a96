"""A YAML file read with its line numbers, so that every complaint names the line and what to write instead.

Composed, not constructed: nodes keep their marks, aliases stay shared (an alias bomb costs nothing), scalars stay as
they were written (a task named `no` or `1` is a name), and no tag can make an object.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import yaml
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from jupiter_agent.core.app_text import MAX_WARNINGS, decode, did_you_mean, shown, wrong
from jupiter_agent.errors import UsageError

MAX_MERGED = 100
MAX_DEPTH = 100
"""Levels of a document: composing one calls itself, in C without end"""
_NULL, _BOOL, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "merge"))


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, a tenth of the time, where PyYAML was built with it"""


def _composed(text: str) -> Node | None:
    """The document's top node. RecursionError for more than MAX_DEPTH levels."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecursionError
    found: Node | None = yaml.compose(text, Loader=_Loader)
    return found


class YamlFile:
    """One document. `root` is its top node; `warnings` collects what is ignored. UsageError for bad YAML."""

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        self.warnings: list[str] = []
        text = decode(content, name)
        try:
            root = _composed(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(filter(None, [error.context, error.problem]))
            raise UsageError(f"{name}:{mark.line + 1 if mark else 1}: not YAML: {what}", _SYNTAX_HINT) from error
        except yaml.reader.ReaderError as error:
            line = text.encode()[: error.position].count(b"\n") + 1
            raise UsageError(f"{name}:{line}: not YAML: {error.reason}", _SYNTAX_HINT) from error
        except (RecursionError, ValueError, OverflowError) as error:  # too deep; an escape that is no character
            raise UsageError(f"{name}:1: not YAML that can be read: {type(error).__name__}", _SYNTAX_HINT) from error
        if root is None:
            raise UsageError(f"{name}:1: the file is empty", "it needs 'application:' with 'tasks:'")
        self.root: Node = root

    def at(self, node: Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def wrong(self, node: Node, what: str, hint: str = "") -> UsageError:
        """The error to raise for this node."""
        return wrong(self.at(node), what, hint)

    def warn(self, node: Node, what: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(f"{self.at(node)}: {shown(what)}")

    def mapping(self, node: Node | None, what: str, known: Collection[str] | None = None) -> dict[str, Node]:
        """Its keys; nulls are left out, null or no node at all is empty. Keys that are not `known` give a warning."""
        if node is None or is_null(node):
            return {}
        if not isinstance(node, MappingNode):
            raise self.wrong(node, f"{what} must be a mapping (key: value)", "indent its keys below it")
        found: dict[str, Node] = {}
        for key, value in self._pairs(node, set()):
            if key in found:
                self.warn(value, f"'{key}' is given twice in {what}; this one counts")
            if known is not None and key not in known and key not in found:
                self.warn(value, f"unknown key '{key}' in {what} is ignored ({did_you_mean(key, known)})")
            found[key] = value
        return {key: value for key, value in found.items() if not is_null(value)}

    def _pairs(self, node: MappingNode, open_: set[int]) -> Iterator[tuple[str, Node]]:
        """Key and value pairs; those merged with `<<` first and only where the mapping has no such key itself."""
        own: list[tuple[str, Node]] = []
        merged: list[Node] = []
        open_.add(id(node))
        if len(open_) > MAX_MERGED:
            raise self.wrong(node, f"more than {MAX_MERGED} mappings are merged into one")
        for key, value in node.value:
            if key.tag == _MERGE:
                merged += value.value if isinstance(value, SequenceNode) else [value]
            elif isinstance(key, ScalarNode):
                own.append((key.value, value))
            else:
                raise self.wrong(key, "a key must be a plain word")
        names = {name for name, _ in own}
        for source in merged:
            if not isinstance(source, MappingNode):
                raise self.wrong(source, "'<<' merges mappings only")
            if id(source) in open_:  # merged already, or into itself
                continue
            for name, value in self._pairs(source, open_):
                if name not in names:
                    names.add(name)
                    yield name, value
        yield from own

    def keys(self, node: Node) -> list[str]:
        """Its own keys that are words, whatever they mean; none of what is no mapping."""
        pairs = node.value if isinstance(node, MappingNode) else []
        return [key.value for key, _ in pairs if isinstance(key, ScalarNode)]

    def sequence(self, node: Node | None, what: str) -> list[Node]:
        """Its members; null or no node at all is empty, a bare scalar is a list of one."""
        if node is None or is_null(node):
            return []
        if isinstance(node, ScalarNode):
            return [node]
        if not isinstance(node, SequenceNode):
            raise self.wrong(node, f"{what} must be a list", "write it as [a, b], or as lines that begin with '- '")
        return list(node.value)

    def text(self, node: Node, what: str) -> str:
        """A scalar as it is written, whatever type YAML would make of it."""
        if not isinstance(node, ScalarNode):
            raise self.wrong(node, f"{what} must be a plain value", "write one word, in quotes if need be")
        text = str(node.value)
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise self.wrong(node, f"{what} holds half a character (a surrogate)", "write it without \\u escapes")
        return text

    def number(self, node: Node, what: str, low: float, high: float, above: bool = False) -> float:
        """Finite, from `low` (not itself with `above`) to `high`."""
        text = self.text(node, what)
        try:
            value = math.nan if node.tag == _BOOL else float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):
            bounds = f"{'above' if above else 'at least'} {low:g} and at most {high:g}"
            raise self.wrong(node, f"{what} must be a number {bounds}, not '{text}'", f"write {what}: N, N {bounds}")
        return value

    def integer(self, node: Node, what: str, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        text = self.text(node, what)
        try:
            value = low - 1 if node.tag == _BOOL else int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise self.wrong(
                node,
                f"{what} must be a whole number from {low} to {high}, not '{text}'",
                f"write {what}: {low} or more",
            )
        return value


def is_null(node: Node) -> bool:
    return bool(node.tag == _NULL)


_SYNTAX_HINT = "check indentation, colons and quotes of this line and the one above"
