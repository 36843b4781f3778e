"""outlast-launch.yaml in the project's folder: the defaults of `launch` and `relay`.

It never contains a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.config import yamltree
from outlast.config.machine import read_machine
from outlast.config.words import nearest
from outlast.errors import ConfigError
from outlast.folder import durable
from outlast.launch import providers
from outlast.launch.options import Option
from outlast.terminal import shortened

FILE = "outlast-launch.yaml"
_OWN = ("where", "user", "recipe")


@dataclass(frozen=True)
class Settings:
    """The launch settings of a project.

    Attributes:
        where: a provider's name, or None. (The key is not "on", which YAML reads as true.)
        user: the expected account. A login of another account is refused.
        recipe: the recipe that is launched if none is named.
        options: options of providers, by name.
    """

    where: str | None = None
    user: str | None = None
    recipe: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def read_settings(folder: Path = Path()) -> Settings:
    """The settings of a project's folder; the defaults if it has no file.

    Raises:
        ConfigError: the file has an unknown key or a wrong value.
    """
    place = folder / FILE
    if not place.exists():
        return Settings()
    node = yamltree.compose(place)
    found = yamltree.plain(node) if node else {}
    if not isinstance(found, dict):
        raise ConfigError(f"{place} holds {shortened(repr(found))}; expected keys and values. {_MEND}")
    known = _options()
    values: dict[str, Any] = {}
    for key, value in found.items():
        if key not in (*_OWN, *known):  # its value is not shown, because it may be a secret
            raise ConfigError(
                f"{place}: there is no setting {shortened(str(key), 60)!r}; expected {', '.join((*_OWN, *known))}. "
                f"{_MEND}"
            )
        try:
            values[key] = known[key].read(value) if key in known else _text(key, value)
        except ValueError as error:
            raise ConfigError(f"{place}: {key} is {shortened(repr(value))}; {error}. {_MEND}") from None
    own = {key: values.pop(key, None) for key in _OWN}
    return Settings(**own, options=values)


@dataclass(frozen=True)
class Stated:
    """Settings of a launch that an environment file states for one platform.

    Attributes:
        options: values of the provider's options, by name.
        places: file and line of each.
        remarks: sentences about what has another meaning here.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def stated_settings(platform: str, file: Path | None) -> Stated:
    """The settings of launches on a platform in an environment file; none without a file or a section.

    Raises:
        ConfigError: the platform is no provider, or a key or value is unknown.
    """
    found = read_machine(file).launch.get(platform, {})
    if not found:
        return Stated()
    if platform not in providers.NAMES:
        raise ConfigError(
            f"{next(iter(found.values()))[1]}: {platform} is no provider of sessions, so it has no settings; expected "
            f"one of {', '.join(providers.NAMES)}."
        )
    module = providers.module(platform)
    remarks = {option.name: option for option in getattr(module, "REMARKS", ())}
    known = {option.name: option for option in module.OPTIONS if option.setting} | remarks
    options: dict[str, Any] = {}
    places: dict[str, str] = {}
    words: list[str] = []
    for key, (value, place) in found.items():
        if key not in known:
            raise ConfigError(
                f"{place}: there is no setting {shortened(key, 60)!r} of launches on {platform}; expected one of "
                f"{', '.join(known)}.{nearest(key, known)}"
            )
        try:
            read, places[key] = known[key].read(value), place
        except ValueError as error:
            raise ConfigError(f"{place}: {platform}.{key} is {shortened(repr(value))}; {error}.") from None
        if key not in remarks:
            options[key] = read
        elif sentence := remarks[key].remark.get(read):
            words.append(f"{place}: {platform}.{key} is {read}: {sentence}")
    return Stated(options, places, tuple(words))


_MEND = "Correct it, or delete it and set up again."


def _text(key: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("expected text")
    if key == "where" and value is not None and value not in providers.NAMES:
        raise ValueError(f"expected one of {', '.join(providers.NAMES)}")
    return value


def _options() -> dict[str, Option]:
    """The options of all providers that this file may contain."""
    every = (option for name in providers.NAMES for option in providers.module(name).OPTIONS)
    return {option.name: option for option in every if option.setting}


def write_settings(settings: Settings, folder: Path = Path()) -> Path:
    """Write the settings with the options of their provider; returns the path."""
    import yaml

    place = folder / FILE
    options = providers.module(settings.where).OPTIONS if settings.where else ()
    chosen = {option.name: settings.options.get(option.name, option.default) for option in options if option.setting}
    text = "# Where `outlast launch` and `outlast relay` go. Flags win. No key belongs in here.\n"
    held = {key: getattr(settings, key) for key in _OWN} | chosen
    durable.write_file(place, [(text + yaml.safe_dump(held, sort_keys=False)).encode()])
    return place
