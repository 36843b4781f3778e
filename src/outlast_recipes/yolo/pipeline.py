"""`outlast pipeline yolo`: the steps of the original's training script as one command.

Each step is one or two other commands of outlast, in a process of their own, so each can be typed alone as well. A
step that is repeated continues or finds its work done: a training continues its run, a publication is visible already.

A launched session does the steps that are about its machine, before it trains (`before`). With --on this machine does
the others: it looks at the places for the results, relays the sessions, and publishes when the run is home.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import outlast
from outlast_recipes.common.run_options import RUNS, add_runs_folder
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.stepping import lines_of, outlast_command

RECIPE = "yolo"
_OWN = ("--experiment-name", "--checkpoint-dir", "--data-path", "--data-root", "--data", "--experiment", "--on")
_LEAST_FREE = 64 * 2**20  # bytes: the weights of the smallest architecture, best and last, in both formats
_PACKAGES = ("outlast", "torch", "numpy", "pillow", "safetensors", "ultralytics", "dvc")


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        number, name, summary: of it, for the user.
        run: does it.
        sessions: whether each launched session does it; then it is not done here with --on.
    """

    number: int
    name: str
    summary: str
    run: Callable[[Namespace], Iterator[str]]
    sessions: bool = False


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--list", action="store_true", help="list the steps, and run none")
    parser.add_argument("--step", type=int, metavar="N", help="number of the only step to run")
    parser.add_argument(
        "--from", dest="first", type=int, default=0, metavar="N", help="number of the first step to run"
    )
    parser.add_argument("--experiment", type=Path, metavar="YAML", help="file with values of the training")
    parser.add_argument("--experiment-name", metavar="NAME", help="name of the run (default: name of the file)")
    parser.add_argument("--data-path", "--data", "--data-root", type=Path, metavar="DIR", help="folder of the data")
    add_runs_folder(parser)
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="minimum number of GPUs (default: 0)")
    parser.add_argument(
        "--on",
        metavar="PROVIDER",
        help="provider of the training sessions, such as kaggle, which check their machine and data",
    )
    parser.add_argument("--to", metavar="git+dvc|ADDRESS", help="destination of the publication (default: none)")
    parser.add_argument("--store", metavar="ADDRESS", help="with --to git+dvc: store of the weights")
    parser.add_argument("--git", metavar="REMOTE|URL", help="with --to git+dvc: git remote (default: origin)")
    parser.add_argument("--module", metavar="NAME", help="module in the publication's name (default: yolo)")
    parser.add_argument(
        "flags", nargs="*", metavar="-- FLAG", help="further flags of `outlast train`, or `outlast relay`, after --"
    )


def run(values: Namespace, _progress: Callable[[int, int], None]) -> Iterator[str]:
    steps = _chosen(values)
    if values.list:
        yield from (f"{step.number:>2}  {step.name:<14}  {step.summary}" for step in STEPS)
        return
    values.training, values.launched, values.begun = _training(values), False, False

    def again(step: Step) -> str:
        words = shlex.join(["outlast", "pipeline", RECIPE, "--from", str(step.number), *_own_flags(values)])
        return f" Continue there: {words}"

    if values.on:
        yield f"Steps {', '.join(str(step.number) for step in STEPS if step.sessions)} are done by each session."
    yield from _timed(steps, values, again)


def before(config: YoloConfig, flags: Sequence[str], begun: bool) -> Iterator[str]:  # noqa: FBT001
    """The steps that a launched session does before it trains; see `outlast.Recipe`.

    Once the run is begun, a session refuses data of another hash, so the pixels are not looked at again.
    """
    values = Namespace(gpus=0, data_path=config.data_root, training=list(flags), launched=True, begun=begun)
    yield from _timed(tuple(step for step in STEPS if step.sessions), values, lambda _: "")


def _timed(steps: Sequence[Step], values: Namespace, again: Callable[[Step], str]) -> Iterator[str]:
    """Do steps one after the other; `again` is the sentence for a step that failed."""
    seconds: dict[int, float] = {}
    for step in steps:
        yield f"-- {step.number}/10 {step.name}: {step.summary}"
        began = time.monotonic()
        try:
            yield from step.run(values)
        except outlast.OutlastError as error:
            raise outlast.OutlastError(
                f"Step {step.number} ({step.name}) failed after {time.monotonic() - began:.1f} s: {error}{again(step)}"
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
    own = {name.partition("=")[0].replace("_", "-") for name in values.flags} & set(_OWN)
    if own:
        raise outlast.ConfigError(
            f"{', '.join(sorted(own))} stands after --, where this command does not see it, and another run would be "
            "published. Give it before --."
        )
    if values.on and values.gpus:
        raise outlast.ConfigError(
            f"--gpus {values.gpus} counts the GPUs of this machine, and --on {values.on} trains elsewhere. Choose them "
            "there: -- --accelerator t4x2"
        )
    if values.step is None:
        return tuple(step for step in STEPS[values.first :] if not (values.on and step.sessions))
    step = STEPS[values.step]
    if values.on and step.sessions:
        raise outlast.ConfigError(
            f"With --on {values.on} step {step.number} ({step.name}) is done by each session, before it trains. To do "
            "it on this machine, leave out --on."
        )
    return (step,)


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
        yield from outlast_command("publish", "--from", address)
    else:
        place = Path(address)
        nearest = next(each for each in (place, *place.absolute().parents) if each.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise outlast.OutlastError(f"the store {address} cannot be written: {nearest} is read-only or no folder.")
        free = shutil.disk_usage(nearest).free
        if free < _LEAST_FREE:
            raise outlast.OutlastError(
                f"the store {address} has {free / 2**20:.1f} MiB free; expected {_LEAST_FREE / 2**20:.0f} MiB or more. "
                "Free space there, or give another store."
            )
        yield f"The store {address} can be written; {free / 2**30:.1f} GiB are free."


def _git(values: Namespace) -> Iterator[str]:
    if values.to != "git+dvc":
        yield "No branch is made: --to is not git+dvc."
    else:
        yield _remote(values.git or "origin")
    if values.on and values.to:  # step 5 does this here otherwise
        yield from outlast_command("doctor", *_place(values))


def _remote(remote: str) -> str:
    """A sentence on the git remote; raises outlast.OutlastError when this folder has none of that name."""
    if "/" in remote or ":" in remote:
        return "The branch is pushed to the URL that --git gives."
    done = subprocess.run(["git", "remote", "get-url", "--", remote], capture_output=True, text=True, check=False)
    if done.returncode:
        raise outlast.OutlastError(
            f"this folder has no git remote {remote!r}: {done.stderr.strip()}. Give it with --git."
        )
    return f"The branch is pushed to the git remote {remote}."


def _place(values: Namespace) -> list[str]:
    """Flags by which `outlast doctor` asks the servers whether they take the publication; nothing stays on them."""
    given = (("to", values.to), ("store", values.store), ("git", values.git))
    return [word for name, value in given if value for word in (f"--publish.{name}", value)]


def _machine(values: Namespace) -> Iterator[str]:
    more = [] if values.launched else _place(values)
    yield from outlast_command("doctor", RECIPE, *values.training, *more)


def _data(values: Namespace) -> Iterator[str]:
    if values.data_path is None:
        raise outlast.OutlastError("the folder of the data is not given: --data-path DIR.")
    pointer = values.data_path.parent / f"{values.data_path.name}.dvc"  # `.` has no name
    if not values.data_path.exists() and pointer.is_file():
        yield from lines_of("dvc", "pull", str(pointer))
    yield from outlast_command("data", "check", RECIPE, str(values.data_path), *(["--quick"] if values.begun else []))


def _configuration(values: Namespace) -> Iterator[str]:
    yield from outlast_command("config", RECIPE, *values.training)


def _weights(values: Namespace) -> Iterator[str]:
    yield "Nothing is downloaded: weights are random, or those of model.resume_from."
    if not values.launched:  # a session has had all that checked by outlast doctor, and trains next
        yield from outlast_command("train", RECIPE, *values.training, "--dry-run")


def _train(values: Namespace) -> Iterator[str]:
    words = _publication(values)
    if values.on:
        if words:
            yield (
                "The sessions publish nothing, and nothing for it is sent to them. When the run is finished and here, "
                f"this command publishes it, or: {shlex.join(['outlast', *words])}"
            )
        yield from outlast_command("relay", RECIPE, "--on", values.on, *values.training)
    else:
        yield from outlast_command("train", RECIPE, *values.training)
    if not words:
        return
    try:
        yield from outlast_command(*words)
    except outlast.OutlastError as error:
        raise outlast.OutlastError(
            f"{error} Nothing became visible. The model is whole in {words[1]}; publish it later with: "
            f"{shlex.join(['outlast', *words])}"
        ) from error


def _publication(values: Namespace) -> list[str]:
    """The command that publishes the run; empty if it is not published."""
    if values.to is None:
        return []
    words = ["publish", str(values.checkpoint_dir / _name(values)), "--to", values.to]
    for flag in ("store", "git", "module"):
        if getattr(values, flag) is not None:
            words += [f"--{flag}", str(getattr(values, flag))]
    return words


def _clean_up(values: Namespace) -> Iterator[str]:
    yield "The memory of GPUs is free: each step was a process of its own, and has ended."
    yield from outlast_command("status", _name(values), "--checkpoint-dir", str(values.checkpoint_dir))


STEPS = (
    Step(0, "gpu", "count the GPUs", _gpus, sessions=True),
    Step(1, "code", "say which version of the code is used", _code, sessions=True),
    Step(2, "dependencies", "say which packages are installed", _dependencies, sessions=True),
    Step(3, "store", "look at the store of the weights", _store),
    Step(4, "git", "look at the git remote", _git),
    Step(
        5,
        "machine",
        "check machine, limits, disk, secrets and the place of publication (outlast doctor)",
        _machine,
        sessions=True,
    ),
    Step(6, "data", "pull the data if DVC has them, and check them (outlast data check)", _data, sessions=True),
    Step(
        7, "configuration", "show every value and where it comes from (outlast config)", _configuration, sessions=True
    ),
    Step(
        8,
        "weights",
        "check weights to start from, and everything else (outlast train --dry-run)",
        _weights,
        sessions=True,
    ),
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
    for flag, usual in (("checkpoint_dir", RUNS), ("gpus", 0)):
        if (value := getattr(values, flag)) != usual:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    return [*words, *(["--", *values.flags] if values.flags else [])]
