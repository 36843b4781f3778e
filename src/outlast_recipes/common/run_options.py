"""Options of the commands that need a trained run."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

import outlast


def add_checkpoint_arguments(parser: ArgumentParser) -> None:
    """Declare where the runs are, and which checkpoint is meant."""
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        default=Path("runs"),
        metavar="PATH",
        help="folder that holds the run folders (default: runs)",
    )
    parser.add_argument("--step", default="latest", help='step of a checkpoint, "latest" or "best" (default: latest)')


def add_run_arguments(parser: ArgumentParser, parts: Mapping[str, str]) -> None:
    """Declare the run, its checkpoint and its weights.

    Args:
        parser: of the command.
        parts: name of each part that holds weights, and what they are. The first is the default.
    """
    parser.add_argument("run", help="a run's name or folder")
    add_checkpoint_arguments(parser)
    default = next(iter(parts))
    words = ", ".join(f"{what} ({name})" for name, what in parts.items())
    parser.add_argument("--part", default=default, choices=tuple(parts), help=f"weights: {words} (default: {default})")


def make_folder(folder: Path) -> None:
    """Make a folder for results; raises outlast.DataError when that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = "is a file" if folder.is_file() else f"cannot be made a folder: {error.strerror}"
        raise outlast.DataError(f"--output is {folder}, which {found}; give another folder.") from error
