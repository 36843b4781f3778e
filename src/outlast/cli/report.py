"""outlast report RUN..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.cli import show
from outlast.cli.flags import output
from outlast.cli.named import runs_of
from outlast.cli.parser import Parser, positive
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED, OutlastError, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch.records import all_launches
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Write the report of one or several runs."""
    parser = Parser(
        "outlast report",
        "Write a report of runs as one HTML file that needs no network: curves, sessions, time, config, pictures.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's name or folder (default: all runs)")
    parser.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    parser.add_argument(
        "--max-mb",
        type=positive,
        default=3.0,
        metavar="MB",
        help="largest size of the file in megabytes; pictures that do not fit are left out and named (default: 3)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="output file (default: RUN_report.html)")
    values = parser.parse(argv)
    folders = _folders(values.runs, values.checkpoint_dir)
    usual = f"{folders[0].resolve().name if len(folders) == 1 else 'runs'}_report.html"
    from outlast.report import page

    made = page.report(
        folders,
        output(Path(usual) if values.output is None else values.output, usual),
        launches=_launches(folders),
        largest=int(values.max_mb * 1e6),
    )
    for sentence in made.told:
        say(sentence)
    say(f"{made.path}: {len(folders)} run{'s' if len(folders) > 1 else ''}, {format_bytes(made.size)}")
    return EXIT_FINISHED


def _folders(named: Sequence[str], root: str | None) -> list[Path]:
    """The folders of the named runs, each once, or of all runs."""
    if named:
        return list(dict.fromkeys(folder for name in named for folder in runs_of(name, root)))
    if found := [path.parent for path in sorted(show.root_of(root).glob("*/run.json"))]:
        return found
    raise UsageError(
        f"{show.root_of(root)} holds no runs, so there is nothing to report; `outlast recipes` lists what can be "
        "trained."
    )


def _launches(folders: Sequence[Path]) -> dict[str, list[Mapping[str, Any]]]:
    """The launch records of each run; one that cannot be read is told, and the report goes without."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for folder in folders:
        try:
            found[folder.name] = [each.record for each in all_launches(RunFolder(folder))]
        except OutlastError as error:
            say(f"warning: the launches of {folder.name} are left out. {error}", error=True)
    return found
