"""Whether RF-DETR is installed, and what is asked of a config; without importing it."""

from __future__ import annotations

import re

from outlast_recipes.yolo import packages

VERSION = "1.11.2"
"""The version whose networks are built here; their names of weights differ between versions."""

ARCHITECTURE = re.compile(r"rfdetr-(nano|small|medium|large)(-pose)?")

BLOCK = 32
"""Pixels that an image's side is a multiple of: two windows of patches of 16."""


def check_installed() -> None:
    """Raises outlast.ConfigError when RF-DETR is absent, or another version than the one that is known here."""
    packages.check_installed("rfdetr", VERSION, ("rfdetr", "torchvision"), "rfdetr")
