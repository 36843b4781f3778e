"""What `outlast run` adds around a command: `python -m benchmarks.wrapped [ROUNDS]`.

Each round measures all rows in turn, in an order that turns: the command alone and wrapped, beside starts of Python.
Two commands: one that ends at once, for which all that outlast does is waited for, and one that lives a second, for
which outlast prepares its end meanwhile. Prints one JSON object a row: the least and the median of seconds on the clock
and of a core, in milliseconds, what they are more than the command alone, and the peak memory of the process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ENDS, LIVES = ["true"], ["sleep", "1"]
PYTHON = sys.executable


def wrapper() -> list[str]:
    """The beginning of a command line: the command `outlast` of this environment."""
    script = Path(sysconfig.get_path("scripts")) / "outlast"
    if not script.exists():
        raise SystemExit(f"There is no {script}; install outlast into this environment.")
    return [PYTHON, str(script), "run", "--name", "x"]


def rows() -> dict[str, tuple[list[str], str | None, bool]]:
    """Name -> command line, the row that it is compared with, and whether the run was begun before."""
    run = wrapper()
    return {
        "true": (ENDS, None, False),
        "python -S -c pass": ([PYTHON, "-S", "-c", "pass"], "true", False),
        "python -c pass": ([PYTHON, "-c", "pass"], "true", False),
        "outlast run -- true": ([*run, "--", *ENDS], "true", False),
        "outlast run --keep out -- true": ([*run, "--keep", "out", "--", *ENDS], "true", False),
        "sleep 1": (LIVES, None, False),
        "outlast run -- sleep 1": ([*run, "--", *LIVES], "sleep 1", False),
        "outlast run --keep out -- sleep 1": ([*run, "--keep", "out", "--", *LIVES], "sleep 1", False),
        "outlast run --keep out -- sleep 1, resumed": ([*run, "--keep", "out", "--", *LIVES], "sleep 1", True),
    }


def measure(words: Sequence[str], folder: str) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of a core with children, and the peak memory of the process in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {status}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def once(words: Sequence[str], *, resumed: bool) -> tuple[float, float, float]:
    """Measure a command in a folder of its own, with a file to be kept."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "out").write_text("kept\n")
        if resumed:  # by an attempt that was asked to stop: one that finished would not be started again
            stopped = ["sh", "-c", "exit 75"]
            subprocess.run([*words[: words.index("--") + 1], *stopped], cwd=folder, capture_output=True, check=False)
        return measure(words, folder)


def main(rounds: int) -> None:
    """Measure and print."""
    wanted = rows()
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in wanted}
    for number in range(rounds + 1):
        for name, (words, _, resumed) in [*wanted.items()][:: 1 if number % 2 else -1]:
            result = once(words, resumed=resumed)
            if number:  # the first round compiles and fills caches
                found[name].append(result)
    print(json.dumps({"rounds": rounds, "load": os.getloadavg()[0]}))
    for name, (_, beside, _) in wanted.items():
        clock, core, memory = zip(*found[name], strict=True)
        row = {
            "row": name,
            "clock_ms": _words(clock),
            "core_ms": _words(core),
            "mb": round(statistics.median(memory), 1),
        }
        if beside:
            pairs = [mine[0] - other[0] for mine, other in zip(found[name], found[beside], strict=True)]
            row["more_ms"] = _words(pairs)
        print(json.dumps(row))


def _words(seconds: Sequence[float]) -> dict[str, float]:
    return {"least": round(min(seconds) * 1e3, 1), "median": round(statistics.median(seconds) * 1e3, 1)}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
