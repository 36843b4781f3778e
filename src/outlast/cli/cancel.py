"""outlast cancel [RUN]."""

from __future__ import annotations

from outlast.cli import launched
from outlast.errors import EXIT_FINISHED
from outlast.terminal import command, say


def run(argv: list[str]) -> int:
    """Stop the newest launched attempt of a run."""
    values = launched.parser("cancel", "Stop the newest launched attempt of a run; Kaggle saves its files.").parse(argv)
    record = launched.newest(values)
    from outlast.launch.kaggle import cancel, listen

    kaggle, slug = launched.account(record), record.record["slug"]
    state = listen(kaggle, record)
    if state not in ("queued", "running"):
        say(f"{slug} is not running ({state}); there is nothing to stop.")
        return EXIT_FINISHED
    say(
        f"Stopping {slug}. Its files are saved first, about two minutes a gigabyte; what came after its last save is lost."
    )
    cancel(kaggle, record)
    say(f"When it has ended, bring them home with: {command('outlast', 'fetch', record.folder.path.name)}")
    return EXIT_FINISHED
