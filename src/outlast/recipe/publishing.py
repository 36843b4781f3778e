"""Where the configuration says that a run is published, and the publication of a finished training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast.config import Config, find_file, resolve
from outlast.config.schema import Publication
from outlast.environment import detect
from outlast.errors import ConfigError, OutlastError, PublishFailed, UnknownName, UsageError
from outlast.folder.layout import RunFolder
from outlast.recipe.lookup import part_of, recipe_of, step_of
from outlast.recipe.recipe import Recipe
from outlast.recipe.registry import is_installed
from outlast.terminal import command, counted, words_of

if TYPE_CHECKING:
    from outlast.publish.destination import Destination, Preparation
    from outlast.publish.transaction import Published
    from outlast.recipe.prepare import PreparedRun

_KEYS = ("to", "store", "git", "title")


def configured(place: RunFolder, recipe: Recipe | None, train_file: Path | None) -> Publication:
    """The publication that this machine's environment file, and a train file, state for a run.

    What the run folder itself says is not taken: it may come from elsewhere, and name any server.

    Args:
        place: the run.
        recipe: the run's recipe, if the user has named it.
        train_file: a train YAML, or None.

    Raises:
        ConfigError: a file is wrong.
    """
    if recipe is None:
        with contextlib.suppress(UsageError):
            recipe = recipe_of(place)
    model = recipe.Config if recipe else Config
    file = find_file(f"environment/{detect().name}.yaml")
    found: Publication = resolve(model, environment_file=file, train_file=train_file).config.publish
    return found


def destination_of(publication: Publication) -> Destination:
    """Where a configuration says that runs are published.

    Raises:
        UsageError: it does not, or something is missing, or has no meaning there.
    """
    from outlast.publish.destination import Destination

    if publication.to is None:
        raise UsageError("publish.to is not set; expected git+dvc, or the address of a store.")
    found = Destination(publication.to, publication.store, publication.git, title=publication.title)
    found.check()
    return found


def best_of(place: RunFolder, recipe: Recipe | None) -> int | None:
    """The step of the best checkpoint, of a run that has a metric to choose by."""
    try:
        return step_of(place, "best", recipe)
    except (UnknownName, UsageError):
        return None


def check(prepared: PreparedRun) -> None:
    """Refuse a publication that could not be made, before the training. No server is asked.

    Raises:
        ConfigError: the destination is missing, incomplete or unknown, or a library that it needs is.
    """
    publication: Publication = prepared.resolved.config.publish
    if publication.when == "never":
        return
    origins = prepared.resolved.origins
    try:
        destination_of(publication).open()
    except UsageError as error:
        raise ConfigError(
            f"publish.when is finished ({origins['publish.when']}): {error} Nothing was trained."
        ) from error


def publish(prepared: PreparedRun) -> Iterator[str]:
    """Publish a run whose training is finished, if its configuration says so; yields lines for the user.

    Raises:
        PublishFailed: it is not visible, or that is not known. The run folder is complete, and the error has the
            command that continues.
    """
    publication: Publication = prepared.resolved.config.publish
    if publication.when == "never":
        return
    from outlast.publish.destination import prepared as gathered

    place, recipe = prepared.folder, prepared.recipe
    try:
        destination = destination_of(publication)
        part = part_of(place, recipe)
        with gathered(place.path.resolve(), destination, part=part, best=best_of(place, recipe)) as ready:
            yield from ready.told
            done = ready.publish()
            yield from sentences(ready, done)
    except (OutlastError, OSError) as error:
        raise PublishFailed(
            f"{prepared.run_id} is trained, finished, and complete in {place.path}. It was not published: "
            f"{_words(error)} To publish it: {again(prepared)}"
        ) from error


def sentences(ready: Preparation, done: Published) -> list[str]:
    """What is visible now, and the commands that get it."""
    how = "was visible already" if done.before else "is visible"
    new = f"{counted(done.sent, 'object')} {'was' if done.sent == 1 else 'were'} new"
    return [
        f"{done.where} {how} at {done.identity[:12]}: read back from the server. {new}.",
        f"Get it: {' && '.join(ready.reference.commands())}",
    ]


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, OutlastError) else f"{words_of(error)}."


def again(prepared: PreparedRun) -> str:
    """The command that publishes a run as its configuration says."""
    publication: Any = prepared.resolved.config.publish
    flags = [word for key in _KEYS if (value := getattr(publication, key)) for word in (f"--{key}", value)]
    recipe = () if is_installed(prepared.recipe.source) else ("--recipe", prepared.recipe.source)
    return command("outlast", "publish", prepared.folder.path, *recipe, *flags)
