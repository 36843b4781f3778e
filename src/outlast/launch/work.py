"""What is launched, as `launch` and `relay` see it: the run of a recipe (here), or of a command (`command`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from outlast.checkpoint import Checkpoint, Retention
from outlast.config import resolve
from outlast.folder import plain
from outlast.folder.layout import RunFolder
from outlast.launch import bundle
from outlast.recipe import inputs
from outlast.recipe.prepare import PreparedRun
from outlast.report import read_run


class Work(Protocol):
    """A run that sessions of a provider work on, one after the other.

    Attributes:
        run_id: the run's name.
        folder: its folder on this machine, which may not exist yet.
        seconds: the budget of a session that was given, or None.
        fork_of: the checkpoint that a new run begins from, or None.
        best: the retention that says which checkpoint is the best one.
        remote: the remote that follows the run on this machine, or None.
    """

    @property
    def run_id(self) -> str: ...  # noqa: D102 - see above
    @property
    def folder(self) -> RunFolder: ...  # noqa: D102
    @property
    def seconds(self) -> float | None: ...  # noqa: D102
    @property
    def fork_of(self) -> Checkpoint | None: ...  # noqa: D102
    @property
    def best(self) -> Retention: ...  # noqa: D102
    @property
    def remote(self) -> str | None: ...  # noqa: D102

    def remote_in(self, file: Path | None) -> str | None:
        """The remote that an environment file sets for the run."""
        ...

    def files(self) -> bundle.Files:
        """The files of the user that a session needs.

        Raises:
            UsageError: they cannot be sent.
        """
        ...

    def asked(self, *, budget: float, step: int = 0) -> dict[str, Any]:
        """The request for `outlast.launch.inside`.

        Args:
            budget: seconds of training.
            step: of the checkpoint which is sent or attached. The session fails if it finds only an older one.
        """
        ...

    def recorded(self, *, budget: float) -> dict[str, Any]:
        """What the launch record holds of the request: enough to tell two requests apart, and no secret."""
        ...

    def inputs(self) -> Mapping[RunFolder, int]:
        """The checkpoints of other runs that the first session needs: folder -> step."""
        ...

    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        ...


@dataclass(frozen=True)
class RecipeWork:
    """The run of a recipe (see `Work`)."""

    prepared: PreparedRun

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.prepared.run_id

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return self.prepared.folder

    @property
    def seconds(self) -> float | None:
        """The value `budget`."""
        budget: float | None = self.prepared.resolved.config.budget
        return budget

    @property
    def fork_of(self) -> Checkpoint | None:
        """What --resume named, if the run is new."""
        return self.prepared.fork_of

    @property
    def best(self) -> Retention:
        """By the recipe's metric."""
        recipe = self.prepared.recipe
        return Retention(best=1, metric=recipe.metric, mode=recipe.mode) if recipe.metric else Retention()

    @property
    def remote(self) -> str | None:
        """The value `remote`."""
        remote: str | None = self.prepared.resolved.config.remote
        return remote

    def remote_in(self, file: Path | None) -> str | None:
        """The value `remote` of a file."""
        remote: str | None = resolve(self.prepared.recipe.Config, environment_file=file).config.remote
        return remote

    def files(self) -> bundle.Files:
        """The folder of the user's own recipe."""
        return bundle.files_of(self.prepared)

    def asked(self, *, budget: float, step: int = 0) -> dict[str, Any]:
        """The recipe, and the values that were given here."""
        return bundle.request_of(self.prepared, budget=budget, step=step)

    def recorded(self, *, budget: float) -> dict[str, Any]:
        """The request as it is."""
        return self.asked(budget=budget)

    def inputs(self) -> Mapping[RunFolder, int]:
        """The checkpoints that a stage is trained on."""
        found = inputs.open_inputs(self.folder, self.prepared.recipe)
        return {RunFolder(saved.folder): saved.step for saved in found.values()}

    def is_finished(self) -> bool:
        """Whether the run is finished, and no value asks for more."""
        finished = bool(plain.kind_of(self.folder.run)) and read_run(self.folder.path).status == "finished"
        return finished and not self.prepared.resolved.changes
