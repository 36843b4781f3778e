"""Whether RF-DETR is installed, and what is asked of a config; without importing it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re

import outlast

VERSION = "1.11.2"
"""The version whose networks are built here; their names of weights differ between versions."""

ARCHITECTURE = re.compile(r"rfdetr-(nano|small|medium|large)(-pose)?")

BLOCK = 32
"""Pixels that an image's side is a multiple of: two windows of patches of 16."""


def check_installed() -> None:
    """Raises outlast.ConfigError when RF-DETR is absent, or another version than the one that is known here."""
    missing = [name for name in ("rfdetr", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        raise outlast.ConfigError(
            f"model.architecture needs {' and '.join(missing)}, which cannot be found. Install the extra with: pip "
            'install "outlast[rfdetr]", or choose --model.architecture tiny.'
        )
    found = importlib.metadata.version("rfdetr")
    if found != VERSION:
        raise outlast.ConfigError(
            f"rfdetr {found} is installed, and this recipe was made for {VERSION}, whose inner parts it uses. Install "
            f"it with: pip install rfdetr=={VERSION}"
        )
