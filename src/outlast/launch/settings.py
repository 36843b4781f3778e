"""outlast-launch.yaml in the project's folder: the defaults of `launch` and `relay`.

No secret is ever in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.config import yamltree
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
        where: a provider's name (the key is not "on", which YAML takes for true), or None when nothing was set up.
        user: the account; a login of another one is refused.
        recipe: what is launched when no recipe is named.
        options: options of providers, by name.
    """

    where: str | None = None
    user: str | None = None
    recipe: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def read_settings(folder: Path = Path()) -> Settings:
    """The settings of a project's folder; the defaults when it has none.

    Raises:
        ConfigError: the file is not what `write_settings` writes.
    """
    place = folder / FILE
    if not place.exists():
        return Settings()
    node = yamltree.compose(place)
    found = yamltree.plain(node) if node else {}
    if not isinstance(found, dict):
        raise ConfigError(f"{place}: the whole is {shortened(repr(found))}; expected keys and values. {_MEND}")
    known = _options()
    values: dict[str, Any] = {}
    for key, value in found.items():
        if key not in (*_OWN, *known):  # its value is not shown: someone may have put a key there
            raise ConfigError(
                f"{place}: there is no setting {shortened(str(key), 60)!r}; expected {', '.join((*_OWN, *known))}. "
                f"{_MEND}"
            )
        try:
            values[key] = known[key].read(value) if key in known else _text(key, value)
        except ValueError as error:
            raise ConfigError(f"{place}: {key} is {shortened(repr(value))}: {error}. {_MEND}") from None
    own = {key: values.pop(key, None) for key in _OWN}
    return Settings(**own, options=values)


_MEND = "Correct it, or delete it and set up again."


def _text(key: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("expected text")
    if key == "where" and value is not None and value not in providers.NAMES:
        raise ValueError(f"expected one of {', '.join(providers.NAMES)}")
    return value


def _options() -> dict[str, Option]:
    """The options of all providers that this file may have."""
    every = (option for name in providers.NAMES for option in providers.module(name).OPTIONS)
    return {option.name: option for option in every if option.setting}


def write_settings(settings: Settings, folder: Path = Path()) -> Path:
    """Write the settings, with the options of their provider; returns the file."""
    import yaml

    place = folder / FILE
    options = providers.module(settings.where).OPTIONS if settings.where else ()
    chosen = {option.name: settings.options.get(option.name, option.default) for option in options if option.setting}
    text = "# Where `outlast launch` and `outlast relay` go. Flags win. No key belongs in here.\n"
    held = {key: getattr(settings, key) for key in _OWN} | chosen
    durable.write_file(place, [(text + yaml.safe_dump(held, sort_keys=False)).encode()])
    return place
