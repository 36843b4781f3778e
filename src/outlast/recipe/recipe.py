"""The class `Recipe`. `prepare` prepares a run of it; `registry` finds it."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from outlast.config.words import nearest
from outlast.errors import UnknownName, UsageError

if TYPE_CHECKING:  # pydantic and NumPy are behind them, and `outlast status` needs neither
    from outlast.config import Config
    from outlast.run.run import Run

Grade = Literal["exact", "statistical", "restart-epoch"]

Tell = Callable[[int, int], None]
"""Hears how many things of how many are done."""


@dataclass(frozen=True)
class Command:
    """A verb of a recipe besides training: `outlast NAME RECIPE ...`. It prints nothing itself.

    Attributes:
        name: a verb that outlast does not have, such as "predict", or "data prepare".
        summary: one line.
        arguments: adds its arguments to an argparse parser.
        run: executes it: yields the lines for the user, and reports its progress.
        unit: what its progress counts: things, or "bytes".
    """

    name: str
    summary: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Tell], Iterable[str]]
    unit: Literal["", "bytes"] = ""


@dataclass(frozen=True)
class Stage:
    """One training of a recipe with several.

    Its run is NAME.STAGE, an ordinary run.

    Attributes:
        name: of lower-case letters, digits and "-".
        train: train(run, config, inputs): as a recipe's; `inputs` has an `outlast.SavedCheckpoint` for each stage in
            `after`.
        after: the checkpoints of earlier stages on which it trains: {"vqvae": "best"}, or "latest". Those stages must
            finish first.
        metric, mode, part: as a recipe's, for this stage.
        instead: instead(config): whether these values ask for this stage alone, in place of all others. It is no link
            of the chain then or ever, and nothing is trained on it.
    """

    name: str
    train: Callable[[Run, Any, Mapping[str, Any]], None]
    after: Mapping[str, Literal["latest", "best"]] = field(default_factory=dict)
    metric: str | None = None
    mode: Literal["max", "min"] = "max"
    part: str = "model"
    instead: Callable[[Any], bool] | None = None


@dataclass(frozen=True)
class Recipe:
    """A training script with a name, or a chain of training scripts.

    Attributes:
        name: as in `outlast train NAME`.
        summary: one line for `outlast recipes`.
        Config: its values, a subclass of outlast.Config.
        train: train(run, config), which tracks, loops and logs; a recipe has either `train`, `code` or `stages`.
        code: the name of a module beside the recipe's, such as ".training". It has `train`, and if it likes `check`,
            `commands`, `exports` and `before`, as those below. It is imported when one of them is used, so that a
            machine without the framework can launch the recipe. Of a recipe with `stages` it has no `train`.
        stages: trainings one after the other, each a separate run.
        stage: the stage that this recipe represents; see `of_stage`.
        grade: the grade of a resume: "exact", "statistical" or "restart-epoch".
        metric: the logged metric that selects best checkpoints; of a validation split, never of the test split.
        mode: "max" if a larger metric is better.
        renamed: former name -> present name of logged metrics, so that runs of earlier versions are read; see
            `outlast.open_run`.
        check: returns a line about the data of a config, or raises DataError or ConfigError (a device that does not
            exist); used by doctor and --dry-run.
        part: the tracked part that `outlast export` writes: the network that the metric was measured on.
        ranks: whether several ranks of torchrun may call `train`, so that a launch uses all GPUs of a session.
        commands: its verbs besides training.
        exports: formats besides safetensors that `outlast export --format NAME` writes, by file suffix: each function
            takes the opened run, the part and the file to write, and yields lines for the user.
        before: before(config, flags, begun): what a launched session does before it trains, such as checks that only
            that machine can make. It is given the typed values, the flags of `outlast train`, and whether the run has a
            checkpoint already; it yields lines, and raises OutlastError if the session is to end instead.
        packages: packages(config): pinned requirements such as "name==1.2 --hash=sha256:...", which a session on a
            machine that is deleted afterwards installs if it has not that version, without what they require in turn.
        source: the argument of `find`, so that a run can find its recipe again.
        package: the package that `code` is in.
    """

    name: str
    summary: str
    Config: type[Config]
    train: Callable[[Run, Any], None] | None = None
    code: str | None = None
    grade: Grade = "exact"
    metric: str | None = None
    mode: Literal["max", "min"] = "max"
    renamed: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Any], str] | None = None
    part: str = "model"
    ranks: bool = False
    commands: tuple[Command, ...] = ()
    exports: Mapping[str, Callable[[Any, str, Path], Iterable[str]]] = field(default_factory=dict)
    before: Callable[[Any, Sequence[str], bool], Iterable[str]] | None = None
    packages: Callable[[Any], Sequence[str]] | None = None
    source: str = ""
    package: str = ""
    stages: tuple[Stage, ...] = ()
    stage: Stage | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself; raises UsageError."""
        given = [name for name in ("train", "code", "stages") if getattr(self, name)]
        if len(given) != 1 and given != ["code", "stages"]:
            raise UsageError(
                f"The recipe {self.name!r} needs either train (or code) or stages, and has "
                f"{'both' if given else 'neither'}."
            )
        earlier: dict[str, Stage] = {}
        names: set[str] = set()
        for stage in self.stages:
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", stage.name) or stage.name in {*names, "all"}:
                raise UsageError(
                    f"The recipe {self.name!r} has a stage {stage.name!r}; expected a name of up to 40 lower-case "
                    "letters, digits and '-' that no "
                    "other stage has, and not 'all'."
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
            names.add(stage.name)
            if stage.instead is None:
                earlier[stage.name] = stage

    @property
    def home(self) -> str:
        """The name of the module or package that it is in."""
        functions = [self.train, *(stage.train for stage in self.stages)]
        return self.package or next(function.__module__ for function in functions if function)

    @property
    def links(self) -> tuple[Stage, ...]:
        """The stages that are trained one after the other."""
        return tuple(stage for stage in self.stages if stage.instead is None)

    def of_stage(self, name: str) -> Recipe:
        """This recipe as that of one of its stages; raises UnknownName when it has none of that name."""
        found = next((stage for stage in self.stages if stage.name == name), None)
        if found is None:
            names = [stage.name for stage in self.links]
            raise UnknownName(
                f"The recipe {self.name!r} has no stage {name!r}; it has "
                f"{', '.join(names) or 'none'}.{nearest(name, names)}"
            )
        return replace(self, stage=found, metric=found.metric, mode=found.mode, part=found.part)
