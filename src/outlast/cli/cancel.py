"""outlast cancel [RUN]."""

from __future__ import annotations

from outlast.cli import launched
from outlast.errors import EXIT_FINISHED
from outlast.launch import providers
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Stop the newest launched attempt of a run."""
    values = launched.parser("cancel", "Stop the newest launched attempt of a run; its files are saved.").parse(argv)
    record = launched.newest(values)
    from outlast.launch.watch import listen

    provider, name = providers.of(record), record.name
    state = listen(provider, record)
    if state not in ("queued", "running"):
        say(f"{name} is not running ({state}); there is nothing to stop.")
        return EXIT_FINISHED
    say(f"Stopping {name}. Its files are saved first; the steps after its last save are lost.")
    provider.cancel(record.handle)
    say(f"When it has ended, bring them home with: {record.command('fetch')}")
    return EXIT_FINISHED
