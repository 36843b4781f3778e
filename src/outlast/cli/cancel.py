"""outlast cancel RUN."""

from __future__ import annotations

from outlast.cli import launched
from outlast.errors import EXIT_FINISHED, UsageError


def run(argv: list[str]) -> int:
    """Stop the newest launched attempt of a run."""
    values = launched.parser("cancel", "Stop the newest launched attempt of a run; Kaggle saves its files.").parse(argv)
    record = launched.newest(values)
    from outlast.launch.kaggle import Kaggle, find_credential
    from outlast.launch.kaggle.launch import listen

    kaggle = Kaggle(find_credential())
    slug = record.record["slug"]
    state = listen(kaggle, record)
    if state not in ("queued", "running"):
        print(f"{slug} is not running ({state}); there is nothing to stop.")
        return EXIT_FINISHED
    session = record.record.get("session", "")
    if not session.isdigit():
        raise UsageError(
            f"{slug} is {state} and has not printed its session id yet, without which Kaggle stops nothing. Try again when it runs; or delete it in the "
            "browser, which also deletes what it has saved."
        )
    print(
        f"Stopping {slug}. Its files are saved first, about two minutes a gigabyte; what came after its last save is lost."
    )
    kaggle.cancel(int(session))
    print(f"When it has ended, bring them home with: outlast fetch {values.run}")
    return EXIT_FINISHED
