"""outlast fetch [RUN]."""

from __future__ import annotations

import sys
from pathlib import Path

from outlast.cli import launched
from outlast.errors import EXIT_FINISHED
from outlast.folder.copying import copy_tree
from outlast.launch import providers
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Fetch the files of the newest launched attempt of a run."""
    parser = launched.parser("fetch", "Fetch and verify the files of the newest launched attempt of a run.")
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="folder for an additional copy of the run folder"
    )
    values = parser.parse(argv)
    record = launched.newest(values)
    from rich.progress import Progress

    from outlast.launch.fetch import fetch
    from outlast.launch.watch import listen

    provider, folder = providers.of(record), record.folder.path
    say(f"{record.name}: {listen(provider, record)}")
    with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("files", total=None)
        told = fetch(provider, record, progress=lambda done, total: bar.update(task, completed=done, total=total))
    for sentence in told or ["Nothing is newer than the files on this machine."]:
        say(sentence)
    if values.output_dir:
        for sentence in copy_tree(folder, values.output_dir / folder.name):
            say(sentence)
        say(f"copied to {values.output_dir / folder.name}")
    say(f"Look at it with: {record.command('status')}")
    return EXIT_FINISHED
