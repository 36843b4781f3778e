"""outlast runs."""

from __future__ import annotations

from rich.text import Text

from outlast.cli import show
from outlast.cli.parser import Parser
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED
from outlast.folder.layout import RunFolder, runs_root
from outlast.launch.records import open_launch
from outlast.report import RunInfo, list_runs
from outlast.terminal import say, say_json


def run(argv: list[str]) -> int:
    """List the runs of a folder."""
    parser = Parser("outlast runs", "List runs with status and steps.")
    parser.add_runs_folder()
    parser.add_argument("--json", action="store_true", help="one JSON object per run")
    values = parser.parse(argv)
    root = runs_root(values.checkpoint_dir)
    left_out: list[str] = []
    found = list_runs(root, left_out)
    for sentence in left_out:
        say(f"warning: {sentence}", error=True)
    if values.json:
        for info in found:
            say_json(
                {
                    "run": info.id,
                    "recipe": info.about["recipe"],
                    "status": info.status,
                    "step": info.step,
                    "total_steps": info.total_steps,
                    "launched": launch.name if (launch := open_launch(RunFolder(info.folder))) else None,
                }
            )
        return EXIT_FINISHED
    if not found and not left_out:
        say(f"{root} holds no runs. `outlast train RECIPE` begins one; `outlast recipes` lists them.")
        return EXIT_FINISHED
    rows = show.table(
        "run", "recipe", "status", "step", "of", "attempts", "size", right=("step", "of", "attempts", "size")
    )
    for info in found:
        size = format_bytes(info.stored_bytes)
        rows.add_row(
            info.id,
            info.about["recipe"] or "(script)",
            _status(info),
            str(info.step),
            str(info.total_steps or "?"),
            str(len(info.numbers)),
            size,
        )
    show.draw(rows)
    return EXIT_FINISHED


def _status(info: RunInfo) -> Text:
    """A run's status; for an open launch, the provider where it may run."""
    launch = open_launch(RunFolder(info.folder))
    return show.word("running", f"on {launch.provider}") if launch else show.word(info.status)
