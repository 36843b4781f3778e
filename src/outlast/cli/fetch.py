"""outlast fetch RUN."""

from __future__ import annotations

import sys

from outlast.cli import launched
from outlast.errors import EXIT_FINISHED


def run(argv: list[str]) -> int:
    """Bring home what the newest launched attempt of a run has left."""
    values = launched.parser("fetch", "Bring home what the newest launched attempt of a run has left, verified.").parse(
        argv
    )
    record = launched.newest(values)
    from rich.progress import Progress

    from outlast.launch.kaggle import Kaggle, find_credential
    from outlast.launch.kaggle.launch import fetch, listen

    kaggle = Kaggle(find_credential())
    print(f"{record.record['slug']}: {listen(kaggle, record)}")
    with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("files", total=None)
        told = fetch(kaggle, record, progress=lambda done, total: bar.update(task, completed=done, total=total))
    for sentence in told or ["Nothing newer than what is here."]:
        print(sentence)
    print(f"Look at it with: outlast status {values.run}")
    return EXIT_FINISHED
