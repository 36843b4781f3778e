"""Resolves layers to typed values with origins.

Priority, highest first: command line > train YAML (and the data and model YAML, which have other keys) > the values
that the run already has > environment YAML > default. A layer contains only the values that were given; no value, not
even 0 or false, means "not given". Limits are not a layer: afterwards, they reduce the values that may be reduced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from outlast.config.filelayer import Layer, LayerValue, Origin, file_layer
from outlast.config.schema import Config, Leaf, leaves
from outlast.config.typed import typed
from outlast.config.words import nearest, show
from outlast.errors import ANOTHER_NAME, ConfigError, ResumeRefused
from outlast.folder import hashing, layout
from outlast.terminal import shortened

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Change:
    """A field with another value than the run had before."""

    key: str
    before: Any
    after: Any
    origin: Origin
    rule: str

    def __str__(self) -> str:
        return f"{self.key} {shortened(show(self.before))} -> {shortened(show(self.after))} ({self.origin})"

    @property
    def sentence(self) -> tuple[str, str]:
        """The message for the user: level and sentence."""
        if self.rule == "warns":
            return "warning", f"{self}: from this step on, the training differs from the one that the run began with"
        return "info", str(self)


@dataclass(frozen=True)
class ResolvedConfig(Generic[C]):
    """A config and where each of its values came from.

    Attributes:
        config: the typed values.
        origins: dotted key -> origin.
        changes: the fields that differ from the values of the run, without fields of the machine.
        requested: values that a limit reduced: dotted key -> the value asked for.
    """

    config: C
    origins: Mapping[str, Origin]
    changes: tuple[Change, ...] = ()
    requested: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """Dotted key -> value as JSON has it."""
        return flatten(self.config)

    def record(self) -> dict[str, Any]:
        """The contents of config.json."""
        values = self.values
        return {
            "format": layout.FORMAT,
            "values": values,
            "origins": {key: str(origin) for key, origin in self.origins.items()},
            "on_resume": {leaf.key: leaf.on_resume for leaf in leaves(type(self.config))},
            "fingerprint": fingerprint(values),
        }


def fingerprint(values: Mapping[str, Any]) -> str:
    """A hash of values. It does not depend on their order."""
    return hashing.digest(json.dumps(values, sort_keys=True).encode())


def flatten(config: Config) -> dict[str, Any]:
    """Dotted key -> value as JSON has it."""
    dumped = config.model_dump(mode="json")
    flat = {}
    for leaf in leaves(type(config)):
        value: Any = dumped
        for name in leaf.key.split("."):
            value = value[name]
        flat[leaf.key] = value
    return flat


def resolve(
    model: type[C],
    *,
    limits: Mapping[str, float | None] | None = None,
    limits_of: str = "this machine",
    flags: Mapping[str, str | bool] | None = None,
    variables: Mapping[str, str] | None = None,
    environment_file: Path | None = None,
    data_file: Path | None = None,
    model_file: Path | None = None,
    train_file: Path | None = None,
    stored: Mapping[str, Any] | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> ResolvedConfig[C]:
    """Lay the layers over the defaults, type them, clamp them.

    Args:
        model: the recipe's config class.
        limits: name of a limit -> the largest value of the fields that declare this limit.
        limits_of: the environment of these limits, for origins.
        flags: dotted key -> text (or a boolean) as given on the command line.
        variables: dotted key -> the environment variable that gives its value; an empty one does not count.
        environment_file: preferences of this environment, or None.
        data_file: values of the `data` section, or None.
        model_file: values of the `model` section, or None.
        train_file: the train YAML, or None.
        stored: the run's config.json if this continues a run.
        earlier: of a new run of a chain, the config.json of the stage that it follows: it begins with its values.

    Raises:
        ConfigError: an unknown key, a wrong type, a missing file or a value over a limit. The message names the place.
        ResumeRefused: a fixed field was given another value.
    """
    known = {leaf.key: leaf for leaf in leaves(model)}
    stored = _with_later_fields(stored, known) if stored else stored
    before = stored or earlier
    layers: list[Layer] = [
        _places_layer(before, known),
        file_layer(environment_file, "environment", known),
        _variables_layer(variables or {}),
        _stored_layer(before, known),
        file_layer(data_file, "data", known),
        file_layer(model_file, "model", known),
        file_layer(train_file, "train", known),
        _flag_layer(flags or {}, known),
    ]
    given: dict[str, LayerValue] = {}
    for layer in layers:
        given.update(layer)
    config = typed(model, given)
    origins = {key: given[key].origin if key in given else Origin("default") for key in known}
    config, requested = _clamp(config, limits or {}, limits_of, known, origins)
    changes = _changes(flatten(config), stored, known, origins)
    return ResolvedConfig(config, origins, changes, requested)


def find_file(name: str) -> Path | None:
    """A file of configs/.

    The first that exists of: below the working folder, in the installed package, in the checkout.
    """
    places = (Path("configs"), Path(__file__).parents[1] / "configs", Path(__file__).parents[3] / "configs")
    return next((place / name for place in places if (place / name).is_file()), None)


def _variables_layer(variables: Mapping[str, str]) -> Layer:
    found = {key: (os.environ.get(name), Origin("environment", name)) for key, name in variables.items()}
    return {key: LayerValue(value, origin) for key, (value, origin) in found.items() if value}


def _with_later_fields(stored: Mapping[str, Any], known: Mapping[str, Leaf]) -> Mapping[str, Any]:
    """A run's config.json, and the values that it was trained with for fields that did not exist then."""
    values: Mapping[str, Any] = stored["values"]
    later = {key: leaf.extra["older"] for key, leaf in known.items() if "older" in leaf.extra and key not in values}
    origins = dict.fromkeys(later, "the run is older than this field")
    return {**stored, "values": {**values, **later}, "origins": {**stored.get("origins", {}), **origins}}


def _stored_layer(stored: Mapping[str, Any] | None, known: Mapping[str, Leaf]) -> Layer:
    if stored is None:
        return {}
    return {
        key: LayerValue(value, Origin("run", f"(was: {first_origin(stored['origins'].get(key, 'default'))})"))
        for key, value in stored["values"].items()
        if key in known and known[key].on_resume not in ("place", "session")
    }


def _places_layer(stored: Mapping[str, Any] | None, known: Mapping[str, Leaf]) -> Layer:
    """The previous data folder of a run, if it still exists; values for this machine win over it."""
    values: Mapping[str, Any] = stored["values"] if stored else {}
    return {
        key: LayerValue(value, Origin("run", "(was there before)"))
        for key, value in values.items()
        if key in known and known[key].on_resume == "place" and value and Path(value).exists()
    }


def first_origin(words: str) -> str:
    """The origin of a value when the run first had it, unchanged by later resumes."""
    while words.startswith("run (was: "):
        words = words.removeprefix("run (was: ").removesuffix(")")
    return words


def _flag_layer(flags: Mapping[str, str | bool], known: Mapping[str, Leaf]) -> Layer:
    unknown = next((key for key in flags if key not in known), None)
    if unknown:
        raise ConfigError(f"This recipe has no value {unknown!r}.{nearest(unknown, known)}")
    return {key: LayerValue(value, Origin("flag", f"--{key.replace('_', '-')}")) for key, value in flags.items()}


def _clamp(
    config: C, limits: Mapping[str, float | None], limits_of: str, known: Mapping[str, Leaf], origins: dict[str, Origin]
) -> tuple[C, dict[str, Any]]:
    """Reduce values over a limit that may be reduced, and refuse the others.

    Origins are changed in place.
    """
    requested: dict[str, Any] = {}
    values = flatten(config)
    for leaf in known.values():
        name, value = leaf.extra["limit"], values[leaf.key]
        limit = limits.get(name) if name else None
        if value is None or limit is None or value <= limit:
            continue
        if not leaf.extra["clampable"]:
            raise ConfigError(
                f"{leaf.key} is {show(value)} ({origins[leaf.key]}), and {limits_of} has {limit} {name}: give at most "
                f"{limit}."
            )
        requested[leaf.key] = value
        config = _with_value(config, leaf.key.split("."), limit)
        origins[leaf.key] = Origin(f"limit: {limits_of}", f"({limit} {name}; {origins[leaf.key]} asked for {value})")
    return config, requested


def _with_value(section: Any, path: list[str], value: Any) -> Any:
    inner = value if len(path) == 1 else _with_value(getattr(section, path[0]), path[1:], value)
    return section.model_copy(update={path[0]: inner})


def _changes(
    values: Mapping[str, Any],
    stored: Mapping[str, Any] | None,
    known: Mapping[str, Leaf],
    origins: Mapping[str, Origin],
) -> tuple[Change, ...]:
    if stored is None:
        return ()
    before: Mapping[str, Any] = stored["values"]
    changes = tuple(
        Change(key, before[key], value, origins[key], known[key].on_resume)
        for key, value in values.items()
        if key in before and before[key] != value and known[key].on_resume not in ("place", "session")
    )
    fixed = [change for change in changes if change.rule == "fixed"]
    if fixed:
        raise ResumeRefused(
            f"This run was begun with {fixed[0].key} {shortened(show(before[fixed[0].key]))}, and {fixed[0].origin} "
            f"now asks for {shortened(show(fixed[0].after))}; it cannot change during a run. Leave it out to "
            f"continue, or begin a new run under {ANOTHER_NAME}."
        )
    return changes
