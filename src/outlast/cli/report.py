"""outlast report RUN..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.cli.named import runs_of
from outlast.cli.parser import Parser, output, positive
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED, OutlastError, UsageError
from outlast.folder import durable
from outlast.folder.layout import RunFolder, runs_root
from outlast.launch.records import all_launches
from outlast.report import read_run
from outlast.terminal import counted, say


def run(argv: list[str]) -> int:
    """Write the report of one or several runs."""
    parser = Parser(
        "outlast report",
        "Write a report of runs as one HTML file that needs no network: curves, sessions, time, config, pictures.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's name or folder (default: all runs)")
    parser.add_runs_folder()
    parser.add_argument(
        "--max-mb",
        type=positive,
        default=3.0,
        metavar="MB",
        help="largest size of the file in megabytes; pictures that do not fit are left out and named (default: 3)",
    )
    parser.add_argument("--md", action="store_true", help="print a summary in Markdown, for a pull request")
    parser.add_argument("--png", action="store_true", help="draw the curves of one run as a picture (needs matplotlib)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="output file (default: RUN_report.html; RUN_curves.png with --png; the terminal with --md)",
    )
    values = parser.parse(argv)
    folders = _folders(values.runs, values.checkpoint_dir)
    if values.md and values.png:
        raise UsageError("outlast report writes one file: give --md or --png, not both.")
    if values.md:
        return _print_markdown(folders, values.output, skip_damaged=not values.runs)
    if values.png:
        return _draw(folders, values.output)
    usual = f"{folders[0].resolve().name if len(folders) == 1 else 'runs'}_report.html"
    from outlast.report import page

    made = page.report(
        folders,
        output(Path(usual) if values.output is None else values.output, usual, (".html", ".htm")),
        launches=_launches(folders),
        largest=int(values.max_mb * 1e6),
        skip_damaged=not values.runs,
    )
    for sentence in made.told:
        say(sentence)
    say(f"{made.path}: {counted(made.runs, 'run')}, {format_bytes(made.size)}")
    return EXIT_FINISHED


def _print_markdown(folders: Sequence[Path], target: Path | None, *, skip_damaged: bool) -> int:
    """Print the summary, or write it to a file."""
    from outlast.report.markdown import markdown_of
    from outlast.report.page import read_runs

    place = None if target is None else output(target, "report.md", (".md", ".markdown", ".txt"))
    infos, told = read_runs(folders, skip_damaged=skip_damaged)
    text = markdown_of(infos)
    for sentence in told:
        say(f"warning: {sentence}", error=True)
    if place is None:
        say(*text.rstrip("\n").split("\n"))
    else:
        durable.make_folder(place.parent)
        durable.write_file(place, [text.encode("utf-8", "backslashreplace")])
        say(f"{place}: {counted(len(infos), 'run')}")
    return EXIT_FINISHED


def _draw(folders: Sequence[Path], target: Path | None) -> int:
    """Draw the curves of one run."""
    if len(folders) > 1:
        raise UsageError(
            f"outlast report --png draws one run, and {len(folders)} were named. Name one; `outlast report` shows "
            "several side by side."
        )
    from outlast.report import draw_curves
    from outlast.report.thinning import Curves

    (folder,) = folders
    usual = f"{folder.resolve().name}_curves.png"
    place = output(Path(usual) if target is None else target, usual, (".png", ".svg", ".pdf"))
    curves = Curves(read_run(folder).renamed)
    curves.more(RunFolder(folder).journal)
    if curves.trouble:
        raise curves.trouble
    known = curves.known
    say(f"{draw_curves(folder, place, known)}: {counted(len(known.series), 'metric')}. {known.thinned}".rstrip())
    return EXIT_FINISHED


def _folders(named: Sequence[str], root: str | None) -> list[Path]:
    """The folders of the named runs, each once, or of all runs."""
    if named:
        return list(dict.fromkeys(folder for name in named for folder in runs_of(name, root)))
    if found := [path.parent for path in sorted(runs_root(root).glob("*/run.json"))]:
        return found
    raise UsageError(
        f"{runs_root(root)} holds no runs, so there is nothing to report; `outlast recipes` lists what can be trained."
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
