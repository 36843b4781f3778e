"""Reads the files of configs/: values by dotted key, with headings resolved.

A value is the written text, and the type of its field decides its meaning, as for a flag: `010` is not 8, `1:30` is
not 90, `1e-3` is a number, and `no` is a text where a text is expected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from outlast.config.yamltree import Node, compose, plain

Role = Literal["environment", "train", "data", "model"]

_HEADINGS: Mapping[Role, tuple[str, ...]] = {
    "environment": ("environment", "paths", "hardware", "training_overrides"),
    "train": ("training", "train"),
    "data": ("data", "dataloader"),
    "model": ("model",),
}
"""Headings that only group keys. Below `data` and `model` keys belong to that section, except under `dataloader`."""


ATTACHED = re.compile(r"\w+_datasets\.")
"""Below such a heading, one environment file names the data that a platform attaches, for all recipes.

Each takes those that it knows.
"""


_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


@dataclass(frozen=True)
class Entry:
    """One value of a file and its place: text, None, or a list or dict of such values.

    `path`: the key with its headings.
    """

    key: str
    value: Any
    line: int
    path: str = ""


def read(path: Path, role: Role, sections: Collection[str] = ()) -> list[Entry]:
    """The values of a YAML file under dotted keys, headings resolved.

    Args:
        path: the file.
        role: its role in messages.
        sections: names of the recipe's own sections, which are not headings.

    Raises:
        ConfigError: the file does not exist, is not YAML, or has a key twice.
    """
    node = compose(path)
    if node is None:
        return []
    entries: list[Entry] = []
    headings = [heading for heading in _HEADINGS[role] if role != "train" or heading not in sections]
    _walk(node, role, path, entries, "" if role in ("environment", "train") else f"{role}.", headings, "")
    return entries


def expanded(text: str) -> str:
    """The text with environment variables replaced by their values.

    Raises:
        ValueError: a variable is not set, or has the name of a secret, which must not be recorded.
    """
    for match in _VARIABLE.finditer(text):
        name = match[1] or match[2]
        if _SECRET.search(name):
            raise ValueError(f"a value without ${name}, which is named like a secret: values are kept in records")
        if name not in os.environ:
            raise ValueError(f"a value without ${name}, which is not set here")
    return _VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], text)


def _walk(
    node: Node, role: Role, path: Path, entries: list[Entry], prefix: str, headings: Collection[str], above: str
) -> None:
    for key, line, value in node.pairs or ():
        heading = key in headings
        if value.pairs:
            inner = prefix if heading else f"{prefix}{key}."
            below = "" if heading and key == "dataloader" else inner
            _walk(value, role, path, entries, below, headings if heading else (), f"{above}{key}.")
        elif not (heading and plain(value) in (None, {})):  # a section with nothing in it
            entries.append(Entry(prefix + key, plain(value), line, f"{above}{key}"))
