"""Options of the commands that need a trained run."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path

import outlast

RUNS = Path(os.environ.get("OUTLAST_ROOT") or "runs")
"""The folder that holds the run folders, where no flag names another."""


def add_runs_folder(parser: ArgumentParser) -> None:
    """Declare where the runs are."""
    parser.add_argument(
        "--checkpoint-dir",
        "--root",
        type=Path,
        default=RUNS,
        metavar="PATH",
        help="folder that holds the run folders (default: OUTLAST_ROOT, or runs)",
    )


def add_checkpoint_arguments(parser: ArgumentParser) -> None:
    """Declare where the runs are, and which checkpoint is meant."""
    add_runs_folder(parser)
    parser.add_argument("--step", default="latest", help='step of a checkpoint, "latest" or "best" (default: latest)')


def add_seed(parser: ArgumentParser, of: str = "") -> None:
    """Declare a seed, which every generator takes.

    Args:
        parser: of the command.
        of: what it is the seed of.
    """
    words = f"seed of {of}" if of else "random seed"
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help=f"{words} (default: 0)")


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) >= 2**63:
        raise ArgumentTypeError(f"is {text!r}; expected a whole number from 0 to 2**63 - 1")
    return int(text)


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
