"""Keys of the originals' environment files that have another name here, or a unit that they do not say.

training_overrides:
  save_frequency: 10          `save_every: 10 epochs`
  eval_frequency: 500         `validate_every: 500 steps`
  checkpoint_cleanup: false   `keep_every: 1`, so that no checkpoint is deleted; true is how outlast is anyway

What is below `training_overrides` wins over the same key elsewhere in the file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from outlast.config.cloud import is_on
from outlast.config.yamlfile import Entry
from outlast.errors import ConfigError
from outlast.terminal import shortened

_COUNTED = {"save_frequency": ("save_every", "epochs"), "eval_frequency": ("validate_every", "steps")}
_CLEANUP = "checkpoint_cleanup"
OVERRIDES = "training_overrides"


def translated(entries: Sequence[Entry], path: Path, known: Collection[str]) -> list[Entry]:
    """The entries with outlast's keys. A key that counts what a recipe has not is left out for it.

    Args:
        entries: the entries of an environment file.
        path: its path, for errors.
        known: the keys of the recipe's values.

    Raises:
        ConfigError: a value is no whole number above 0, or neither true nor false.
    """
    result: list[Entry] = []
    for entry in entries:
        if entry.key in _COUNTED:
            name, unit = _COUNTED[entry.key]
            if not str(entry.value).isdecimal() or int(str(entry.value)) < 1:
                raise ConfigError(
                    f"{path}:{entry.line}: {entry.key} is {shortened(repr(entry.value), 80)}; expected a whole number "
                    f"of at least 1, which counts {unit}. Other intervals are written as {name}."
                )
            if name in known and (unit != "epochs" or "num_workers" in known):
                result.append(replace(entry, key=name, value=f"{entry.value} {unit}"))
        elif entry.key == _CLEANUP:
            if not is_on(entry, path):
                result.append(replace(entry, key="keep_every", value="1"))
        else:
            result.append(entry)
    return result


def overrides(entry: Entry) -> bool:
    """Whether an entry is one of those that win over the same key elsewhere in their file."""
    return OVERRIDES in entry.path.split(".")[:-1]
