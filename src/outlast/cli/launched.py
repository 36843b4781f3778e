"""What logs, fetch and cancel share: the newest launch of a run, and the account it runs under."""

from __future__ import annotations

from typing import Any

from outlast.cli import show
from outlast.cli.flags import Parser
from outlast.errors import UnknownName
from outlast.files import RunFolder
from outlast.launch.records import LaunchRecord, all_launches


def parser(verb: str, description: str) -> Parser:
    """A parser for a verb about a launched run."""
    made = Parser(f"outlast {verb}", description)
    made.add_argument("run", help="the run's name")
    made.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    return made


def newest(values: Any) -> LaunchRecord:
    """The newest launch of the run that was named."""
    folder = RunFolder(show.root_of(values.checkpoint_dir) / values.run)
    found = all_launches(folder)
    if not found:
        raise UnknownName(
            f"The run {values.run!r} in {folder.path.parent} was never launched elsewhere. `outlast launch RECIPE --on kaggle` does that."
        )
    return found[-1]
