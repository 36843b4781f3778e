"""A run as it lies on disk, opened for looking at: its recipe, its values, and the parts of one checkpoint. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast import files, state
from outlast.checkpoint import Opened, Retention, Store, open_checkpoint
from outlast.config import Config, find_file, resolve
from outlast.config.yamlfile import nearest
from outlast.environment import detect
from outlast.errors import UnknownName, UsageError
from outlast.files import RunFolder
from outlast.places import stored_config
from outlast.recipe import Recipe, find
from outlast.report import read_run


@dataclass(frozen=True)
class Saved:
    """One checkpoint of a run, verified.

    Attributes:
        run_id: the run's name.
        folder: its folder.
        step: of the checkpoint.
        recipe: the recipe that it is a run of.
        config: the values that it was trained with; those of the machine are this machine's.
    """

    run_id: str
    folder: Path
    step: int
    recipe: Recipe
    config: Any
    _opened: Opened

    def part(self, name: str | None = None) -> Any:
        """The state_dict of a tracked part, in memory of its own; by default that of the part that the recipe measures.

        Raises:
            UnknownName: the checkpoint has no such part.
        """
        name = name or self.recipe.part
        parts = self._opened.state["parts"]
        if name not in parts:
            raise UnknownName(
                f"The checkpoint at step {self.step} of {self.folder} has no part {name!r}; it holds {', '.join(sorted(parts))}."
            )
        return state.unpack_value(name, parts[name]["state"], self._opened.parts.get(name, {}))

    def restore(self, initial: Any, name: str = "state") -> Any:
        """The pytree that a run offered, in the form of one of the same structure, as `Run.restore` gives it.

        Raises:
            UnknownName: the checkpoint has no such pytree.
            ResumeRefused: it has another form.
        """
        parts = self._opened.state["parts"]
        if name not in parts or parts[name]["kind"] != "tree":
            trees = sorted(part for part, stored in parts.items() if stored["kind"] == "tree")
            raise UnknownName(
                f"The checkpoint at step {self.step} of {self.folder} has no pytree {name!r}; it holds {', '.join(trees) or 'none'}."
            )
        return state.unpack_tree(name, initial, parts[name]["state"], self._opened.parts.get(name, {}))


def open_saved(
    run: str | Path,
    *,
    root: Path = Path("runs"),
    step: str | int = "latest",
    flags: Mapping[str, str | bool] | None = None,
) -> Saved:
    """Open a checkpoint of a run for evaluating, exporting or drawing.

    Args:
        run: a run's name or folder, or the folder of one of its checkpoints, which is the step then.
        root: folder that holds the run folders.
        step: a step, "latest", or "best" by the recipe's metric.
        flags: dotted key -> text, for values of this machine such as data_root.

    Raises:
        UnknownName: there is no such run, recipe or checkpoint.
        UsageError: it is the run of a script, which has no recipe.
        CorruptCheckpoint: the checkpoint does not verify.
    """
    path = Path(run)
    if (own := files.step_of(path)) is not None and path.is_dir():
        run, step = path.parents[1], str(own)
    folder = folder_of(run, root)
    place = RunFolder(folder)
    source = read_run(folder).about["recipe"]
    if not source:
        raise UsageError(
            f"{folder} is the run of a script, not of a recipe; its script knows how to use what it saved."
        )
    recipe = find(source)
    environment = detect("auto")
    resolved = resolve(
        recipe.Config,
        flags=flags,
        environment_file=find_file(f"environment/{environment.name}.yaml"),
        stored=stored_config(place, ()),
    )
    number = step_of(place, str(step))
    config: Config = resolved.config
    return Saved(folder.resolve().name, folder, number, recipe, config, open_checkpoint(place.checkpoint(number)))


def folder_of(run: str | Path, root: Path = Path("runs")) -> Path:
    """The folder of a run, by path or by name.

    Raises:
        UnknownName: there is none.
    """
    path = Path(run)
    if (path / "run.json").is_file():
        return path
    if not (root / path / "run.json").is_file():
        there = sorted(found.parent.name for found in root.glob("*/run.json"))
        raise UnknownName(
            f"There is no run {str(run)!r}: {root} holds {', '.join(there) or 'no runs yet'}.{nearest(str(run), there)}"
        )
    return root / path


def part_of(place: RunFolder) -> str:
    """The part of a run that its recipe measures; "model" for a script's."""
    recipe = read_run(place.path).about["recipe"]
    return find(recipe).part if recipe else "model"


def step_of(place: RunFolder, wanted: str) -> int:
    """The step that a user means by a number, "latest" or "best".

    Raises:
        UnknownName: there is no such checkpoint.
        UsageError: "best" of a run whose recipe measures nothing.
    """
    checkpoints = Store(place).committed()
    if not checkpoints:
        raise UnknownName(f"{place.path} has no checkpoints yet.")
    if wanted == "latest":
        return checkpoints[-1].step
    if wanted == "best":
        about = read_run(place.path).about
        recipe = find(about["recipe"]) if about["recipe"] else None
        if recipe is None or recipe.metric is None:
            raise UsageError(f"--step best needs a recipe with a metric, and {place.path} has none; give a step.")
        best = Retention(best=1, metric=recipe.metric, mode=recipe.mode).best_step([c.kept for c in checkpoints])
        if best is None:
            raise UnknownName(f"No checkpoint in {place.path} logged {recipe.metric} at its own step; give a step.")
        return best
    steps = [checkpoint.step for checkpoint in checkpoints]
    if not wanted.isdigit() or int(wanted) not in steps:
        raise UnknownName(f"{place.path} has no checkpoint at step {wanted}; there are {', '.join(map(str, steps))}.")
    return int(wanted)
