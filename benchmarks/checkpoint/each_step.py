"""What it costs to lose no more than a step: `python -m benchmarks.checkpoint.each_step [--what cost faults]`.

A step of about 100 ms, and after it a save, by ways that are meant for that: `save="every step"` of outlast, moonclip's
asynchronous saves, ravex (a delta at every step of the optimizer), torch_checkpointing's asynchronous saves, and
torch.save for comparison. `cost`: how much later a step ends, processor's time of the process and its children, and
bytes written. `faults`: how many finished steps kill -9 loses, and what is loaded after one bit of the largest file of
the newest state was flipped.

A way that is not installed is left out by name. moonclip, ravex and torch_checkpointing: see requirements.txt.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.checkpoint import SIZES
from benchmarks.checkpoint.network import network, train
from benchmarks.checkpoint.slowdown import copies

STEP = 0.1
WARM = 4  # steps that are not measured


class Job:
    """A training of some steps, which may die in the middle of one.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(options.threads)
        self.folder, self.last, self.die_at, self.rows = options.folder, options.steps, options.die_at, options.rows
        self.counts = options.counts
        self.model, self.optimizer = network(SIZES[options.size])
        self.base: list[torch.Tensor] = []
        if self.counts:  # every weight is a number of its own, and one more after each step
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
            for each in self.model.parameters():
                self.base.append(torch.randint(2**20, each.shape).float())  # all sums are exact
                each.data.copy_(self.base[-1])
        self.begun: list[tuple[float, float, int]] = []
        self.loaded: float | None = None

    def step(self, number: int) -> None:
        if number == WARM:
            self.begun.append((time.perf_counter(), processor_seconds(), written()))
        if not self.counts:
            train(self.model, self.optimizer, self.rows)
            return
        time.sleep(STEP)
        self.model(torch.ones(1, self.model[0].in_features))
        if number == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        for each in self.model.parameters():
            each.grad = torch.full_like(each, -1.0)
        self.optimizer.step()

    def look(self) -> None:
        """What was loaded: the step that all weights are of, or -1 when they are of none."""
        if self.counts:
            pairs = zip(self.model.parameters(), self.base, strict=True)
            values = torch.cat([(each.detach() - base).flatten() for each, base in pairs])
            self.loaded = float(values[0]) if bool((values == values[0]).all()) else -1.0

    def measured(self) -> dict[str, float]:
        (clock, spent, bytes_before), steps = self.begun[0], self.last - WARM + 1
        return {
            "seconds": (time.perf_counter() - clock) / steps,
            "processor": (processor_seconds() - spent) / steps,
            "bytes": (written() - bytes_before) / steps,
        }


def processes() -> list[int]:
    """This process and its descendants."""
    found, waiting = [], [os.getpid()]
    while waiting:
        found.append(waiting.pop())
        for task in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                waiting += map(int, task.read_text().split())
    return found


def processor_seconds() -> float:
    total = 0.0
    for process in processes():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def written() -> int:
    """Bytes for the disk: pages that were made dirty, each counted again only after it was written."""
    total = 0
    for process in processes():
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/io").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))
    return total


def plain(job: Job) -> None:
    for number in range(1, job.last + 1):
        job.step(number)


def outlast(job: Job) -> None:
    import outlast as library
    from outlast.environment import Environment, Limits

    with library.open_run(
        "r",
        total_steps=10**6,
        root=job.folder,
        save="every step",
        progress="none",
        environment=Environment("local", Limits(None, 2**40, 2)),
    ) as run:
        run.track(model=job.model, optimizer=job.optimizer)
        job.look()
        for number in run.steps() if job.last else ():
            job.step(number)
            if number == job.last:
                report(job)  # what comes now is the end of the session
                os._exit(0)


def torch_save(job: Job) -> None:
    place = job.folder / "state.pt"
    if place.exists():
        state = torch.load(place, weights_only=True)
        job.model.load_state_dict(state["model"])
        job.look()
    for number in range(1, job.last + 1):
        job.step(number)
        torch.save({"model": job.model.state_dict(), "optimizer": job.optimizer.state_dict()}, place)


def moonclip(job: Job) -> None:
    from moonclip import CheckpointManager

    manager = CheckpointManager(str(job.folder / "clips"))
    begin = manager.resume(model=job.model, optimizer=job.optimizer)
    job.look()
    for number in range(max(1, begin), job.last + 1):
        job.step(number)
        manager.save(step=number, model=job.model, optimizer=job.optimizer)
    if job.last and not job.die_at:
        job.begun and report(job)
        manager.flush()


def ravex(job: Job) -> None:
    import ravex as library

    @library.train_loop(storage={"type": "local", "path": str(job.folder / "ravex")})
    def loop() -> None:
        library.track(job.model, job.optimizer)
        job.model(torch.ones(1, job.model[0].in_features))
        job.look()
        for number in range(1, job.last + 1):
            job.step(number)
        if job.last and not job.die_at:
            report(job)

    loop()


def torch_checkpointing(job: Job) -> None:
    from torch_checkpointing import CheckpointManager, ItemSpec
    from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

    # Its default, direct writes, fails on ext4: it does not keep to the boundaries of pages.
    storage = LocalFileSystemStorageConfig(use_direct_io=False)
    manager = CheckpointManager(CheckpointManager.Config(default=ItemSpec(requires_copy=True), storage_config=storage))
    job.optimizer.register_step_pre_hook(lambda *_: wait(manager.lock()))
    places = sorted(job.folder.glob("step-*"), key=lambda place: int(place.name[5:]))
    for place in reversed(places):
        with contextlib.suppress(Exception):  # one that was not finished
            into = {"model": job.model.state_dict()}
            job.model.load_state_dict(manager.load(str(place), into=into)["model"])
            job.look()
            break
    for number in range(1, job.last + 1):
        job.step(number)
        manager.save(
            str(job.folder / f"step-{number}"),
            {"model": job.model.state_dict(), "optimizer": job.optimizer.state_dict()},
        )
        places.append(job.folder / f"step-{number}")
        if len(places) > 3:
            shutil.rmtree(places.pop(0), ignore_errors=True)
    if job.last and not job.die_at:
        report(job)
    manager.close()


def wait(lock: Any) -> None:
    with lock:
        pass


WAYS: dict[str, Callable[[Job], None]] = {
    "plain": plain,
    "outlast": outlast,
    "torch.save": torch_save,
    "moonclip": moonclip,
    "ravex": ravex,
    "torch_checkpointing": torch_checkpointing,
}


def report(job: Job) -> None:
    """Print what was measured, once; called early where an end follows that is no part of it."""
    if not getattr(job, "reported", False):
        job.reported = True  # type: ignore[attr-defined]
        facts = {"loaded": job.loaded} | (job.measured() if job.begun else {})
        result_of(job.folder).write_text(json.dumps(facts))


def result_of(folder: Path) -> Path:
    """Where a process of this folder leaves what it measured; its output is the peers'."""
    return folder.with_name(f"{folder.name}.json")


def start(name: str, folder: Path, options: argparse.Namespace, **more: Any) -> dict[str, Any] | None:
    """Run a way in a process of its own; None if it was killed. Raises RuntimeError if it failed."""
    words = {"size": options.size, "threads": options.threads, "rows": options.rows, "folder": folder, **more}
    command = [sys.executable, "-m", "benchmarks.checkpoint.each_step", f"--in-process={name}"]
    command += [f"--{key}" if value is True else f"--{key}={value}" for key, value in words.items()]
    log, result = folder.with_name(f"{folder.name}.log"), result_of(folder)
    result.unlink(missing_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    code = child.wait(timeout=600)
    with contextlib.suppress(ProcessLookupError):  # helpers of its own that outlive it, such as writing processes
        os.killpg(child.pid, signal.SIGKILL)
    if code == -signal.SIGKILL:
        return None
    if not result.exists():
        raise RuntimeError((log.read_text(errors="replace").strip().splitlines() or ["no words"])[-1][:160])
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def cost(names: list[str], options: argparse.Namespace, folder: Path) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    unit = copies(SIZES[options.size])
    for turn in range(options.rounds):
        for name in ["plain", *names]:
            try:
                one = start(name, fresh(folder / f"{name}{turn}"), options, steps=options.steps)
            except RuntimeError as error:
                print(f"{name} failed: {error}", flush=True)
                continue
            shutil.rmtree(folder / f"{name}{turn}")
            found.setdefault(name, []).append(one or {})
            pairs = list(zip(found[name], found["plain"], strict=False))
            later, more = (
                statistics.median(mine[key] - base[key] for mine, base in pairs) for key in ("seconds", "processor")
            )
            step = statistics.median(base["seconds"] for base in found["plain"])
            gigabytes = statistics.median(mine["bytes"] for mine in found[name]) / step * 3600 / 1e9
            print(
                f"{name:20} a step {step * 1e3:6.1f} ms, later by {later * 1e3:7.2f} ms ({later / step:6.1%}); "
                f"processor {more * 1e3:7.2f} ms ({more / unit:5.2f} copies); {gigabytes:7.1f} GB an hour; "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def faults(names: list[str], options: argparse.Namespace, folder: Path) -> None:
    for name in names:
        lost, flips = [], []
        for trial in range(options.trials):
            try:
                place, die_at = fresh(folder / f"{name}-kill{trial}"), 9 + trial
                start(name, place, options, steps=die_at, **{"die-at": die_at}, counts=True)
                loaded = (start(name, place, options, steps=0, counts=True) or {}).get("loaded")
                lost.append("nothing" if not loaded else "wrong" if loaded < 0 else f"{die_at - 1 - loaded:.0f}")
                shutil.rmtree(place)
                place = fresh(folder / f"{name}-flip{trial}")
                start(name, place, options, steps=9, counts=True)
                flip(place, trial)
                try:
                    loaded = (start(name, place, options, steps=0, counts=True) or {}).get("loaded")
                    flips.append("nothing" if not loaded else "WRONG" if loaded < 0 else f"step {loaded:.0f} of 9")
                except RuntimeError as error:
                    flips.append(f"refused ({error})")
                shutil.rmtree(place)
            except RuntimeError as error:
                lost.append(f"failed ({error})")
        print(
            f"{name:20} finished steps lost to kill -9: {', '.join(lost)}; a flipped bit: {', '.join(flips)}",
            flush=True,
        )


def flip(folder: Path, seed: int) -> None:
    """Turn one bit in the middle half of the largest of the files that were written last."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    newest = max(path.stat().st_mtime for path in files)
    path = max((each for each in files if each.stat().st_mtime > newest - 0.3), key=lambda each: each.stat().st_size)
    chance, data = random.Random(seed), bytearray(path.read_bytes())
    data[chance.randrange(len(data) // 4, len(data) * 3 // 4)] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", nargs="*", choices=("cost", "faults"), default=["cost", "faults"])
    parser.add_argument("--only", nargs="*", default=[name for name in WAYS if name != "plain"])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=0, help="of a batch; default: so many that a step takes 100 ms")
    parser.add_argument("--die-at", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--counts", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--in-process", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        job = Job(options)
        WAYS[options.in_process](job)
        report(job)
        return
    names = [name for name in options.only if importlib.util.find_spec(name.split(".")[0])]
    if absent := sorted(set(options.only) - set(names)):
        print(f"not installed, and left out: {', '.join(absent)}")
    options.rows = options.rows or rows_of(options)
    with tempfile.TemporaryDirectory() as folder:
        for what in options.what:
            {"cost": cost, "faults": faults}[what](names, options, Path(folder) / what)


def rows_of(options: argparse.Namespace) -> int:
    """Rows of a batch with which a step takes 100 ms of the processor on each thread."""
    torch.set_num_threads(options.threads)
    model, optimizer = network(SIZES[options.size])
    took = []
    for rows in (64, 256):
        train(model, optimizer, rows)
        each = []
        for _ in range(5):
            begun = time.process_time()
            train(model, optimizer, rows)
            each.append((time.process_time() - begun) / options.threads)
        took.append(statistics.median(each))
    slope = max(1e-6, (took[1] - took[0]) / (256 - 64))
    return max(8, int(64 + (STEP - took[0]) / slope))


if __name__ == "__main__":
    main()
