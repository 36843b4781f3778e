"""`outlast pipeline yolo`: the steps of the original's training script as one command.

Each step is one or two other commands of outlast, in a process of their own, so each can be typed alone as well. A
step that is repeated continues or finds its work done: a training continues its run, a publication is visible already.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import outlast

RECIPE = "yolo"
_PACKAGES = ("outlast", "torch", "numpy", "pillow", "safetensors", "ultralytics", "dvc")


@dataclass(frozen=True)
class Step:
    """One step: its number, its name, what it does, and how."""

    number: int
    name: str
    summary: str
    run: Callable[[Namespace], Iterator[str]]


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--list", action="store_true", help="list the steps and do nothing")
    parser.add_argument("--step", type=int, metavar="N", help="do only this step")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="N", help="begin with this step")
    parser.add_argument("--experiment", type=Path, metavar="YAML", help="values of the training from a file")
    parser.add_argument("--experiment-name", metavar="NAME", help="name of the run (default: as the file)")
    parser.add_argument("--data-path", "--data", "--data-root", type=Path, metavar="DIR", help="folder of the data")
    parser.add_argument(
        "--checkpoint-dir", type=Path, default=Path("runs"), metavar="PATH", help="folder of the runs (default: runs)"
    )
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="least number of GPUs (default: 0)")
    parser.add_argument("--on", metavar="PROVIDER", help="train in sessions there, such as kaggle (default: here)")
    parser.add_argument("--to", metavar="git+dvc|ADDRESS", help="where to publish (default: nowhere)")
    parser.add_argument("--store", metavar="ADDRESS", help="with --to git+dvc: store of the weights")
    parser.add_argument("--git", metavar="REMOTE|URL", help="with --to git+dvc: git remote (default: origin)")
    parser.add_argument("--module", metavar="NAME", help="module in the publication's name (default: yolo)")
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", help="further flags of `outlast train`, after --")


def run(values: Namespace, _progress: Callable[[int, int], None]) -> Iterator[str]:
    steps = _chosen(values)
    if values.list:
        yield from (f"{step.number:>2}  {step.name:<14}  {step.summary}" for step in STEPS)
        return
    seconds: dict[int, float] = {}
    for step in steps:
        yield f"-- {step.number}/10 {step.name}: {step.summary}"
        began = time.monotonic()
        try:
            yield from step.run(values)
        except outlast.OutlastError as error:
            again = shlex.join(["outlast", "pipeline", RECIPE, "--from", str(step.number), *_own_flags(values)])
            raise outlast.OutlastError(
                f"Step {step.number} ({step.name}) failed after {time.monotonic() - began:.1f} s: {error} Continue "
                f"there: {again}"
            ) from error
        seconds[step.number] = time.monotonic() - began
    yield ""
    for step in steps:
        yield f"{step.number:>2}  {step.name:<14} {seconds[step.number]:>8.1f} s"
    yield f"    {'all':<14} {sum(seconds.values()):>8.1f} s"


def _chosen(values: Namespace) -> tuple[Step, ...]:
    numbers = [step.number for step in STEPS]
    for flag, number in (("--step", values.step), ("--from", values.first)):
        if number is not None and number not in numbers:
            raise outlast.ConfigError(f"{flag} is {number}; expected {numbers[0]} to {numbers[-1]}.")
    if values.step is not None:
        return tuple(step for step in STEPS if step.number == values.step)
    return STEPS[values.first :]


def _gpus(values: Namespace) -> Iterator[str]:
    import torch

    count = torch.cuda.device_count()
    for number in range(count):
        found = torch.cuda.get_device_properties(number)
        yield f"GPU {number}: {found.name}, {found.total_memory / 2**30:.1f} GiB"
    if count < values.gpus:
        raise outlast.OutlastError(
            f"there are {count} GPUs and --gpus asks for {values.gpus}; on Kaggle the accelerator is set in "
            "outlast-launch.yaml."
        )
    if not count:
        yield "No GPU: the training runs on the CPU."


def _code(_values: Namespace) -> Iterator[str]:
    yield f"outlast {outlast.__version__}, Python {sys.version.split()[0]}"
    if shutil.which("git"):
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            more = ", with changes that are in no commit" if changed.stdout.strip() else ""
            yield f"this folder is at commit {done.stdout.strip()}{more}"


def _dependencies(_values: Namespace) -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            if name not in ("ultralytics", "dvc"):
                raise outlast.OutlastError(f"{name} is not installed: pip install 'outlast[yolo]'.") from None
            yield f"{name} is not installed"


def _store(values: Namespace) -> Iterator[str]:
    address = values.store or (values.to if values.to != "git+dvc" else None)
    if address is None:
        yield "Nothing is published: --to is not given."
    elif "://" in address:
        yield from _outlast("publish", "--from", address)
    else:
        place = Path(address)
        nearest = next(each for each in (place, *place.absolute().parents) if each.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise outlast.OutlastError(f"the store {address} cannot be written: {nearest} is read-only or no folder.")
        yield f"The store {address} can be written."


def _git(values: Namespace) -> Iterator[str]:
    if values.to != "git+dvc":
        yield "No branch is made: --to is not git+dvc."
        return
    remote = values.git or "origin"
    if "/" in remote or ":" in remote:
        yield "The branch is pushed to the URL that --git gives."
        return
    done = subprocess.run(["git", "remote", "get-url", remote], capture_output=True, text=True, check=False)
    if done.returncode:
        raise outlast.OutlastError(
            f"this folder has no git remote {remote!r}: {done.stderr.strip()}. Give it with --git."
        )
    yield f"The branch is pushed to the git remote {remote}."


def _machine(values: Namespace) -> Iterator[str]:
    yield from _outlast("doctor", RECIPE, *_training(values))


def _data(values: Namespace) -> Iterator[str]:
    if values.data_path is None:
        raise outlast.OutlastError("the folder of the data is not given: --data-path DIR.")
    pointer = values.data_path.with_name(f"{values.data_path.name}.dvc")
    if not values.data_path.exists() and pointer.is_file():
        yield from _lines("dvc", "pull", str(pointer))
    yield from _outlast("data", "check", RECIPE, str(values.data_path))


def _configuration(values: Namespace) -> Iterator[str]:
    yield from _outlast("config", RECIPE, *_training(values))


def _weights(values: Namespace) -> Iterator[str]:
    yield "Nothing is downloaded: weights are random, or those of model.resume_from."
    yield from _outlast("train", RECIPE, *_training(values), "--dry-run")


def _train(values: Namespace) -> Iterator[str]:
    if values.on:
        yield from _outlast("relay", RECIPE, "--on", values.on, *_training(values))
    else:
        yield from _outlast("train", RECIPE, *_training(values))
    if values.to is None:
        return
    name = values.checkpoint_dir / _name(values)
    words = ["publish", str(name), "--to", values.to]
    for flag in ("store", "git", "module"):
        if getattr(values, flag) is not None:
            words += [f"--{flag}", str(getattr(values, flag))]
    try:
        yield from _outlast(*words)
    except outlast.OutlastError as error:
        raise outlast.OutlastError(
            f"{error} Nothing became visible. The model is whole in {name}; publish it later with: "
            f"{shlex.join(['outlast', *words])}"
        ) from error


def _clean_up(values: Namespace) -> Iterator[str]:
    yield "The memory of GPUs is free: each step was a process of its own, and has ended."
    yield from _outlast("status", _name(values), "--checkpoint-dir", str(values.checkpoint_dir))


STEPS = (
    Step(0, "gpu", "count the GPUs", _gpus),
    Step(1, "code", "say which version of the code is used", _code),
    Step(2, "dependencies", "say which packages are installed", _dependencies),
    Step(3, "store", "look at the store of the weights", _store),
    Step(4, "git", "look at the git remote", _git),
    Step(5, "machine", "check machine, limits, disk and names of secrets (outlast doctor)", _machine),
    Step(6, "data", "pull the data if DVC has them, and check them (outlast data check)", _data),
    Step(7, "configuration", "show every value and where it comes from (outlast config)", _configuration),
    Step(8, "weights", "check weights to start from, and everything else (outlast train --dry-run)", _weights),
    Step(9, "training", "train, and publish all or nothing (outlast train, outlast publish)", _train),
    Step(10, "cleanup", "show what there is (outlast status)", _clean_up),
)


def _name(values: Namespace) -> str:
    """Of the run."""
    return values.experiment_name or (values.experiment.stem if values.experiment else RECIPE)


def _training(values: Namespace) -> list[str]:
    """Flags of `outlast train`."""
    words = ["--experiment-name", _name(values), "--checkpoint-dir", str(values.checkpoint_dir)]
    if values.experiment:
        words += ["--train-config", str(values.experiment)]
    if values.data_path:
        words += ["--data-root", str(values.data_path)]
    return [*words, *values.flags]


def _own_flags(values: Namespace) -> list[str]:
    """The flags that were given, for the command that continues."""
    words = []
    for flag in ("experiment", "experiment_name", "data_path", "on", "to", "store", "git", "module"):
        if (value := getattr(values, flag)) is not None:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    for flag, usual in (("checkpoint_dir", Path("runs")), ("gpus", 0)):
        if (value := getattr(values, flag)) != usual:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    return [*words, *(["--", *values.flags] if values.flags else [])]


def _outlast(*words: str) -> Iterator[str]:
    yield from _lines(sys.executable, "-m", "outlast", *words, shown="outlast")


def _lines(*words: str, shown: str = "") -> Iterator[str]:
    """What a command prints, line by line.

    Raises:
        outlast.SessionEnded: it ended with 75, "run me again", or was interrupted.
        outlast.OutlastError: it failed.
    """
    name = shlex.join([shown, *words[3:]] if shown else words)
    try:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    except OSError as error:
        raise outlast.OutlastError(f"{words[0]} cannot be started: {error.strerror}.") from error
    said = ""
    with process, _passed_on(process):
        try:
            for line in process.stdout or ():
                said = line.rstrip("\n") or said
                yield line.rstrip("\n")
        except BaseException:  # an interruption reaches the process as well; it saves before it ends
            process.wait()
            raise
    if process.returncode in (75, 130):
        raise outlast.SessionEnded("budget" if process.returncode == 75 else "cancelled")
    if process.returncode:
        raise outlast.OutlastError(f"`{name}` ended with {process.returncode}: {said.removeprefix('error: ')}")


@contextlib.contextmanager
def _passed_on(process: subprocess.Popen[str]) -> Iterator[None]:
    """SIGTERM to this process is one to the step: a training saves, and ends with 75."""

    def tell(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    try:
        before = signal.signal(signal.SIGTERM, tell)
    except ValueError:  # not in the main thread, where signals do not arrive either
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
