"""Long runs beside short ones: a journal of 10 million lines beside one of 10, 5,000 checkpoints beside 5.

    make bench-long        python -m benchmarks.long [--lines N] [--checkpoints N]

Each command is its own process; its time and its peak of memory come from wait4. The best of two counts, as the
machine may do other things. Everything is made in a temporary folder; about four minutes and 2 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

import outlast
from outlast.checkpoint import CheckpointStore, Retention, Snapshot, open_checkpoint
from outlast.folder.layout import RunFolder
from outlast.tracking import Journal

TRIES = 2


class State:
    """A thousand numbers and a counter."""

    def __init__(self) -> None:
        self.count, self.w = 0, np.zeros(1000)

    def state_dict(self) -> dict[str, object]:
        return {"count": self.count, "w": self.w}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.count, self.w = int(str(state["count"])), np.asarray(state["w"])


def say(*words: object) -> None:
    print(*words, flush=True)


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of a core, and MB at the peak of a process; the best of some tries each."""
    found = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert child.stderr
        complaint = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)}: {complaint.decode()}")
        found.append((time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3))
    return min(each[0] for each in found), min(each[1] for each in found), min(each[2] for each in found)


def in_subprocess(work: Callable[..., object], *facts: object) -> None:
    """Do something in its own process: Linux counts the memory of whoever starts a process as that process's
    peak."""
    child = os.fork()
    if not child:
        try:
            work(*facts)
        except BaseException:  # noqa: BLE001 - the parent hears of it
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("making the runs failed")


def verb(*words: str) -> list[str]:
    return [sys.executable, "-m", "outlast.cli", *words]


def train(root: Path, name: str, more: int, every: str = "never") -> list[float]:
    """Continue a run by so many steps; returns the seconds of each step beyond the first."""
    folder = RunFolder(root / name)
    done = CheckpointStore(folder).newest_step() if folder.run.exists() else 0
    took, state = [], State()
    keep = Retention(last=10**6, best=3, metric="loss", mode="min")
    with outlast.open_run(name, total_steps=done + more, root=root, save=every, keep=keep, progress="none") as run:
        run.track(model=state)
        last = 0.0
        for step in run.steps():
            if last:
                took.append(time.perf_counter() - last)
            last = time.perf_counter()
            run.log(loss=1 / step, accuracy=step % 997 / 997)
            state.count = step
            work = time.perf_counter()
            while time.perf_counter() - work < 0.05:  # a step that computes
                state.w.sum()
    return took


def with_journal(root: Path, name: str, lines: int) -> None:
    """A run of one checkpoint whose journal has so many lines, one in 10,000 of them with a metric of its own."""
    train(root, name, 1)
    folder = RunFolder(root / name)
    opened = open_checkpoint(folder.checkpoint(1))
    folder.journal.unlink()
    journal = Journal(folder.journal)
    for step in range(1, lines + 1):
        if step % 10_000 == 1:
            journal.append(step, {"val_loss": 2 / step})
        journal.append(step, {"loss": 1 / step, "accuracy": step % 997 / 997})
        if step % 200_000 == 0:
            journal.seal()
            journal.flush()
    mark = journal.mark()
    journal.flush()
    store = CheckpointStore(folder, Retention(last=1))
    store.history = history_of(opened.checkpoint.manifest)
    store.commit(
        Snapshot.of(
            2,
            "steps",
            opened.parts,
            opened.state.as_json() | {"step": 2, "journal": mark},
            {},
            opened.checkpoint.manifest["software"],
        )
    )


def history_of(manifest: object) -> object:
    """The origin in the generated manifests: that of the first one."""
    from outlast.checkpoint.history import History

    assert isinstance(manifest, dict)
    return History.following(manifest["run"], manifest["attempt"], None)


def with_checkpoints(root: Path, name: str, count: int) -> None:
    train(root, name, 1)
    folder = RunFolder(root / name)
    opened = open_checkpoint(folder.checkpoint(1))
    store, sync = CheckpointStore(folder, Retention(last=10**6)), os.fsync
    store.history = history_of(opened.checkpoint.manifest)
    os.fsync = lambda _: None  # type: ignore[assignment]
    try:
        for step in range(2, count + 1):
            store.commit(
                Snapshot.of(
                    step,
                    "steps",
                    opened.parts,
                    opened.state.as_json() | {"step": step},
                    {"loss": 1 / step},
                    opened.checkpoint.manifest["software"],
                )
            )
    finally:
        os.fsync = sync


HEAD = "| command | {0} | {1} | more | of a core, more | {0}: peak | more |\n|---|---|---|---|---|---|---|"


def row(what: str, short: tuple[float, ...], long: tuple[float, ...]) -> None:
    say(
        f"| {what} | {short[0]:.2f} s | {long[0]:.2f} s | {long[0] - short[0]:+.2f} s, {long[0] / short[0]:.2f}x | "
        f"{long[1] - short[1]:+.2f} s | "
        f"{short[2]:.0f} MB | {long[2] - short[2]:+.1f} MB |"
    )


def journals(root: Path, lines: int) -> None:
    begun = time.perf_counter()
    in_subprocess(with_journal, root, "short", 10)
    in_subprocess(with_journal, root, "long", lines)
    size = (root / "long/journal.jsonl").stat().st_size
    say(f"a journal of {lines:,} lines, {size / 1e6:.0f} MB, made in {time.perf_counter() - begun:.0f} s\n")
    say(HEAD.format("10 lines", f"{lines:,} lines"))
    for name in ("short", "long"):  # `runs` looks at all runs of a folder
        (root / f"only-{name}").mkdir()
        (root / f"only-{name}" / name).symlink_to(root / name)
    for words in (["status", "{}"], ["status", "{}", "--json"], ["checkpoints", "--quick", "{}"]):
        both = [
            measured(verb(*(word.format(name) for word in words), "--checkpoint-dir", str(root)))
            for name in ("short", "long")
        ]
        row(f"`outlast {' '.join(words).format('RUN')}`", *both)
    both = [measured(verb("runs", "--checkpoint-dir", str(root / f"only-{name}"))) for name in ("short", "long")]
    row("`outlast runs`", *both)
    both = [
        measured(verb("archive", name, "--checkpoint-dir", str(root), "--part", "model", "-o", str(root / "a.zip")))
        for name in ("short", "long")
    ]
    row("`outlast archive RUN`", *both)
    script = [
        sys.executable,
        "-c",
        (
            "import sys; sys.path[:0] = ['.']; from pathlib import Path; from benchmarks.long import train; "
            f"train(Path({str(root)!r}), sys.argv[1], 1)"
        ),
    ]
    row("resume and one step (hashes the journal)", *(measured([*script, name]) for name in ("short", "long")))


def checkpoints(root: Path, count: int) -> None:
    begun = time.perf_counter()
    in_subprocess(with_checkpoints, root, "few", 5)
    in_subprocess(with_checkpoints, root, "many", count)
    say(f"\n{count:,} checkpoints made in {time.perf_counter() - begun:.0f} s\n")
    say(HEAD.format("5 kept", f"{count:,} kept"))
    for words in (["status", "{}"], ["status", "{}", "--json"], ["checkpoints", "--quick", "--json", "{}"]):
        both = [
            measured(verb(*(word.format(name) for word in words), "--checkpoint-dir", str(root)))
            for name in ("few", "many")
        ]
        row(f"`outlast {' '.join(words).format('RUN')}`", *both)
    for name in ("few", "many"):
        (root / f"only-{name}").mkdir()
        (root / f"only-{name}" / name).symlink_to(root / name)
    both = [measured(verb("runs", "--checkpoint-dir", str(root / f"only-{name}"))) for name in ("few", "many")]
    row("`outlast runs`", *both)
    script = [
        sys.executable,
        "-c",
        (
            "import sys; sys.path[:0] = ['.']; from pathlib import Path; from benchmarks.long import train; "
            f"train(Path({str(root)!r}), sys.argv[1], 1)"
        ),
    ]
    row("resume and one step", *(measured([*script, name]) for name in ("few", "many")))
    say("\n| a step of 50 ms that is saved, over 50 ms | 5 kept | many kept |\n|---|---|---|")
    extra = {name: [1e3 * (took - 0.05) for took in train(root, name, 60, "1 steps")] for name in ("few", "many")}
    for words, of in (
        ("median", statistics.median),
        ("nine of ten below", lambda x: sorted(x)[len(x) * 9 // 10]),
        ("longest", max),
    ):
        say(f"| {words} | {of(extra['few']):.2f} ms | {of(extra['many']):.2f} ms |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--checkpoints", type=int, default=5_000)
    values = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="outlast-long-"))
    begun = time.perf_counter()
    try:
        checkpoints(root, values.checkpoints)
        journals(root, values.lines)
    finally:
        shutil.rmtree(root)
    say(f"\n{time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
