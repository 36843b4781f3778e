"""Options that the commands for a trained run share."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

import outlast
from outlast_recipes.yolo.detector import Detector
from outlast_recipes.yolo.saved import restored

PARTS = {"best": "best on validation", "ema": "averaged at that step"}


def add_picture_arguments(parser: ArgumentParser) -> None:
    """Declare pictures, the least confidence, and where to write."""
    parser.add_argument("pictures", nargs="+", type=Path, help="image files, or folders of them")
    add_confidence(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="output folder for pictures (default: this folder)",
    )


def add_confidence(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--confidence", type=_share, default=0.25, metavar="SHARE", help="minimum score, 0 to 1 (default: 0.25)"
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text!r} is no share; expected 0 to 1")
    return value


def opened_run(values: Namespace) -> tuple[outlast.SavedCheckpoint, Detector]:
    """The checkpoint that the arguments name, and its detector."""
    saved = outlast.open_saved(values.run, root=values.checkpoint_dir, step=values.step)
    return saved, restored(saved, values.part)
