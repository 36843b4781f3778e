"""What a recipe is. How a run of one is prepared: `prepare`; how it is found: `registry`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from outlast.config import Config
from outlast.run.run import Run

Grade = Literal["exact", "statistical", "restart-epoch"]

Tell = Callable[[int, int], None]
"""Hears how many things of how many are done."""


@dataclass(frozen=True)
class Command:
    """What a recipe can do besides training: `outlast NAME RECIPE ...`. It prints nothing itself.

    Attributes:
        name: a verb that no other part of outlast has, such as "predict", or "data prepare".
        summary: one line.
        arguments: declares what it takes on an argparse parser.
        run: does it; yields the lines that the user is to read, and tells how far it is.
    """

    name: str
    summary: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Tell], Iterable[str]]


@dataclass(frozen=True)
class Recipe:
    """A training script with a name.

    Attributes:
        name: as in `outlast train NAME`.
        summary: one line for `outlast recipes`.
        Config: its values, a subclass of outlast.Config.
        train: train(run, config), which tracks, loops and logs.
        grade: what a resume gives: "exact", "statistical" or "restart-epoch".
        metric: the logged metric that best checkpoints are chosen by; of a validation split, never of the test split.
        mode: "max" when a larger metric is better.
        renamed: former name -> name of logged metrics, so that runs of earlier versions are read; see `outlast.open_run`.
        check: returns a line about the data that this config needs, or raises DataError or ConfigError (a device that is not
            there); used by doctor and --dry-run.
        part: the tracked part that `outlast export` writes: the network that the metric was measured on.
        ranks: whether `train` may be called by several ranks of torchrun, so that a launch uses all GPUs of a session.
        commands: what else it can do.
        exports: other forms than safetensors that `outlast export --format NAME` writes, by the ending of their files: each is given the opened run, the part and
            the file to write, and yields lines for the user.
        source: what `find` was asked for, so that a run can find its recipe again.
    """

    name: str
    summary: str
    Config: type[Config]
    train: Callable[[Run, Any], None]
    grade: Grade = "exact"
    metric: str | None = None
    mode: Literal["max", "min"] = "max"
    renamed: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Any], str] | None = None
    part: str = "model"
    ranks: bool = False
    commands: tuple[Command, ...] = ()
    exports: Mapping[str, Callable[[Any, str, Path], Iterable[str]]] = field(default_factory=dict)
    source: str = ""
