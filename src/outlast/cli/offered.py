"""outlast VERB RECIPE: the verbs of a recipe."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from outlast.cli import VERBS
from outlast.cli.parser import Parser
from outlast.config.units import format_bytes
from outlast.config.words import nearest
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.recipe.recipe import Tell
from outlast.recipe.registry import find, loaded
from outlast.terminal import say


def run(verb: str, argv: list[str]) -> int:
    """Run a recipe's verb and print its lines."""
    found = loaded(find(argv[0]))
    command = next((command for command in found.commands if command.name == verb), None)
    if command is None:
        offers = [command.name for command in found.commands]
        own = f"has the verbs {', '.join(offers)}" if offers else "has no verbs of its own"
        raise UsageError(
            f"There is no verb {verb!r}.{nearest(verb, [*VERBS, *offers])} The recipe {found.name!r} {own}; `outlast "
            "--help` lists the others."
        )
    parser = Parser(f"outlast {verb} {argv[0]}", command.summary)
    command.arguments(parser)
    values = parser.parse(argv[1:])
    with bar(command.unit) as tell:
        for line in command.run(values, tell):
            say(*line.split("\n"))
    return EXIT_FINISHED


@contextlib.contextmanager
def bar(unit: str = "") -> Iterator[Tell]:
    """Shows progress: a bar on a terminal, lines elsewhere. `unit`: as that of a `Command`."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _drawn(unit) as drawn:
            yield drawn
        return
    begin = heard = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal heard
        now = time.monotonic()
        if now - heard >= 5 and done < total:
            heard = now
            shown = (format_bytes(done), format_bytes(total)) if unit == "bytes" else (done, total)
            say(f"{shown[0]} of {shown[1]}, {(now - begin) / max(done, 1) * (total - done):.0f} s to go", error=True)

    yield line


@contextlib.contextmanager
def _drawn(unit: str) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    count: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
    )
    drawn = Progress(BarColumn(), *count, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    task = drawn.add_task("", total=None)

    def move(done: int, total: int) -> None:
        drawn.start()
        drawn.update(task, completed=done, total=total)
        if done >= total:
            drawn.stop()

    try:
        yield move
    finally:
        drawn.stop()  # also when the command fails or is interrupted: the cursor comes back
