"""The class `Recipe`. `prepare` prepares a run of it; `registry` finds it."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from outlast.config import Config
from outlast.config.words import nearest
from outlast.errors import UnknownName, UsageError
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
class Stage:
    """One of the trainings of a recipe that has several, one after the other.

    Its run is NAME.STAGE, a run like any other.

    Attributes:
        name: of lower-case letters, digits and "-".
        train: train(run, config, inputs): as a recipe's, and `inputs` has an `outlast.SavedCheckpoint` for each stage
            that `after` names.
        after: which checkpoint of which earlier stages it trains on: {"vqvae": "best"}, or "latest". Those stages
            finish first.
        metric, mode, part: as a recipe's, for this stage.
    """

    name: str
    train: Callable[[Run, Any, Mapping[str, Any]], None]
    after: Mapping[str, Literal["latest", "best"]] = field(default_factory=dict)
    metric: str | None = None
    mode: Literal["max", "min"] = "max"
    part: str = "model"


@dataclass(frozen=True)
class Recipe:
    """A training script with a name, or a chain of such.

    Attributes:
        name: as in `outlast train NAME`.
        summary: one line for `outlast recipes`.
        Config: its values, a subclass of outlast.Config.
        train: train(run, config), which tracks, loops and logs; a recipe has it, or stages.
        stages: trainings one after the other, each a run of its own.
        stage: the one of them that this recipe stands for; see `of_stage`.
        grade: what a resume gives: "exact", "statistical" or "restart-epoch".
        metric: the logged metric that best checkpoints are chosen by; of a validation split, never of the test split.
        mode: "max" when a larger metric is better.
        renamed: former name -> name of logged metrics, so that runs of earlier versions are read; see
            `outlast.open_run`.
        check: returns a line about the data that this config needs, or raises DataError or ConfigError (a device that
            is not there); used by doctor and --dry-run.
        part: the tracked part that `outlast export` writes: the network that the metric was measured on.
        ranks: whether `train` may be called by several ranks of torchrun, so that a launch uses all GPUs of a session.
        commands: what else it can do.
        exports: other forms than safetensors that `outlast export --format NAME` writes, by the ending of their files:
            each is given the opened run, the part and the file to write, and yields lines for the user.
        source: what `find` was asked for, so that a run can find its recipe again.
    """

    name: str
    summary: str
    Config: type[Config]
    train: Callable[[Run, Any], None] | None = None
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
    stages: tuple[Stage, ...] = ()
    stage: Stage | None = None

    def __post_init__(self) -> None:
        """Refuse stages that contradict each other; raises UsageError."""
        if (self.train is None) is not bool(self.stages):
            raise UsageError(
                f"The recipe {self.name!r} needs either train or stages, and has {'both' if self.train else 'neither'}."
            )
        earlier: dict[str, Stage] = {}
        for stage in self.stages:
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", stage.name) or stage.name in earlier:
                raise UsageError(
                    f"The recipe {self.name!r} has a stage {stage.name!r}; expected a name of up to 40 lower-case "
                    "letters, digits and '-' that no "
                    "other stage has."
                )
            for name, choice in stage.after.items():
                if name not in earlier:
                    raise UsageError(
                        f"The stage {stage.name!r} of the recipe {self.name!r} comes after {name!r}, which is no "
                        "earlier stage; earlier are: "
                        f"{', '.join(earlier) or 'none'}."
                    )
                if choice not in ("latest", "best") or (choice == "best" and earlier[name].metric is None):
                    raise UsageError(
                        f"The stage {stage.name!r} of the recipe {self.name!r} takes {choice!r} of {name!r}; expected "
                        "'latest', or 'best' of a stage "
                        "with a metric."
                    )
            earlier[stage.name] = stage

    @property
    def code(self) -> Callable[..., None]:
        """The function that trains, of a chain the first one: where its source is, the recipe's is."""
        return self.train or self.stages[0].train

    def of_stage(self, name: str) -> Recipe:
        """This recipe as that of one of its stages; raises UnknownName when it has none of that name."""
        found = next((stage for stage in self.stages if stage.name == name), None)
        if found is None:
            names = [stage.name for stage in self.stages]
            raise UnknownName(
                f"The recipe {self.name!r} has no stage {name!r}; it has "
                f"{', '.join(names) or 'none'}.{nearest(name, names)}"
            )
        return replace(self, stage=found, metric=found.metric, mode=found.mode, part=found.part)
