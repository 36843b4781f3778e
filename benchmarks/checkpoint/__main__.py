"""The cost of checkpoints of outlast and its peers, in interleaved rounds; then the loop, the start, a goodput model.

    python -m benchmarks.checkpoint [--rounds N] [--only NAME ...] [--sizes small large] [--what saves loop start
    goodput]

Run it on an idle machine. Writes benchmarks/results/checkpoint.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.checkpoint import SIZES, goodput, loop, start
from benchmarks.checkpoint.peers import PEERS
from rich.console import Console
from rich.table import Table

COLUMNS = {"stall": "memcpy", "slowdown": "memcpy", "durable": "write", "load": "read"}


def measure(name: str, nbytes: int) -> dict[str, float] | None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.checkpoint.one", name, str(nbytes), folder]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
    if done.returncode:
        print(f"{name} failed: {done.stderr.strip().splitlines()[-1]:.150}", file=sys.stderr)
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    ratios = {column: found[column] / found[limit] for column, limit in COLUMNS.items()}
    seconds = {f"{column}, s": found[column] for column in COLUMNS}
    return {**ratios, "extra": found["extra bytes"] / found["bytes"], "stall, ms": found["stall"] * 1e3, **seconds}


def saves(rounds: int, names: list[str], sizes: list[str]) -> dict[str, dict[str, list[dict[str, float]]]]:
    absent = [name for name in names if name in PEERS and not PEERS[name].installed()]
    if absent:
        print(f"not installed, and left out: {', '.join(absent)}")
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for size in sizes:
        rows: dict[str, list[dict[str, float]]] = {}
        for _ in range(rounds):
            for name in names:
                if name not in absent and (found := measure(name, SIZES[size])):
                    rows.setdefault(name, []).append(found)
        results[size] = rows
        show(size, rows)
    return results


def show(size: str, rows: dict[str, list[dict[str, float]]]) -> None:
    table = Table(size, *COLUMNS, "extra", "stall, ms", box=None, header_style="bold", pad_edge=False)
    for name, found in rows.items():
        medians = {key: statistics.median(one[key] for one in found) for key in found[0]}
        table.add_row(name, *(f"{medians[key]:.2f}" for key in (*COLUMNS, "extra", "stall, ms")))
    Console(width=110, highlight=False).print(table)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="these ways to save only")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--what", nargs="*", default=["saves", "loop", "start", "goodput"])
    options = parser.parse_args()
    place = Path(__file__).parents[1] / "results/checkpoint.json"
    results = json.loads(place.read_text()) if place.exists() else {}
    if "saves" in options.what:
        names = [name for name in ("outlast", *PEERS) if not options.only or name in options.only]
        for size, rows in saves(options.rounds, names, options.sizes).items():
            results.setdefault("costs", {}).setdefault(size, {}).update(rows)
        print(
            "\nMedians of ratios taken inside one process: stall (training held) and slowdown (training later than "
            "without a save) to a memcpy "
            "of the state; durable (until fsynced; the peers are fsynced by this benchmark) to a raw write with fsync; "
            "load (ours verifies every "
            "byte) to a read from the page cache; extra memory to the size of the state.\n"
        )
    if "loop" in options.what:
        results["loop"] = loop.measure(options.rounds)
        loop.show(results["loop"])
    if "start" in options.what:
        results["start"] = start.measure(options.rounds, options.sizes)
        start.show(results["start"])
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(results, indent=1) + "\n")
    if "goodput" in options.what:
        goodput.main([])


if __name__ == "__main__":
    main()
