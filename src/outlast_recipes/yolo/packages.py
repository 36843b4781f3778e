"""The library that an architecture needs; the machine that launches a training reads this without it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re

import outlast
from outlast_recipes.yolo.config import YoloConfig

ULTRALYTICS = re.compile(r"yolo(11|26)([nsmlx])(-pose)?")
"""Architectures of ultralytics: family, scale, and whether it has keypoints."""

VERSION = "8.4.190"
"""The version whose trainer is subclassed here."""

HASH = "sha256:bd309728efa168af64d39040136828edd2dbcb4aeceb4510bdff4f3ca0ea01b8"
"""Of its wheel: PyPI's 8.3.41, .42, .45 and .46 had a miner in them. hashes.txt has the same."""


def packages(config: YoloConfig) -> tuple[str, ...]:
    """See `outlast.Recipe`."""
    if ULTRALYTICS.fullmatch(config.model.architecture):
        return (f"ultralytics=={VERSION} --hash={HASH}",)
    return ()


def check_installed(library: str, version: str, needed: tuple[str, ...], extra: str) -> None:
    """Refuse an architecture whose library is not there as it is known here, without importing it.

    Args:
        library: its distribution.
        version: the one whose inner parts are used.
        needed: modules that it must find.
        extra: of outlast, which installs them.

    Raises:
        outlast.ConfigError: a module is absent, or the version is another.
    """
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise outlast.ConfigError(
            f"model.architecture needs {' and '.join(missing)}, which cannot be found. Install the extra with: pip "
            f'install "outlast[{extra}]", or choose --model.architecture tiny.'
        )
    found = importlib.metadata.version(library)
    if found != version:
        raise outlast.ConfigError(
            f"{library} {found} is installed, and this recipe was made for {version}, whose inner parts it uses. "
            f"Install it with: pip install {library}=={version}"
        )
