"""Output that several verbs share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.table import Table
from rich.text import Text

from outlast.config import show
from outlast.config.units import format_bytes, format_seconds
from outlast.terminal import say, shortened, visible

if TYPE_CHECKING:
    from outlast.environment import Environment
    from outlast.recipe.prepare import PreparedRun

STYLES = {
    "finished": "green", "running": "cyan", "interrupted": "yellow", "pending": "bright_black", "failed": "red",
    "cancelled": "yellow", "budget": "yellow", "preempted": "yellow", "lost": "red",
}  # fmt: skip
"""Colours of run statuses and end reasons."""


def console() -> Console:
    """A console on standard output, wide enough for tables if it is not a terminal. Text is never parsed as markup."""
    found = Console(highlight=False, markup=False, emoji=False)
    return found if found.is_terminal else Console(highlight=False, markup=False, emoji=False, width=120)


class Rows(Table):
    """A table for untrusted text: control characters are escaped, and text is never parsed as markup."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row; a cell is a rich Text (a status in its colour) or anything that has a text."""
        super().add_row(*(cell if isinstance(cell, Text) else Text(visible(cell)) for cell in cells), **options)

    def lines(self, width: int, paint: Callable[[str, Any], str]) -> list[str] | None:
        """The table as lines of text, as rich draws it, in a fifth of the time; None if it has to be wrapped.

        Args:
            width: of the console.
            paint: gives a text a style.
        """
        cells = [[cell for cell in column.cells if isinstance(cell, Text)] for column in self.columns]
        if any(len(found) != self.row_count or any(cell.spans for cell in found) for found in cells):
            return None
        heads = [str(column.header) for column in self.columns]
        texts = [[cell.plain for cell in found] for found in cells]
        if any("\n" in text or "\t" in text for found in (*texts, heads) for text in found):
            return None
        lengths = [[cell_len(text) for text in (head, *found)] for head, found in zip(heads, texts, strict=True)]
        widths = [max(found) for found in lengths]
        if sum(widths) + 2 * (len(widths) - 1) > width:
            return None
        drawn = []
        for index in range(0 if self.show_header else 1, self.row_count + 1):
            parts = []
            for number, column in enumerate(self.columns):
                cell = cells[number][index - 1] if index else None
                text = texts[number][index - 1] if index else heads[number]
                style = self.header_style if cell is None else cell.style
                blank = " " * (widths[number] - lengths[number][index])
                shown = paint(text, style) if style and text else text
                parts.append(blank + shown if column.justify == "right" else shown + blank)
            drawn.append("  ".join(parts))
        return drawn


def draw(rows: Rows) -> None:
    """Print a table on standard output."""
    out = console()
    colours = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}
    system = None if out.no_color else colours.get(out.color_system or "")

    def paint(text: str, style: Any) -> str:
        return text if system is None else out.get_style(style).render(text, color_system=system)

    lines = rows.lines(out.width, paint)
    if lines is None:
        out.print(rows)
    else:
        say_lines(lines)


def say_lines(lines: Sequence[str]) -> None:
    """Print lines whose text is visible already, and which may have styles."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def table(*columns: str, right: tuple[str, ...] = ()) -> Rows:
    """A table without lines, so that the output is easy to cut and grep."""
    made = Rows(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


@contextlib.contextmanager
def bytes_bar(words: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar in bytes on stderr, if that is a terminal; yields a function that receives the bytes done."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # only when needed

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    drawn = Console(stderr=True)
    with Progress(*columns, console=drawn, transient=True, disable=not drawn.is_terminal) as bar:
        task = bar.add_task(words, total=total)
        yield lambda size: bar.advance(task, size)


def word(reason: str, words: str | None = None) -> Text:
    """A status or end reason in its colour, or another text in that colour."""
    return Text(visible(reason if words is None else words), style=STYLES.get(reason, ""))


def heading(prepared: PreparedRun) -> None:
    """Three lines before training: recipe and environment, paths, and given values."""
    environment = prepared.environment
    say(
        f"recipe {prepared.recipe.name} · environment {environment.name} · {environment.limits.cores} cores · "
        f"{format_bytes(environment.limits.ram)} RAM"
    )
    given = [f"{key} {shortened(show(value))}" for key, value in prepared.given.items()]
    warnings(prepared)
    values = prepared.resolved.values
    size = [
        f"{name.replace('_', ' ')} {values[name]}"
        for name in ("epochs", "batch_size", "seed")
        if values.get(name) is not None
    ]
    say(" · ".join([f"run {prepared.folder.path}", *size, *(["given: " + ", ".join(given)] if given else [])]))
    for key, value in prepared.resolved.requested.items():
        say(f"{key} {value} is reduced to {prepared.resolved.values[key]}: {prepared.resolved.origins[key]}")


def warnings(prepared: PreparedRun) -> None:
    """Warnings for the user."""
    environment = prepared.environment
    if detected := environment.facts.get("detected"):
        say(
            f"warning: this machine is {detected}; it is treated as {environment.name}, with the paths and preferences "
            f"of {prepared.environment_file}"
        )


def prepared(prepared: PreparedRun) -> None:
    """A table of every value with its origin."""
    rows = table("value", "", "from")
    for key, value in prepared.resolved.values.items():
        origin = prepared.resolved.origins[key]
        rows.add_row(
            key,
            shortened(show(value)),
            Text(visible(origin), style="bright_black" if origin.layer == "default" else ""),
        )
    heading_text = f"recipe {prepared.recipe.name}, run {prepared.run_id}, environment {prepared.environment.name}"
    say(f"{heading_text} ({prepared.environment_file or 'no environment file'})")
    console().print(rows)
    _print_limits(prepared)
    _print_launch(prepared)


def bound(environment: Environment, name: str) -> str:
    """The origin of a limit: measured, or the place of a bound and what was measured; `name` is one of `Limits`."""
    place = environment.limits.places.get(name)
    if place is None:
        return "measured"
    measured = environment.limits.measured[name]
    words = "no limit" if measured is None else _quantity(name, measured)
    return f"environment {place} ({words} measured)"


def _quantity(name: str, value: float) -> str:
    if name == "cores":
        return f"{value:.0f}"
    return format_seconds(value) if name == "seconds" else format_bytes(value)


def _print_limits(prepared: PreparedRun) -> None:
    """The limits of this session with their origins, if the environment file bounds one."""
    environment, limits = prepared.environment, prepared.environment.limits
    if not limits.places:
        return
    memory = max((gpu.memory for gpu in limits.gpus), default=None)
    found = {
        "seconds": ("session", limits.seconds),
        "disk": ("disk, kept", limits.disk),
        "ram": ("memory", limits.ram),
        "cores": ("cores", limits.cores),
        "gpu_memory": ("memory of a GPU", memory),
    }
    rows = table("limit", "", "from")
    for name, (words, value) in found.items():
        if value is not None:
            rows.add_row(words, _quantity(name, value), bound(environment, name))
    console().print(rows)


def _print_launch(prepared: PreparedRun) -> None:
    """The settings of launches that the environment file states, with their places; refuses unknown ones."""
    from outlast.config.machine import read_machine
    from outlast.launch.settings import stated_settings

    rows = table("launch", "", "from")
    for platform in read_machine(prepared.environment_file).launch:
        stated = stated_settings(platform, prepared.environment_file)
        for key, value in stated.options.items():
            rows.add_row(f"--on {platform} --{key}", show(value), f"environment {stated.places[key]}")
        say(*stated.remarks)
    if rows.row_count:
        console().print(rows)
