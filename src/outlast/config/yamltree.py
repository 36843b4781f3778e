"""The only YAML loader: a tree of text, with the line of every key.

Anchors and aliases are supported. Tags, merge keys, several documents and invisible characters are refused. Every error
is one sentence with file and line.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from outlast.config.words import nearest
from outlast.errors import ConfigError
from outlast.terminal import shortened

LARGEST = 2**20  # bytes of a file
_DEEPEST = 20  # levels
_MOST = 10_000  # keys and values, those that aliases repeat counted every time

_NULL = ("", "~", "null", "Null", "NULL")
# Line ends that no editor shows, and what turns the direction of text: a file must say what it seems to say.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass
class Node:
    """A part of a file: text (None for null), a list of nodes, or a mapping as pairs of a key and a node."""

    line: int
    text: str | None = None
    items: list[Node] | None = None
    pairs: list[tuple[str, int, Node]] | None = None
    size: int = 1
    whole: bool = field(default=True, repr=False)


def compose(path: Path) -> Node | None:
    """The keys and values of a file; None when it is empty.

    Raises:
        ConfigError: it cannot be read, is not YAML, or uses something that is refused here.
    """
    text = _text(path)
    try:
        node = _Composer(path, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where} is not valid YAML: {shortened(problem or error)}.{_hint(problem or '')}") from error
    if node is not None and node.pairs is None:
        kind = "a sequence" if node.items is not None else f"only the text {shortened(repr(node.text), 60)}"
        raise ConfigError(f"{path}:{node.line} holds {kind}; expected keys with values, such as `epochs: 10`.")
    return node


def plain(node: Node) -> Any:
    """A node as text, None, lists and dicts."""
    if node.items is not None:
        return [plain(item) for item in node.items]
    if node.pairs is not None:
        return {key: plain(value) for key, _, value in node.pairs}
    return node.text


def _text(path: Path) -> str:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(
                f"{path} is {'a folder' if stat.S_ISDIR(facts.st_mode) else 'not a regular file'}; "
                "expected a YAML file."
            )
        if facts.st_size > LARGEST:
            raise ConfigError(
                f"{path} has {facts.st_size / 1e6:.1f} MB; expected a YAML file of at most {LARGEST / 1e6:.1f} MB."
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(_unreadable(path, error)) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line} is not UTF-8 text (byte {data[error.start]:#04x}); save the file as UTF-8."
        ) from error
    if found := _INVISIBLE.search(text):
        line = len(re.findall("\r\n|\r|\n", text[: found.start()])) + 1
        raise ConfigError(f"{path}:{line} has the invisible character U+{ord(found[0]):04X}; delete it.")
    return text


def _unreadable(path: Path, error: Exception) -> str:
    try:
        others = sorted(p.name for p in path.parent.glob("*.yaml"))[:20] if path.parent.is_dir() else []
    except (OSError, ValueError):
        others = []
    folder = "This folder" if path.parent == Path() else str(path.parent)
    there = f" {folder} holds {', '.join(others)}." if others else ""
    missing = isinstance(error, FileNotFoundError)
    reason = "does not exist" if missing else f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return f"{shortened(path)} {reason}.{there if missing else ''}{nearest(path.name, others) if missing else ''}"


def _hint(problem: str) -> str:
    return (
        " Indent with spaces."
        if "'\\t'" in problem
        else " Only one document is supported."
        if "another document" in problem
        else ""
    )


class _Composer:
    """Makes nodes from YAML's events, with bounds on depth and number. Refuses what this module does not support."""

    def __init__(self, path: Path, events: Iterator[Any]) -> None:
        self._path, self._events = path, events
        self._anchors: dict[str, Node] = {}
        self._keys: list[str] = []  # of what is being read

    def document(self) -> Node | None:
        """The only document, or None when there is none."""
        node = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if node is not None:
                    self._refuse(event, "begins a second document; only one is supported")
                node = self._node(next(self._events), 0)
        return None if node is None or (node.text is None and node.items is None and node.pairs is None) else node

    def _node(self, event: Any, depth: int) -> Node:
        line = event.start_mark.line + 1
        if depth > _DEEPEST:
            self._refuse(event, f"is nested more than {_DEEPEST} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._check(event)
        node = Node(line, whole=False)
        if event.anchor:
            self._anchors[event.anchor] = node
        if isinstance(event, yaml.ScalarEvent):
            node.text = None if event.style is None and event.value in _NULL else event.value
            if node.text is not None and (found := _CONTROL.search(node.text)) and found[0] not in "\n\t":
                self._refuse(
                    event, f"has the character U+{ord(found[0]):04X} in a value; expected text that can be shown"
                )
        elif isinstance(event, yaml.SequenceStartEvent):
            node.items = []
            for inner in iter(lambda: next(self._events), None):
                if isinstance(inner, yaml.SequenceEndEvent):
                    break
                node.items.append(self._count(node, self._node(inner, depth + 1)))
        else:
            node.pairs = self._pairs(node, depth)
        node.whole = True
        return node

    def _pairs(self, node: Node, depth: int) -> list[tuple[str, int, Node]]:
        pairs: list[tuple[str, int, Node]] = []
        seen: dict[str, int] = {}
        for event in iter(lambda: next(self._events), None):
            if isinstance(event, yaml.MappingEndEvent):
                break
            key, line = self._key(event)
            if key in seen:
                self._refuse(
                    event, f"gives {shortened(repr(key), 80)} a second time; line {seen[key]} gives it already"
                )
            seen[key] = line
            self._keys.append(key)
            pairs.append((key, line, self._count(node, self._node(next(self._events), depth + 1))))
            self._keys.pop()
        return pairs

    def _key(self, event: Any) -> tuple[str, int]:
        line: int = event.start_mark.line + 1
        if type(event) is not yaml.ScalarEvent:
            kind = "an alias" if isinstance(event, yaml.AliasEvent) else "a list or a mapping"
            self._refuse(event, f"has {kind} as a key; expected a name")
        self._check(event)
        key = str(event.value)
        if key == "<<" and event.style is None:
            self._refuse(event, "merges keys with '<<', which is not supported; write them out")
        if _CONTROL.search(key):
            self._refuse(event, f"has an unknown key {shortened(repr(key), 80)}")
        return key, line

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            self._refuse(
                event,
                f"has the alias *{shortened(event.anchor, 60)}, and there is no anchor before it named "
                f"&{shortened(event.anchor, 60)}",
            )
        found = self._anchors[event.anchor]
        if not found.whole:
            self._refuse(event, f"has the alias *{shortened(event.anchor, 60)} inside the value that it refers to")
        return found

    def _count(self, node: Node, inner: Node) -> Node:
        node.size += inner.size
        if node.size > _MOST:
            raise ConfigError(
                f"{self._path}:{inner.line} makes more than {_MOST} values with its aliases; write out what is needed."
            )
        return inner

    def _check(self, event: Any) -> None:
        if event.tag is not None:
            self._refuse(
                event,
                f"has the tag {shortened(event.tag.replace('tag:yaml.org,2002:', '!!'), 60)}; tags are not supported: "
                "write the value alone",
            )

    def _refuse(self, event: Any, words: str) -> NoReturn:
        key = f": {shortened('.'.join(self._keys), 80)}" if self._keys else ""
        raise ConfigError(f"{self._path}:{event.start_mark.line + 1}{key} {words}.")
