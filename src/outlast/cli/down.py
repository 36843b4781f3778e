"""outlast down [RUN]."""

from __future__ import annotations

from outlast.cli import launched
from outlast.errors import EXIT_FINISHED
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Delete a run's sessions and their files at the provider."""
    parser = launched.parser(
        "down",
        "Delete a finished run's sessions and their data at the provider. Their files must have been fetched.",
    )
    parser.add_argument(
        "--unfinished", action="store_true", help="also for an unfinished run, which then continues from this machine"
    )
    values = parser.parse(argv)
    record = launched.newest(values)
    from outlast.launch.down import down

    gone = down(record.folder, unfinished=values.unfinished)
    say(f"deleted: {', '.join(gone) or 'nothing to delete'}")
    return EXIT_FINISHED
