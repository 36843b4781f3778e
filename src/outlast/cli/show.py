"""What several verbs print."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from outlast.config import show
from outlast.config.units import format_bytes
from outlast.recipe import Prepared

STYLES = {
    "finished": "green", "running": "cyan", "interrupted": "yellow", "pending": "bright_black", "failed": "red", "cancelled": "yellow",
    "budget": "yellow", "preempted": "yellow", "lost": "red",
}  # fmt: skip
"""Colours of run statuses and end reasons."""


def console() -> Console:
    """Standard output; wide enough for tables where it is no terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=120)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines, as a terminal program's output should be easy to cut and grep."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def word(text: str) -> Text:
    """A status or end reason in its colour."""
    return Text(text, style=STYLES.get(text, ""))


def heading(prepared: Prepared) -> None:
    """Three lines before training: what, where, with what."""
    config, environment = prepared.resolved.config, prepared.environment
    print(
        f"recipe {prepared.recipe.name} · environment {environment.name} · {environment.limits.cores} cores · {format_bytes(environment.limits.ram)} RAM"
    )
    given = [f"{key} {show(value)}" for key, value in prepared.given.items()]
    warnings(prepared)
    print(
        f"run {prepared.folder.path} · epochs {config.epochs} · batch size {config.batch_size} · seed {config.seed}{' · given: ' + ', '.join(given) if given else ''}"
    )
    for key, value in prepared.resolved.requested.items():
        print(f"{key} {value} is reduced to {prepared.resolved.values[key]}: {prepared.resolved.origins[key]}")


def warnings(prepared: Prepared) -> None:
    """What a user should know before it matters."""
    environment = prepared.environment
    if detected := environment.facts.get("detected"):
        print(
            f"warning: this machine is {detected}; it is treated as {environment.name}, with the paths and preferences of "
            f"{prepared.environment_file}"
        )


def prepared(prepared: Prepared) -> None:
    """Every value with its origin."""
    rows = table("value", "", "from")
    for key, value in prepared.resolved.values.items():
        origin = prepared.resolved.origins[key]
        rows.add_row(
            key, Text(show(value)), Text(str(origin), style="bright_black" if origin.layer == "default" else "")
        )
    heading_text = f"recipe {prepared.recipe.name}, run {prepared.run_id}, environment {prepared.environment.name}"
    print(f"{heading_text} ({prepared.environment_file or 'no environment file'})")
    console().print(rows)


def root_of(value: str | None) -> Path:
    """The folder of runs that a verb looks in."""
    return Path(value or "runs")
