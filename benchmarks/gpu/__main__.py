"""make check-gpu: what outlast does on a GPU, checked and measured; prints as it goes and ends with a table for docs/log.md.

One process after another, at most four minutes in all. Without a GPU it says so and checks nothing. `--device cpu`
tries the checks themselves.
"""  # noqa: E501 - the first line is what --help says

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SECONDS = 240.0


@dataclass
class Report:
    """The rows of the table, and the time that is left."""

    until: float
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, check: str, verdict: str, words: str) -> None:
        """Another result, printed at once."""
        print(f"{verdict:10}{check}: {words}", flush=True)
        self.rows.append((check, verdict, words))

    def run(self, module: str, *arguments: str) -> dict[str, object]:
        """The last output of a process, or an error message if it failed or timed out."""
        left = self.until - time.monotonic()
        if left < 1:
            return {"skipped": f"the {SECONDS:.0f} seconds are over"}
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)]),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        command = [sys.executable, "-m", module, *arguments]
        try:
            ended = subprocess.run(
                command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=left, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {left:.0f} s"}
        if ended.returncode:
            sys.stderr.write(ended.stderr)
            last = (ended.stderr.strip().splitlines() or ["nothing was printed"])[-1]
            return {"error": f"{module} ended with {ended.returncode}: {last}"}
        sys.stderr.write(ended.stderr)
        found: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
        return found

    def table(self) -> str:
        """All rows in Markdown."""
        lines = ["| check | result | what was seen |", "|---|---|---|"]
        return "\n".join([*lines, *(f"| {check} | {verdict} | {words} |" for check, verdict, words in self.rows)])


def device_facts() -> str | None:
    """The GPU in words, None where torch sees none; asked in its own process, so that this one holds no GPU
    memory."""
    code = (
        "import torch; ok = torch.cuda.is_available(); "
        "print(f'{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB, "
        "torch {torch.__version__}, CUDA {torch.version.cuda}' if ok else f'!torch {torch.__version__} sees no CUDA "
        "device')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    words = ended.stdout.strip() or "!torch cannot be imported: " + (ended.stderr.strip().splitlines() or [""])[-1]
    if words.startswith("!"):
        print(f"skipped: {words[1:]}; nothing was checked. Run this on a machine with a GPU.")
        return None
    return words


def resumes(report: Report, folder: Path, device: str) -> None:
    """Each kind of training, uninterrupted and in two processes, compared byte for byte."""
    from benchmarks.gpu.results import same
    from benchmarks.gpu.training import KINDS, STEPS, STOP, run_name

    errors: dict[str, str] = {}
    for place, stop in (("whole", 0), ("cut", STOP), ("cut", 0)):
        found = report.run("benchmarks.gpu.training", str(folder / place), device, str(stop))
        for kind in KINDS:
            if words := found.get(kind, found.get("error", found.get("skipped"))):
                errors.setdefault(kind, str(words))
    for kind in KINDS:
        name = f"resume, {kind}"
        if kind in errors:
            report.add(name, "FAILED", errors[kind])
        elif difference := same(folder / "cut" / run_name(kind), folder / "whole" / run_name(kind)):
            report.add(name, "FAILED", difference)
        else:
            report.add(name, "ok", f"stopped at step {STOP} of {STEPS}: every byte as without the stop")


def single(report: Report, folder: Path, device: str) -> None:
    """The checks of one process."""
    for check, name in (("pinned", "copies beside training"), ("nccl", "resume, NCCL"), ("jax", "resume, JAX")):
        found = report.run("benchmarks.gpu.single", check, str(folder / check), device)
        verdict = next((word for key, word in (("error", "FAILED"), ("skipped", "skipped")) if key in found), "ok")
        report.add(name, verdict, str(next(iter(found.values()))))


def costs(report: Report, folder: Path, device: str, sizes: list[int]) -> None:
    """The cost of a save, in seconds and as a ratio to the copy and to torch.save."""
    for size in sizes:
        place = folder / str(size)
        place.mkdir(parents=True)
        found = report.run("benchmarks.gpu.costs", str(place), device, str(size))
        if "bytes" not in found:
            report.add(
                f"a save of {size / 1e6:.0f} MB",
                "FAILED" if "error" in found else "skipped",
                str(next(iter(found.values()))),
            )
            continue
        seconds = {key: float(str(value)) for key, value in found.items()}
        copy = seconds.get("pinned", seconds["pageable"])
        words = (
            f"training held {seconds['held'] * 1e3:.1f} ms ({seconds['held'] / copy:.2f}x a copy to the host of "
            f"{copy * 1e3:.1f} ms); steps meanwhile {seconds['slowed step'] / seconds['step']:.2f}x of "
            f"{seconds['step'] * 1e3:.1f} ms; durable after {seconds['durable']:.2f} s "
            f"({seconds['durable'] / seconds['torch.save']:.2f}x torch.save and fsync)"
        )
        report.add(f"a save of {seconds['bytes'] / 1e6:.0f} MB", "measured", words)


def main() -> int:
    """0 when nothing failed, or there is no GPU; else 1."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="torch device to check, by default the first GPU")
    parser.add_argument("--megabytes", default="100,1000", help="sizes of the states that are saved, with commas")
    options = parser.parse_args()
    if options.device.startswith("cuda"):
        facts = device_facts()
        if facts is None:
            return 0
    else:
        facts = f"{options.device}: this tries the checks and says nothing of a GPU"
    begun = time.monotonic()
    report = Report(begun + SECONDS)
    print(facts, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        resumes(report, folder / "resume", options.device)
        single(report, folder / "single", options.device)
        costs(
            report, folder / "costs", options.device, [int(float(each) * 1e6) for each in options.megabytes.split(",")]
        )
    print(f"\n{facts}; {time.monotonic() - begun:.0f} s\n\n{report.table()}")
    return int(any(verdict == "FAILED" for _, verdict, _ in report.rows))


if __name__ == "__main__":
    sys.exit(main())
