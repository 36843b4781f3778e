"""A YAML file as a layer: its fields with their lines, by any of their names and below any heading."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.config import cloud, machine, originals, yamlfile
from outlast.config.schema import Leaf, SupervisedConfig, leaves
from outlast.config.words import nearest
from outlast.errors import ConfigError
from outlast.terminal import shortened

_NAMED = 10  # unknown keys that a sentence names


TITLE = "cloud.output_dataset.title"
"""A key of the originals that belongs to a named dataset."""


@dataclass(frozen=True)
class Origin:
    """The origin of a value.

    Attributes:
        layer: default, environment, run, data, model, train, flag, or "limit: NAME" when a limit clamped it.
        where: the flag, or file and line; empty for a default.
    """

    layer: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.layer} {self.where}".strip()


@dataclass(frozen=True)
class LayerValue:
    """A value that a layer gives, before it is typed."""

    value: Any
    origin: Origin


Layer = Mapping[str, LayerValue]


def file_layer(path: Path | None, role: yamlfile.Role, known: Mapping[str, Leaf]) -> Layer:
    """The values of a YAML file, by dotted key; empty without a file.

    Raises:
        ConfigError: it cannot be read, has an unknown key, or sets one field twice.
    """
    if path is None:
        return {}
    if role in ("data", "model") and not any(key.startswith(f"{role}.") for key in known):
        raise ConfigError(f"{path} was given as {role} config, but this recipe has no {role} section.")
    names = {key: key for key in known} | {
        alias: leaf.key for leaf in known.values() for alias in leaf.extra["aliases"]
    }
    said: dict[str, yamlfile.Entry] = {}
    unknown: list[yamlfile.Entry] = []
    sections = {key.partition(".")[0] for key in known if "." in key}
    entries = yamlfile.read(path, role, sections)
    if role == "environment":
        entries = originals.translated(cloud.translated(entries, path), path, known)
    for entry in entries:
        others = entry.key not in names and (entry.key in _of_others() or machine.is_of_machine(entry))
        if role == "environment" and others:
            continue
        if entry.key in names:
            _say(said, names[entry.key], entry, path)
        elif not _attached(entry) and not (
            entry.key.removeprefix(f"{role}.") in sections and entry.value in (None, {})
        ):
            unknown.append(entry)  # and neither another recipe's input nor a section with nothing in it
    if unknown:
        raise ConfigError(_unknown(path, role, unknown, names))
    return {
        key: LayerValue(_expanded(entry, path), Origin(role, f"{path}:{entry.line}")) for key, entry in said.items()
    }


@functools.cache
def _of_others() -> frozenset[str]:
    """Keys of an environment file that this recipe ignores: those of other recipes, and labels for the reader."""
    supervised = [name for leaf in leaves(SupervisedConfig) for name in (leaf.key, *leaf.extra["aliases"])]
    return frozenset({*supervised, "name", "type", "platform"})


def _say(said: dict[str, yamlfile.Entry], key: str, entry: yamlfile.Entry, path: Path) -> None:
    """Add the value of a field. A second value for it is refused, except that of one attached input or an override."""
    before = said.get(key)
    if before and originals.overrides(entry) != originals.overrides(before):
        said[key] = entry if originals.overrides(entry) else before
        return
    if before and _attached(entry) == _attached(before):
        raise ConfigError(
            f"{path}:{entry.line} gives {key} a second time, as {shortened(entry.path, 80)!r}; line {before.line} "
            f"gives it already, as {shortened(before.path, 80)!r}. Remove one of them."
        )
    if before is None or _attached(entry):  # where one input is goes before where all data are
        said[key] = entry


def _attached(entry: yamlfile.Entry) -> bool:
    """Whether an entry names one attached input."""
    return yamlfile.ATTACHED.match(entry.key) is not None


def _expanded(entry: yamlfile.Entry, path: Path) -> Any:
    if not isinstance(entry.value, str):
        return entry.value
    try:
        return yamlfile.expanded(entry.value)
    except ValueError as error:
        raise ConfigError(
            f"{path}:{entry.line}: {entry.key} is {shortened(entry.value)!r}; expected {error}."
        ) from error


def _unknown(path: Path, role: str, unknown: Sequence[yamlfile.Entry], names: Mapping[str, str]) -> str:
    """One sentence about all unknown keys; if there are very many, about the first."""
    visible = [name.removeprefix(f"{role}.") for name in names]
    first, *more = (entry.key.removeprefix(f"{role}.") for entry in unknown)
    words = f"{path}:{unknown[0].line} has an unknown key {shortened(first, 80)!r}.{nearest(first, visible)}"
    if any(entry.key.startswith("cloud.") for entry in unknown):
        words += (
            " Set where checkpoints are pushed with `remote: gs://bucket/prefix`, and where results are published with "
            "`publish: {to: ADDRESS, when: finished}`."
        )
    if any(entry.key == TITLE for entry in unknown):
        words += (
            f" {TITLE} is the title of a dataset that is published, and none is named: add cloud.output_dataset.name, "
            "or leave the title out."
        )
    if not more:
        return words
    shown = [f"{shortened(key, 80)} (line {entry.line})" for key, entry in zip(more, unknown[1:], strict=True)]
    rest = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return f"{words} Also unknown: {', '.join(shown[:_NAMED])}{rest}. Remove all of them."
