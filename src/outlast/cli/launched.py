"""Shared code of the verbs for launched runs: finds the run and the launch."""

from __future__ import annotations

from typing import Any

from outlast.cli import show
from outlast.cli.flags import Parser
from outlast.cli.named import last_launched, launched_or_trained
from outlast.errors import UnknownName
from outlast.folder.layout import RunFolder
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.table import PROVIDERS
from outlast.terminal import command


def parser(verb: str, description: str) -> Parser:
    """A parser for a verb about a launched run."""
    made = Parser(f"outlast {verb}", description)
    made.add_argument("run", nargs="?", help="the run's name (default: the last launched run)")
    made.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    return made


def newest(values: Any) -> LaunchRecord:
    """The newest launch of the run that was named, or of all runs.

    Raises:
        UnknownName: there is no such run, or it was never launched.
    """
    root = show.root_of(values.checkpoint_dir)
    folder = RunFolder(launched_or_trained(values.run, values.checkpoint_dir)) if values.run else last_launched(root)
    found = all_launches(folder) if folder else []
    if not found:
        which = f"The run {folder.path.name!r} in {root}" if folder else f"No run in {root}"
        never = "was never launched elsewhere" if folder else "was launched elsewhere yet"
        start = command("outlast", "launch", "RECIPE", "--on", next(iter(PROVIDERS)))
        raise UnknownName(f"{which} {never}, so no session of it is known. `{start}` starts one.")
    return found[-1]
