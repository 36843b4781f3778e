"""YAML files with the line of every key, and the section names that the originals' files use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from outlast.config.words import nearest as nearest  # noqa: PLC0414 - for those that read YAML as well
from outlast.errors import ConfigError

Role = Literal["environment", "train", "data", "model"]

_HEADINGS: Mapping[Role, tuple[str, ...]] = {
    "environment": ("environment", "paths", "hardware", "training_overrides"),
    "train": ("training", "train"),
    "data": ("data", "dataloader"),
    "model": ("model",),
}
"""Headings that only group keys. Below `data` and `model` keys belong to that section, except under `dataloader`."""


ATTACHED = "kaggle_datasets."
"""Below this, one environment file names the attached data of all recipes; each takes those that it knows."""


@dataclass(frozen=True)
class Entry:
    """One value of a file and where it stands."""

    key: str
    value: Any
    line: int


def read(path: Path, role: Role, sections: Collection[str] = ()) -> list[Entry]:
    """The values of a YAML file under dotted keys, headings resolved.

    Args:
        path: the file.
        role: what it is given as.
        sections: names that the recipe uses itself, and that are no headings then.

    Raises:
        ConfigError: no such file, not YAML, a key twice, or measured limits where only preferences belong.
    """
    node = _compose(path)
    if node is None:
        return []
    entries: list[Entry] = []
    headings = [heading for heading in _HEADINGS[role] if role != "train" or heading not in sections]
    _walk(node, role, path, entries, "" if role in ("environment", "train") else f"{role}.", headings)
    return entries


def _compose(path: Path) -> yaml.MappingNode | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        others = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        folder = "This folder" if path.parent == Path() else str(path.parent)
        there = f" {folder} holds {', '.join(others)}." if others else ""
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ConfigError(f"{path} {reason}.{there}{nearest(path.name, others)}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where} is not valid YAML: {getattr(error, 'problem', None) or error}.") from error
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{path}:1 holds a {type(node).__name__.removesuffix('Node').lower()}; expected keys with values, such as `epochs: 10`."
        )
    return node


def _walk(
    node: yaml.MappingNode, role: Role, path: Path, entries: list[Entry], prefix: str, headings: Collection[str]
) -> None:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in seen:
            raise ConfigError(f"{path}:{line} gives {key!r} a second time; it stands in line {seen[key]} already.")
        seen[key] = line
        if role == "environment" and key == "constraints":
            raise ConfigError(
                f"{path}:{line} states 'constraints'. Limits are measured on the machine, not configured (`outlast doctor` prints "
                "them): remove the section, and use `budget:` to end sessions earlier."
            )
        if isinstance(value_node, yaml.MappingNode):
            heading = key in headings
            inner = prefix if heading else f"{prefix}{key}."
            below = "" if heading and key == "dataloader" else inner
            _walk(value_node, role, path, entries, below, headings if heading else ())
        else:
            loader = yaml.SafeLoader("")
            entries.append(Entry(prefix + key, loader.construct_object(value_node, deep=True), line))
