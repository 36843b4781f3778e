"""The library that an architecture needs; the machine that launches a training reads this without it."""

from __future__ import annotations

import re

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
