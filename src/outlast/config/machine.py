"""What an environment file states about its machine, besides values: bounds, a folder of inputs, settings of launches.

environment:
  constraints:               upper bounds on what is measured; sizes in GB, 10^9 bytes
    max_runtime_hours: 12      of the session, from its beginning
    max_disk_space_gb: 20      kept in all, as the platform keeps it
    ram_gb: 13                 of this process
    cpu_cores: 2
    gpu_memory_gb: 16          of each GPU
  paths:
    kaggle_input: FOLDER     a folder below which runs of earlier sessions are looked for
  kaggle: {accelerator: gpu} settings of `outlast launch --on kaggle`; so for the other platforms
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outlast.config.units import is_finite
from outlast.config.words import nearest
from outlast.config.yamlfile import Entry, expanded, read
from outlast.errors import ConfigError
from outlast.terminal import shortened

PLATFORMS = ("local", "kaggle", "gcp", "slurm", "colab")
"""Sections of an environment file with settings of launches; a test compares them with the environments."""

_CONSTRAINTS = "constraints."
_BOUNDS: Mapping[str, tuple[str, float]] = {
    "max_runtime_hours": ("seconds", 3600.0),
    "max_disk_space_gb": ("disk", 1e9),
    "ram_gb": ("ram", 1e9),
    "cpu_cores": ("cores", 1.0),
    "gpu_memory_gb": ("gpu_memory", 1e9),
}
"""Key -> name of the limit, and what one of it is in seconds, bytes or cores."""

_INPUTS = "kaggle_input"
_SECTIONS = (_CONSTRAINTS, *(f"{name}." for name in PLATFORMS))


@dataclass(frozen=True)
class Machine:
    """What an environment file states about its machine.

    Attributes:
        bounds: name of a limit -> the largest value, in seconds, bytes or cores.
        places: name of a limit -> file and line of its bound.
        inputs: a folder of inputs, or None.
        launch: settings of a launch by platform: key -> text or list, with file and line.
    """

    bounds: Mapping[str, float] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    inputs: Path | None = None
    launch: Mapping[str, Mapping[str, tuple[object, str]]] = field(default_factory=dict)


def is_of_machine(entry: Entry) -> bool:
    """Whether an entry of an environment file belongs here, and is no value of a config."""
    key = entry.key
    if f"{key}." in _SECTIONS:
        return entry.value in (None, {})  # a section with nothing in it
    return key == _INPUTS or key.startswith(_SECTIONS)


def read_machine(path: Path | None) -> Machine:
    """What an environment file states about its machine; nothing without a file.

    Raises:
        ConfigError: the file cannot be read, a bound is unknown, given twice or no positive number, or the folder is no
            path.
    """
    if path is None:
        return Machine()
    bounds: dict[str, float] = {}
    places: dict[str, str] = {}
    inputs: Path | None = None
    launch: dict[str, dict[str, tuple[object, str]]] = {}
    given: dict[str, int] = {}
    for entry in filter(is_of_machine, read(path, "environment")):
        where = f"{path}:{entry.line}"
        if (before := given.setdefault(entry.key, entry.line)) != entry.line:
            raise ConfigError(
                f"{where} gives {shortened(entry.key, 80)!r} a second time; line {before} gives it already. Remove one "
                "of them."
            )
        if entry.key.startswith(_CONSTRAINTS):
            name, value = _bound(entry, where)
            bounds[name], places[name] = value, where
        elif entry.key == _INPUTS:
            inputs = _folder(entry, where)
        elif "." in entry.key:
            platform, _, key = entry.key.partition(".")
            launch.setdefault(platform, {})[key] = (entry.value, where)
    return Machine(bounds, places, inputs, launch)


def _bound(entry: Entry, where: str) -> tuple[str, float]:
    """Name of the limit and its largest value."""
    key = entry.key.removeprefix(_CONSTRAINTS)
    if key not in _BOUNDS:
        raise ConfigError(
            f"{where} has an unknown key {shortened(entry.key, 80)!r}; expected one of "
            f"{', '.join(_BOUNDS)}.{nearest(key, _BOUNDS)}"
        )
    name, unit = _BOUNDS[key]
    try:
        value = float(entry.value) * unit
    except (TypeError, ValueError):
        value = 0.0
    if not is_finite(value) or value <= 0 or (name == "cores" and not value.is_integer()):
        what = "a whole number of at least 1" if name == "cores" else "a number above 0"
        raise ConfigError(f"{where}: {entry.key} is {shortened(repr(entry.value), 80)}; expected {what}.")
    return name, value


def _folder(entry: Entry, where: str) -> Path:
    if not isinstance(entry.value, str) or not entry.value or "\x00" in entry.value:
        raise ConfigError(f"{where}: {entry.key} is {shortened(repr(entry.value), 80)}; expected a path.")
    try:
        return Path(expanded(entry.value)).expanduser()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{where}: {entry.key} is {shortened(entry.value)!r}; expected {error}.") from error
