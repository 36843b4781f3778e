"""make demo: a model in three sessions, two of which are interrupted, and an uninterrupted twin.

    twin       trains without interruption, and measures the speed of this machine
    session 1  trains the same, and stops when its time budget is used up, about half of the time that it needs
    session 2  is killed with kill -9 in the middle of a step
    session 3  finishes the run

Then every byte of the two final states is compared. `--svg FILE` also draws the last screen, for the README.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from outlast.cli.status import attempts_table
from outlast.folder.hashing import WrittenFile, digest
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.report import RunInfo, read_run

ROOT = Path("demo-runs")
EVERY, STEPS = 40, 720  # steps between two saves, and in all
COMMON = ["train", "digits", "--checkpoint-dir", str(ROOT), "--save-every", f"{EVERY} steps"]
STOP_AT, KILL_AFTER = 320, 560  # the step that the budget is for, and the save after which session 2 is killed
RESERVE = 1.0  # seconds that outlast keeps back to save

# rich's own template fetches fonts from the network; this one uses what the reader has.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
 aria-label="Last screen of make demo">
<style>.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
 line-height: {line_height}px; }} {styles}</style>
<rect width="{width}" height="{height}" rx="8" fill="#11151c"/>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
<g transform="translate(16, 16)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""  # noqa: E501 - the text of an SVG file


def outlast(*words: str) -> list[str]:
    return [sys.executable, "-m", "outlast.cli", *words]


class Pace(NamedTuple):
    """Seconds from a process's start to its first save, and for each step after that."""

    start: float
    step: float


def checkpoint(run: str, step: int) -> Path:
    return RunFolder(ROOT / run).checkpoint(step) / MANIFEST


def begin(title: str, words: list[str]) -> subprocess.Popen[bytes]:
    print(f"\n=== {title}\n$ outlast {' '.join(words)}", flush=True)
    return subprocess.Popen(outlast(*words))


def wait_for(process: subprocess.Popen[bytes], path: Path) -> None:
    while process.poll() is None and not path.exists():
        time.sleep(0.01)


def twin() -> tuple[int, Pace]:
    """The uninterrupted training: its exit code, and its speed."""
    begun = time.monotonic()
    process = begin("twin: the training, never interrupted", [*COMMON, "--experiment-name", "twin"])
    wait_for(process, checkpoint("twin", EVERY))
    first = time.monotonic()
    wait_for(process, checkpoint("twin", STEPS))
    pace = Pace(first - begun, (time.monotonic() - first) / (STEPS - EVERY))
    return process.wait(), pace


def budgeted(given: str | None, pace: Pace) -> int:
    """Session 1, which its budget ends. It begins again with less where it came further than session 2 may be killed.

    The twin is the first process that reads the libraries from the disk, so it may take seconds longer to start; and
    a machine may be faster than it was for the twin.
    """
    budget = pace.start + pace.step * (STOP_AT - EVERY) + RESERVE
    while True:
        words = given or f"{budget:.1f}s"
        code = begin(f"session 1: a budget of {words}", [*COMMON, "--budget", words]).wait()
        reached = STEPS if code == 0 else max((each.step for each in read_run(ROOT / "digits").checkpoints), default=0)
        spare = budget - RESERVE
        if code not in (0, 75) or given or reached <= KILL_AFTER - 2 * EVERY or spare < 0.5:
            return code
        print(
            f"--- exit code {code}: {reached} of {STEPS} steps were done in {words}, as it started faster than the "
            "twin; again with less"
        )
        shutil.rmtree(ROOT / "digits")
        budget = RESERVE + max(spare - max(reached - STOP_AT, EVERY) * pace.step, spare / 2)


def killed(pace: Pace) -> int:
    process = begin("session 2: the same command, killed on the way", COMMON)
    wait_for(process, checkpoint("digits", KILL_AFTER))
    time.sleep(12 * pace.step)  # well past the checkpoint, in the middle of whatever it does now
    process.send_signal(signal.SIGKILL)
    lines = RunFolder(ROOT / "digits").journal.read_bytes().count(b"{")
    print(f"--- kill -9 (the journal has {lines} lines, steps after the last checkpoint are lost)", flush=True)
    return process.wait()


def compare(one: RunInfo, two: RunInfo) -> list[tuple[str, str, str, bool]]:
    """Name, hash of the run, hash of the twin, same? For every file of the final checkpoints, and the journals."""
    a, b = (info.checkpoints[-1].manifest["files"] for info in (one, two))
    rows = [
        (
            name,
            WrittenFile.from_json(a[name]).name,
            WrittenFile.from_json(b[name]).name if name in b else "absent",
            a[name] == b.get(name),
        )
        for name in a
    ]
    journals = [digest(RunFolder(info.folder).journal.read_bytes()) for info in (one, two)]
    return [*rows, ("journal.jsonl", *journals, journals[0] == journals[1])]


def last_screen(console: Console, run: RunInfo, twin: RunInfo, seconds: float) -> bool:
    rows = compare(run, twin)
    same = all(row[3] for row in rows)
    console.print("\n[bold]run digits[/]: one training, three sessions\n")
    console.print(attempts_table(run))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("file of the final state", "interrupted run", "uninterrupted twin", ""):
        table.add_column(column)
    for name, one, two, equal in rows:
        table.add_row(name, one[:16], two[:16], "[green]same[/]" if equal else "[red]DIFFERENT[/]")
    console.print()
    console.print(table)
    accuracy = run.metrics["test_accuracy"]
    console.print(
        f"\ntest accuracy {accuracy:.2%} (read once, after the last step) · {run.step} steps · {seconds:.0f} s in all"
    )
    console.print(
        "[bold green]identical to the uninterrupted twin[/]" if same else "[bold red]NOT identical to the twin[/]"
    )
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--svg", type=Path, help="also draw the last screen")
    parser.add_argument(
        "--budget", help="time budget of the first session, such as 11s; from the twin's pace when not given"
    )
    options = parser.parse_args()
    begun = time.monotonic()
    shutil.rmtree(ROOT, ignore_errors=True)
    os.environ["PYTHONWARNINGS"] = "default"

    undisturbed, pace = twin()
    first = budgeted(options.budget, pace)
    print(f"--- exit code {first} ({'stopped cleanly, run me again' if first == 75 else 'unexpected'})")
    second = killed(pace)
    print(f"--- exit code {second}")
    third = begin("session 3: the same command once more", COMMON).wait()
    if (undisturbed, first, second, third) != (0, 75, -signal.SIGKILL, 0):
        print(
            f"The twin and the sessions ended with {undisturbed}, {first}, {second} and {third}; expected 0, 75, "
            f"{-signal.SIGKILL} and 0. "
            "Where the machine's pace changes much meanwhile, give --budget."
        )
        return 1

    run, undisturbed_run = read_run(ROOT / "digits"), read_run(ROOT / "twin")
    console = Console(record=bool(options.svg), width=96, highlight=False)
    same = last_screen(console, run, undisturbed_run, time.monotonic() - begun)
    if options.svg:
        console.save_svg(str(options.svg), code_format=SVG)
    print(f"\nLook further: .venv/bin/outlast status digits --checkpoint-dir {ROOT}")
    print(json.dumps({"identical": same, "test_accuracy": run.metrics["test_accuracy"]}))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
