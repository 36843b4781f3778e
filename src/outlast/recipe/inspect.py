"""Opens a run folder for reading: its recipe, its values, and the parts of one checkpoint.

Nothing of it is changed; what is made from it becomes an artifact.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast import state
from outlast.checkpoint import OpenedCheckpoint, open_checkpoint
from outlast.checkpoint.export import describe
from outlast.config.words import nearest
from outlast.environment import detect
from outlast.errors import OutlastError, UnknownName, UsageError
from outlast.folder import durable, layout
from outlast.folder.artifact import manifest_of, replaced
from outlast.folder.layout import RunFolder
from outlast.recipe import lookup
from outlast.recipe.recipe import Recipe
from outlast.recipe.registry import find
from outlast.remote.attached import stored_config

if TYPE_CHECKING:
    from outlast.config import Config


@dataclass(frozen=True)
class SavedCheckpoint:
    """A verified checkpoint of a run. `outlast.open_saved` opens it.

    Attributes:
        run_id: the run's name.
        folder: the run folder.
        step: the step of the checkpoint.
    """

    run_id: str
    folder: Path
    step: int
    _opened: OpenedCheckpoint
    _known: tuple[Recipe, Any] | OutlastError

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run.

        Raises UsageError if the run belongs to a script, or to a recipe file that the user has not named.
        """
        return self._of_recipe[0]

    @property
    def config(self) -> Any:
        """The values of the training; values of the machine are those of this machine. Raises as `recipe` does."""
        return self._of_recipe[1]

    @property
    def _of_recipe(self) -> tuple[Recipe, Any]:
        if isinstance(self._known, OutlastError):
            raise self._known
        return self._known

    @property
    def digest(self) -> str:
        """The hash of its manifest, which identifies the checkpoint."""
        return self._opened.checkpoint.digest

    @property
    def parts(self) -> list[str]:
        """Names of the parts in the checkpoint."""
        return sorted(self._opened.state.parts)

    def part(self, name: str | None = None) -> Any:
        """The state_dict of a tracked part, as a copy.

        Args:
            name: by default the part that the recipe measures; for a script "model", or its only part.

        Raises:
            UnknownName: the checkpoint has no such part.
            UsageError: no name was given, and there are several candidates.
        """
        name, record, arrays = self._held(name)
        return state.unpack_value(name, record["state"], arrays)

    def load_into(self, thing: Any, part: str | None = None) -> None:
        """Load a part into a model, or any object with a load_state_dict.

        Args:
            thing: a model of the same shapes.
            part: see `part`.

        Raises:
            ResumeRefused: its structure differs from the saved one; a torch module is unchanged then.
        """
        name, record, arrays = self._held(part)
        state.load_object(name, thing, record, arrays)

    def _held(self, name: str | None) -> tuple[str, Any, Mapping[str, Any]]:
        """Name, record and arrays of a part."""
        if name is None:
            name = self._usual()
        parts = self._opened.state.parts
        if name not in parts:
            raise UnknownName(
                f"The checkpoint at step {self.step} of {self.folder} has no part {name!r}; it holds "
                f"{', '.join(self.parts)}.{nearest(name, parts)}"
            )
        return name, parts[name], self._opened.arrays(name)

    def _usual(self) -> str:
        if not isinstance(self._known, OutlastError):
            return self.recipe.part
        if "model" in self.parts or len(self.parts) == 1:
            return "model" if "model" in self.parts else self.parts[0]
        raise UsageError(
            f"{self.folder} has the parts {', '.join(self.parts)}: choose one, such as part={self.parts[0]!r}."
        )

    def restore(self, initial: Any, name: str = "state") -> Any:
        """The pytree that a run offered, in the structure of `initial`, as `Run.restore` returns it.

        Raises:
            UnknownName: the checkpoint has no such pytree.
            ResumeRefused: it has another structure.
        """
        parts = self._opened.state.parts
        if name not in parts or parts[name]["kind"] != "tree":
            trees = sorted(part for part, held in parts.items() if held["kind"] == "tree")
            raise UnknownName(
                f"The checkpoint at step {self.step} of {self.folder} has no pytree {name!r}; it holds "
                f"{', '.join(trees) or 'none'}."
            )
        return state.unpack_tree(name, initial, parts[name]["state"], self._opened.arrays(name))

    @contextlib.contextmanager
    def artifact(self, name: str, *, to: Path | None = None, part: str | None = None) -> Iterator[Path]:
        """A folder for files that are made from this checkpoint; they are kept only if the block ends without an error.

        In the run they become one artifact with a manifest, which replaces an earlier one of this name. In a folder of
        the user's each file gets a manifest of its own, and replaces one that has a manifest; other files there stay.

        Args:
            name: of the artifact, a plain file name.
            to: a folder of the user's; by default the run's folder for artifacts.
            part: the part that they are made from, for the manifest; by default as `part` chooses.

        Raises:
            UsageError: the name is no plain file name, a manifest cannot be written, or a file of that name in the
                user's folder has no manifest.
            OSError: a file cannot be written.
        """
        if not layout.is_plain(name):
            raise UsageError(f"{name!r:.120} cannot name an artifact; expected a plain file name.")
        place, checkpoint, part = RunFolder(self.folder), self._opened.checkpoint, part or self._usual()
        if to is None:
            with replaced(place.artifacts / name) as folder:
                folder.mkdir()
                yield folder
            describe(place, checkpoint, part, place.artifacts / name)
            return
        durable.make_folder(to)
        folder = to / f"{layout.TEMPORARY}{name}"
        durable.remove_any(folder)
        try:
            folder.mkdir()
            yield folder
            files = sorted(folder.iterdir())
            for there in (to / made.name for made in files):
                manifest = manifest_of(there)
                if os.path.lexists(there) and not os.path.lexists(manifest):
                    raise UsageError(
                        f"{there} is there and has no {manifest.name} beside it, so outlast did not write it. "
                        f"It was left as it is, and none of {len(files)} files was written. Name another folder, or "
                        "move it away."
                    )
            for made in files:
                with replaced(to / made.name) as moved:
                    made.rename(moved)
                describe(place, checkpoint, part, to / made.name)
        finally:
            durable.remove_any(folder)


def open_saved(
    run: str | Path,
    *,
    root: str | Path = Path("runs"),
    step: str | int = "latest",
    recipe: str | Path | Recipe | None = None,
    flags: Mapping[str, str | bool] | None = None,
) -> SavedCheckpoint:
    """Open a checkpoint of a run for loading, evaluation, export or plots.

    Args:
        run: a run's name or folder, or the folder of one of its checkpoints, which then sets the step.
        root: folder that holds the run folders.
        step: a step, "latest", or "best" by the metric of the run.
        recipe: the run's recipe, or its file. A file that only the run's records name is never imported; without it,
            everything except `recipe` and `config` of the result works.
        flags: dotted key -> text, for values of this machine such as data_root.

    Raises:
        UnknownName: there is no such run or checkpoint.
        CorruptCheckpoint: the checkpoint does not verify.
    """
    path = Path(run)
    if (own := layout.step_of(path)) is not None and path.is_dir():
        run, step = path.resolve().parents[1], str(own)
    folder = lookup.folder_of(run, Path(root))
    place = RunFolder(folder)
    number = lookup.step_of(place, str(step))
    opened = open_checkpoint(place.checkpoint(number))
    return SavedCheckpoint(folder.resolve().name, folder, number, opened, _recipe_and_config(place, recipe, flags))


def _recipe_and_config(
    place: RunFolder, given: str | Path | Recipe | None, flags: Mapping[str, str | bool] | None
) -> tuple[Recipe, Any] | OutlastError:
    from outlast.config import find_file, resolve  # pydantic, which whoever reads no checkpoint does without

    if given is None:
        try:
            found = lookup.recipe_of(place)
        except UsageError as error:
            return error
    else:
        found = lookup.as_stage(given if isinstance(given, Recipe) else find(str(given)), place)
    environment = detect("auto")
    resolved = resolve(
        found.Config,
        flags=flags,
        environment_file=find_file(f"environment/{environment.name}.yaml"),
        stored=stored_config(place, ()),
    )
    config: Config = resolved.config
    return found, config
