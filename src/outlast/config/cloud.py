"""The `cloud:` section of the originals' environment files, translated into outlast's keys.

cloud:
  enabled: true                     false: `remote` and `remote_rate` below `cloud:` count as not written
  remote: gs://bucket/prefix        `remote`
  save_to_kaggle_datasets: true     `publish.when: finished`
  output_dataset:
    enabled: true
    name: OWNER/NAME                `publish.to: kaggle://OWNER/NAME`; without OWNER the account of the login
    title: TEXT                     `publish.title`
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from outlast.config.yamlfile import Entry
from outlast.errors import ConfigError
from outlast.terminal import shortened

_ENABLED = "cloud.enabled"
_DATASET = "cloud.output_dataset."
_SAVES = ("cloud.save_to_kaggle_datasets", f"{_DATASET}enabled")
_REMOTE = ("cloud.remote", "cloud.remote_rate")

OWN_ACCOUNT = "~"
"""Owner in an address of Kaggle: the account of the login."""

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def translated(entries: Sequence[Entry], path: Path, variables: Mapping[str, str] = os.environ) -> list[Entry]:
    """The entries of an environment file, with `cloud.*` translated into outlast's keys; other keys are unchanged.

    Args:
        entries: the entries of the file.
        path: its path, for errors.
        variables: environment variables. KAGGLE_USERNAME is the owner of a dataset whose name has no owner; without it,
            the owner is the account of the login when the dataset is made.

    Raises:
        ConfigError: a switch is neither on nor off, or is on without the place that it needs.
    """
    found = {entry.key: entry for entry in entries if entry.key.startswith("cloud.")}
    name, title = found.get(f"{_DATASET}name"), found.get(f"{_DATASET}title")
    switches = [found[key] for key in _SAVES if key in found]
    first = next(iter(switches), name)
    own = {_ENABLED, *_SAVES, f"{_DATASET}name", *([f"{_DATASET}title"] if first else [])}
    result = [entry for entry in entries if entry.key not in own]
    if (enabled := found.get(_ENABLED)) and not is_on(enabled, path):
        result = [entry for entry in result if entry.key not in _REMOTE]
    elif enabled and not any(entry.key in ("remote", _REMOTE[0]) for entry in entries):
        raise ConfigError(
            f"{path}:{enabled.line}: cloud.enabled is on, and the file has no address to push to. Add `remote: "
            "gs://bucket/prefix`, or switch it off."
        )
    if first and all(is_on(switch, path) for switch in switches):
        result += _publication(first, name, path, variables)
        result += [replace(title, key="publish.title")] if title else []
    return result


def _publication(first: Entry, name: Entry | None, path: Path, variables: Mapping[str, str]) -> list[Entry]:
    """The place and the time of publication. `first` is the key that requests it."""
    value = name.value if name else None
    if isinstance(value, str) and value and "/" not in value:
        value = f"{variables.get('KAGGLE_USERNAME') or OWN_ACCOUNT}/{value}"
    if not isinstance(value, str) or value.count("/") != 1:
        place = name or first
        raise ConfigError(
            f"{path}:{place.line}: cloud.output_dataset.name is {shortened(repr(value), 80)}; expected OWNER/NAME, an "
            "account of Kaggle and one of its datasets, or NAME of a dataset of your own."
        )
    to = replace(name or first, key="publish.to", value=f"kaggle://{value}")
    return [to, replace(first, key="publish.when", value="finished")]


def is_on(entry: Entry, path: Path) -> bool:
    """Whether a switch is on; raises ConfigError when it is neither on nor off."""
    found = _SWITCH.get(str(entry.value).lower())
    if found is None:
        raise ConfigError(
            f"{path}:{entry.line}: {entry.key} is {shortened(repr(entry.value), 80)}; expected true or false."
        )
    return found
