"""make demo: a real model, three sessions, two of them cut off, and a twin that nobody disturbed.

    session 1  ends itself when its time budget is used up
    session 2  is killed with kill -9 in the middle of a step
    session 3  finishes the run
    twin       trains the same in one go

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

from rich.console import Console
from rich.table import Table

from outlast.cli.status import attempts_table
from outlast.files import MANIFEST, RunFolder, Written, digest
from outlast.report import RunInfo, read_run

ROOT = Path("demo-runs")
COMMON = ["train", "digits", "--checkpoint-dir", str(ROOT), "--save-every", "40 steps"]
KILL_AFTER_STEP = 470
RECIPE_EPOCHS = 40

# rich's own template fetches fonts from the network; this one uses what the reader has.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
 aria-label="Last screen of make demo">
<style>.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
 line-height: {line_height}px; }} {styles}</style>
<rect width="{width}" height="{height}" rx="8" fill="#11151c"/>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
<g transform="translate(16, 16)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def outlast(*words: str) -> list[str]:
    return [sys.executable, "-m", "outlast.cli", *words]


def session(title: str, words: list[str], *, kill_after: int | None = None) -> int:
    print(f"\n=== {title}\n$ outlast {' '.join(words)}", flush=True)
    process = subprocess.Popen(outlast(*words))
    if kill_after is not None:
        journal = ROOT / "digits/journal.jsonl"
        checkpoint = RunFolder(ROOT / "digits").checkpoint(kill_after // 40 * 40) / MANIFEST
        while process.poll() is None and not checkpoint.exists():
            time.sleep(0.05)
        time.sleep(0.3)  # well past the checkpoint, in the middle of whatever it does now
        process.send_signal(signal.SIGKILL)
        print(
            f"--- kill -9 (the journal has {journal.read_bytes().count(b'{')} lines, steps after the last checkpoint are lost)",
            flush=True,
        )
    return process.wait()


def compare(one: RunInfo, two: RunInfo) -> list[tuple[str, str, str, bool]]:
    """Name, hash of the run, hash of the twin, same? For every file of the final checkpoints, and the journals."""
    a, b = (info.checkpoints[-1].manifest["files"] for info in (one, two))
    rows = [
        (
            name,
            Written.from_json(a[name]).name,
            Written.from_json(b[name]).name if name in b else "absent",
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
    parser.add_argument("--budget", default="11s", help="time budget of the first session (default: 11s)")
    options = parser.parse_args()
    begun = time.monotonic()
    shutil.rmtree(ROOT, ignore_errors=True)
    os.environ["PYTHONWARNINGS"] = "default"

    first = session(f"session 1: a budget of {options.budget}", [*COMMON, "--budget", options.budget])
    print(f"--- exit code {first} ({'stopped cleanly, run me again' if first == 75 else 'unexpected'})")
    second = session("session 2: the same command, killed on the way", COMMON, kill_after=KILL_AFTER_STEP)
    print(f"--- exit code {second}")
    third = session("session 3: the same command once more", COMMON)
    twin_code = session("twin: the same training, never interrupted", [*COMMON, "--experiment-name", "twin"])
    if (first, second, third, twin_code) != (75, -signal.SIGKILL, 0, 0):
        print(
            f"The sessions ended with {first}, {second}, {third} and {twin_code}; expected 75, {-signal.SIGKILL}, 0 and 0."
        )
        return 1

    run, twin = read_run(ROOT / "digits"), read_run(ROOT / "twin")
    console = Console(record=bool(options.svg), width=96, highlight=False)
    same = last_screen(console, run, twin, time.monotonic() - begun)
    if options.svg:
        console.save_svg(str(options.svg), code_format=SVG)
    print(f"\nLook further: .venv/bin/outlast status digits --checkpoint-dir {ROOT}")
    print(json.dumps({"identical": same, "test_accuracy": run.metrics["test_accuracy"]}))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
