"""What `outlast run` adds around a command that does nothing: `python -m benchmarks.wrapped [ROUNDS]`.

Pairs in alternating order. Prints JSON: medians of seconds on the clock and of a core, and the wrapper's peak memory.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

COMMAND = [sys.executable, "-c", "pass"]


def measure(words: Sequence[str], folder: str) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of a core with children, and the peak memory of the process in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {status}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def main(rounds: int) -> None:
    """Measure and print."""
    alone, wrapped = [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-m", "outlast", "run", "--name", "x", "--keep", "out", "--", *COMMAND]
            pair = [(COMMAND, alone), (words, wrapped)]
            for each, results in pair if number % 2 else reversed(pair):
                results.append(measure(each, folder))
    clock, core, _ = map(statistics.median, zip(*alone, strict=True))
    more_clock, more_core, memory = map(statistics.median, zip(*wrapped, strict=True))
    print(
        json.dumps(
            {
                "rounds": rounds,
                "load": os.getloadavg()[0],
                "alone_ms": round(clock * 1e3),
                "added_ms": round((more_clock - clock) * 1e3),
                "added_core_ms": round((more_core - core) * 1e3),
                "wrapper_mb": round(memory, 1),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
