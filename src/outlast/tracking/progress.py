"""The progress line: rich on a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from outlast.config.units import format_bytes, format_seconds
from outlast.terminal import lines, measured, shortened
from outlast.tracking.sink import Progress, RunFacts, SaveFacts, Sink
from outlast.tracking.timing import TimeSpent

_ENDS = {
    "finished": "finished",
    "budget": "the session's time is up; start it again to continue",
    "preempted": "stopped from outside; start it again to continue",
    "cancelled": "interrupted; start it again to continue",
    "failed": "failed",
}


STYLES = ("auto", "rich", "plain", "json", "none")


def choose(style: str = "auto", stream: TextIO | None = None) -> Sink:
    """The sink for a style: auto, rich, plain, json or none."""
    stream = stream or sys.stderr
    if style == "auto":
        style = "rich" if stream.isatty() and os.environ.get("TERM") != "dumb" else "plain"
    kinds: dict[str, Callable[[TextIO], Sink]] = {"rich": RichLine, "plain": PlainLines, "json": JsonLines}
    return kinds.get(style, WarningLines)(stream)


class WarningLines(Sink):
    """Prints only warnings: the style "none".

    Args:
        stream: the output.
        speaker: the beginning of each line.
    """

    def __init__(self, stream: TextIO, speaker: str = "warning") -> None:
        self.stream, self.speaker = stream, speaker

    def told(self, level: str, sentence: str) -> None:
        if level == "warning":
            self.stream.write(f"outlast: {self.speaker}: {lines(sentence)}\n")
            self.stream.flush()


class OtherRank(WarningLines):
    """Prints the warnings of a rank other than 0, with its number.

    Args:
        rank: the number.
        stream: the output.
    """

    def __init__(self, rank: int, stream: TextIO | None = None) -> None:
        super().__init__(stream or sys.stderr, f"rank {rank}")


class PlainLines(Sink):
    """Prints whole lines, for logs such as Kaggle's: often at the beginning, then rarely.

    Args:
        stream: the output.
        every: seconds between two lines about progress.
    """

    def __init__(self, stream: TextIO, every: float = 15.0) -> None:
        self.stream, self.every = stream, every
        self._next = 0.0
        self._why = self._stages = ""

    def started(self, facts: RunFacts, config: Mapping[str, Any]) -> None:
        self._stages = f"{facts.stages} · " if facts.stages else ""
        run, step, total = f"outlast: run {facts.id}, attempt {facts.attempt}", facts.step, facts.total_steps
        if total is not None and 0 < total <= step:
            self._line(f"{run}: all {total} steps are done; ask for more to train on")
            return
        where = (
            f"continues after step {step}{f' of {total}' if total else ''}"
            if step
            else f"begins{f': {total} steps' if total else ''}"
        )
        self._line(f"{run} {where}")
        self._next = time.monotonic() + 1.0

    def progressed(self, progress: Progress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.every
            self._line(self._stages + describe(progress))

    def saved(self, save: SaveFacts) -> None:
        self._line(f"saved step {save.step} ({save.reason}, {format_bytes(save.size)} in {save.seconds:.2f} s)")

    def told(self, level: str, sentence: str) -> None:
        self._line(f"{level}: {sentence}" if level != "info" else sentence)

    def stopping(self, reason: str, sentence: str) -> None:
        # A signal may have come in the middle of a print; the stream's own lock must not be asked for again.
        self._why = sentence if reason == "preempted" else ""
        text = f"outlast: {lines(sentence)}; saving at the end of this step\n".encode(errors="backslashreplace")
        try:
            os.write(self.stream.fileno(), text)
        except (OSError, ValueError):
            return

    def ended(self, reason: str, step: int, total: int | None) -> None:
        words = (
            f"stopped ({self._why}); start it again to continue"
            if self._why and reason == "preempted"
            else _ENDS.get(reason, reason)
        )
        self._line(f"outlast: step {step}{f' of {total}' if total else ''}: {words}")

    def _line(self, text: str) -> None:
        self.stream.write(lines(text) + "\n")
        self.stream.flush()


class RichLine(PlainLines):
    """One line that is drawn again, with messages above it.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._text = Text
        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=5, transient=True)

    def started(self, facts: RunFacts, config: Mapping[str, Any]) -> None:
        super().started(facts, config)
        self._live.start()

    def progressed(self, progress: Progress) -> None:
        share = progress.step / progress.total if progress.total else 0.0
        width = 24
        bar = "━" * round(width * share)
        text = self._text.assemble(
            (bar, "green"), ("━" * (width - len(bar)), "bright_black"), " ", self._stages + describe(progress)
        )
        text.truncate(max(20, self._console.width - 1), overflow="ellipsis")
        self._live.update(text)

    def closed(self) -> None:
        self._live.stop()

    def ended(self, reason: str, step: int, total: int | None) -> None:
        self._live.stop()
        super().ended(reason, step, total)

    def _line(self, text: str) -> None:
        style = "yellow" if text.startswith("warning") else "bold" if text.startswith("outlast:") else "bright_black"
        self._console.print(lines(text), style=style, markup=False, soft_wrap=True)


class JsonLines(Sink):
    """Prints one JSON object per line, for other programs.

    Args:
        stream: the output.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def started(self, facts: RunFacts, config: Mapping[str, Any]) -> None:
        self._send("started", run=facts.id, attempt=facts.attempt, step=facts.step, total=facts.total_steps)

    def rewound(self, step: int) -> None:
        self._send("rewound", step=step)

    def logged(self, record: Mapping[str, Any]) -> None:
        self._send("logged", **record)

    def progressed(self, progress: Progress) -> None:
        self._send(
            "progressed",
            step=progress.step,
            total=progress.total,
            epoch=progress.epoch,
            steps_per_second=round(progress.rate, 3),
            seconds_to_go=progress.eta,
            session_seconds_left=progress.seconds_left,
            seconds_to_next_save=progress.next_save,
        )

    def timed(self, step: int, rate: float, spent: TimeSpent) -> None:
        self._send("timed", step=step, steps_per_second=round(rate, 3), seconds=spent.as_json())

    def saved(self, save: SaveFacts) -> None:
        self._send(
            "saved",
            step=save.step,
            reason=save.reason,
            seconds=round(save.seconds, 4),
            bytes=save.size,
            held=round(save.held, 4),
        )

    def artifact(self, name: str, path: Path) -> None:
        self._send("artifact", name=name, path=str(path))

    def told(self, level: str, sentence: str) -> None:
        self._send("told", level=level, sentence=sentence)

    def ended(self, reason: str, step: int, total: int | None) -> None:
        self._send("ended", reason=reason, step=step, total=total)

    def _send(self, event: str, /, **facts: Any) -> None:
        self.stream.write(json.dumps({"event": event} | facts | {"event": event}) + "\n")
        self.stream.flush()


def describe(progress: Progress) -> str:
    """Step, rate, last metrics, ETA, session left and next save, on one line."""
    parts = [f"step {progress.step}{f'/{progress.total}' if progress.total else ''}"]
    if progress.epoch:
        parts[0] += f" (epoch {progress.epoch})"
    if progress.rate:
        parts.append(f"{progress.rate:.1f} steps/s" if progress.rate >= 1 else f"{1 / progress.rate:.1f} s/step")
    parts.extend(f"{shortened(name, 60)} {measured(value)}" for name, value in list(progress.metrics.items())[:4])
    if progress.eta is not None:
        parts.append(f"{format_seconds(progress.eta)} to go")
    if progress.seconds_left is not None:
        parts.append(f"session {format_seconds(progress.seconds_left)}")
    if progress.next_save is not None:
        parts.append(f"save in {format_seconds(progress.next_save)}")
    return " · ".join(parts)
