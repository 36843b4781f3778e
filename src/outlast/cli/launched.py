"""Shared code of the verbs for launched runs: finds the run and the launch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outlast.cli import show
from outlast.cli.flags import Parser
from outlast.errors import UnknownName
from outlast.folder.layout import RunFolder
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.table import PROVIDERS


def parser(verb: str, description: str) -> Parser:
    """A parser for a verb about a launched run."""
    made = Parser(f"outlast {verb}", description)
    made.add_argument("run", nargs="?", help="the run's name (default: the last launched run)")
    made.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    return made


def newest(values: Any) -> LaunchRecord:
    """The newest launch of the run that was named, or of all runs."""
    root = show.root_of(values.checkpoint_dir)
    folder = RunFolder(root / values.run) if values.run else last(root)
    found = all_launches(folder) if folder else []
    if not found:
        which = (
            f"The run {values.run!r} in {root} was never launched elsewhere."
            if values.run
            else f"No run in {root} was launched elsewhere yet."
        )
        raise UnknownName(f"{which} `outlast launch RECIPE --on {next(iter(PROVIDERS))}` does that.")
    return found[-1]


def last(root: Path) -> RunFolder | None:
    """The run that was launched last, or None."""
    records = [each for path in root.glob("*/launches") for each in all_launches(RunFolder(path.parent))]
    newest = max(records, key=lambda each: each.record["time"], default=None)
    return newest.folder if newest else None
