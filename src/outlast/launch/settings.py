"""outlast-launch.yaml in the project's folder: what `launch` and `relay` take when no flag says otherwise. No secret is ever in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from outlast.config import yamlfile
from outlast.errors import ConfigError
from outlast.folder import durable
from outlast.terminal import shortened

FILE = "outlast-launch.yaml"


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")
    where: Literal["kaggle"] | None = None
    user: str | None = None
    recipe: str | None = None
    accelerator: Literal["t4x2", "tpu", "cpu"] = "t4x2"
    internet: bool = True
    secrets: bool = False


@dataclass(frozen=True)
class Settings:
    """Where and how to launch.

    Attributes:
        where: "kaggle" (not "on", which YAML takes for true), or None when nothing was set up.
        user: the account; a login of another one is refused.
        recipe: what is launched when no recipe is named.
        accelerator: "t4x2", "tpu" or "cpu".
        internet: whether sessions may reach the outside.
        secrets: whether the dataset of `outlast kaggle secrets push` is attached.
    """

    where: str | None = None
    user: str | None = None
    recipe: str | None = None
    accelerator: str = "t4x2"
    internet: bool = True
    secrets: bool = False


def read_settings(folder: Path = Path()) -> Settings:
    """The settings of a project's folder; the defaults when it has none.

    Raises:
        ConfigError: the file is not what `write_settings` writes.
    """
    place = folder / FILE
    if not place.exists():
        return Settings()
    node = yamlfile.compose(place)
    try:
        return Settings(**_Fields.model_validate(yamlfile.plain(node) if node else {}).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        if first["type"] == "extra_forbidden":  # its value is not shown: somebody may have put a key there
            raise ConfigError(
                f"{place}: there is no setting {shortened(key, 60)!r}; expected {', '.join(_Fields.model_fields)}. Mend it, or run `outlast kaggle setup` again."
            ) from None
        raise ConfigError(
            f"{place}: {key} is {shortened(repr(first['input']))}: {first['msg']}. Mend it, or run `outlast kaggle setup` again."
        ) from None


def write_settings(settings: Settings, folder: Path = Path()) -> Path:
    """Write the settings; returns the file."""
    import yaml

    place = folder / FILE
    text = "# Where `outlast launch` and `outlast relay` go. Flags win. No key belongs in here.\n"
    durable.write_file(place, [(text + yaml.safe_dump(asdict(settings), sort_keys=False)).encode()])
    return place
