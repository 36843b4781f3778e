"""Reading runs: `outlast status`, `runs` and `report` beside `tensorboard --inspect` on the same numbers.

    python -m benchmarks.report [--lines 10000000] [--runs 1000] [--tensorboard-lines 1000000]

Each command is a process of its own, started three times; the table has the least CPU time (user and system), which a
busy machine distorts least, the wall time of that start, and the largest memory. TensorBoard, if it is installed, reads
two scalars per step, as the journal has. It is given fewer steps because writing its files takes long; the last column
is the time per million lines.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import outlast


class State:
    def state_dict(self) -> dict[str, object]:
        return {"a": 1}

    def load_state_dict(self, state: dict[str, object]) -> None: ...


def train(root: Path, name: str, steps: int) -> Path:
    with outlast.open_run(name, total_steps=steps, root=root, progress="none") as run:
        run.track(state=State())
        for step in run.steps():
            run.log(loss=1 / step, lr=0.001)
    return root / name


def numbers(count: int):
    chosen = random.Random(0)
    for step in range(1, count + 1):
        yield step, chosen.random(), 0.001


def many(root: Path, count: int) -> None:
    first = train(root, "run-0000", 200)
    for number in range(1, count):
        target = root / f"run-{number:04d}"
        shutil.copytree(first, target)
        record = json.loads((target / "run.json").read_text()) | {"id": target.name}
        (target / "run.json").write_text(json.dumps(record))


def long(root: Path, lines: int) -> None:
    folder = train(root, "long", 2)
    with (folder / "journal.jsonl").open("w") as file:
        for step, loss, lr in numbers(lines):
            file.write(f'{{"step": {step}, "loss": {loss!r}, "lr": {lr!r}}}\n')


def tensorboard(root: Path, lines: int) -> bool:
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ModuleNotFoundError:
        return False
    root.mkdir()
    with (root / "events.out.tfevents.1.x").open("wb") as file:
        writer = RecordWriter(file)
        for step, loss, lr in numbers(lines):
            event = Event(wall_time=1.0, step=step)
            for tag, value in (("loss", loss), ("lr", lr)):
                event.summary.value.add(tag=tag, simple_value=value)
            writer.write(event.SerializeToString())
    return True


def measure(words: list[str]) -> dict[str, float]:
    """The cheapest of three starts."""
    found = []
    for _ in range(3):
        begun = time.perf_counter()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        assert status == 0, process.stderr.read().decode()
        found.append({"cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall, "mb": usage.ru_maxrss / 1e3})
    return min(found, key=lambda each: each["cpu_s"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--tensorboard-lines", type=int, default=1_000_000)
    values = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outlast-bench-") as scratch:
        root = Path(scratch)
        for name in ("many", "one", "same"):
            (root / name).mkdir()
        many(root / "many", values.runs)
        long(root / "one", values.lines)
        long(root / "same", values.tensorboard_lines)
        command = [sys.executable, "-m", "outlast"]
        page, of = str(root / "x.html"), f"{values.lines:,} lines"
        rows = {
            f"status, 1 of {values.runs:,} runs": (["status", "run-0500", "--checkpoint-dir", str(root / "many")], 0),
            f"runs, {values.runs:,} runs": (["runs", "--checkpoint-dir", str(root / "many")], 0),
            f"report, {values.runs:,} runs": (["report", "--checkpoint-dir", str(root / "many"), "-o", page], 0),
            f"status, {of}": (["status", "long", "--checkpoint-dir", str(root / "one")], values.lines),
            f"report, {of}": (["report", "long", "--checkpoint-dir", str(root / "one"), "-o", page], values.lines),
            f"report, {values.tensorboard_lines:,} lines": (
                ["report", "long", "--checkpoint-dir", str(root / "same"), "-o", page], values.tensorboard_lines,
            ),
        }  # fmt: skip
        results = {name: measure(command + words) | {"lines": lines} for name, (words, lines) in rows.items()}
        results["python -m outlast --version"] = measure([*command, "--version"]) | {"lines": 0}
        if tensorboard(root / "events", values.tensorboard_lines):
            words = [sys.executable, "-m", "tensorboard.main", "--inspect", "--logdir", str(root / "events")]
            name = f"tensorboard --inspect, {values.tensorboard_lines:,} steps"
            results[name] = measure(words) | {"lines": values.tensorboard_lines}
        print(json.dumps(results, indent=1))
        print("\n| command | CPU | wall | memory | CPU per million lines |\n|---|---|---|---|---|")
        for name, each in results.items():
            per = f"{each['cpu_s'] / each['lines'] * 1e6:.2f} s" if each["lines"] else ""
            print(f"| {name} | {each['cpu_s']:.2f} s | {each['wall_s']:.2f} s | {each['mb']:.0f} MB | {per} |")


if __name__ == "__main__":
    main()
