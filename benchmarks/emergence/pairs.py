"""PPO of this build beside another build and beside a loop as PureJaxRL's, in processes that take turns.

A machine's speed changes within minutes, so a round asks each process in turn for one update, and ratios are taken
inside a round. What is compared is the benchmark's reference (`values.REFERENCE`) with and without genomes. A build
before is a checkout of the repository (`git worktree add FOLDER REVISION`), whose own code is run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]


class Worker:
    """A process that computes one update each time it is asked."""

    def __init__(self, checkout: Path, what: str) -> None:
        paths = os.pathsep.join([str(checkout), str(checkout / "src")])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), what],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._line() != "ready":
            raise SystemExit(f"{what} of {checkout} did not start")

    def once(self) -> tuple[float, float]:
        """Microseconds a slot-step: of the processor, and of the clock."""
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        processor, clock = map(float, self._line().split())
        return processor, clock

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


def pairs(rounds: int, before: Path | None) -> list[dict[str, Any]]:
    """A row for each process: medians, and how many times as fast as the first one it is."""
    builds = [*([("before", before.resolve())] if before else []), ("now", HERE)]
    names = [(f"{build}, genomes of a head", checkout, "head") for build, checkout in builds]
    names += [("now, no genomes", HERE, "none"), ("loop as PureJaxRL's, no genomes", HERE, "purejax")]
    workers = {name: Worker(checkout, what) for name, checkout, what in names}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            found[name].append(worker.once())
    for worker in workers.values():
        worker.process.communicate()  # closes its input
    first = found[names[0][0]]
    rows = []
    for name, times in found.items():
        processor, clock = ([one[at] / own[at] for own, one in zip(times, first, strict=True)] for at in (0, 1))
        rows.append(
            {
                "update": name,
                "CPU us/slot-step": statistics.median(own[0] for own in times),
                "times": statistics.median(processor),
                "least": min(processor),
                "most": max(processor),
                "clock us/slot-step": statistics.median(own[1] for own in times),
                "times by the clock": statistics.median(clock),
            }
        )
    return rows


def work(what: str) -> None:
    """Be a `Worker`'s process, with the code of the checkout that is first on the path."""
    import jax
    from benchmarks.emergence import peers, speed
    from benchmarks.emergence.values import REFERENCE, values

    from outlast_recipes.emergence.devices import keep_compilations

    keep_compilations()
    head = values(**speed.under(REFERENCE))
    none = values(**{**speed.under(REFERENCE), "evolution__genome": "none"})
    call = peers.purejax(none) if what == "purejax" else speed.whole({"head": head, "none": none}[what])
    jax.block_until_ready(call())
    print("ready", flush=True)
    for _ in sys.stdin:
        begun, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        spent = time.process_time() - used, time.perf_counter() - begun
        print(*(seconds / head.slot_steps * 1e6 for seconds in spent), flush=True)


if __name__ == "__main__":
    work(sys.argv[1])
