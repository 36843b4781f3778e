"""A named output of a run: a picture, a table, an exported model."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from outlast.errors import OutlastError, UsageError
from outlast.folder.artifact import check_name, replaced, write_manifest
from outlast.run.attempt import Attempt


@contextlib.contextmanager
def artifact(attempt: Attempt, name: str | os.PathLike[str], *, step: int, part: str | None = None) -> Iterator[Path]:
    """A path to write to, a file or a folder; see `Run.artifact`."""
    name = _checked(name, attempt.artifacts)
    attempt.check_no_sink("artifact")
    if not attempt.ranks.is_main:
        with tempfile.TemporaryDirectory() as folder:  # written and dropped: rank 0 keeps its own
            yield Path(folder) / Path(name).name
        return
    target = attempt.artifacts / name
    with replaced(target) as temporary:
        yield temporary
    _describe(attempt, target, name, step, part)


def _checked(name: str | os.PathLike[str], base: Path) -> str:
    """The name as text, if it is one of a file or folder below the folder for artifacts."""
    if not isinstance(name, str | os.PathLike) or not isinstance(text := os.fspath(name), str):
        raise UsageError(f"An artifact is named {name!r:.120}; expected text or a path.")
    target = base / text
    if not _is_below(target, base):
        raise UsageError(
            f"An artifact named {text!r} would lie outside {base}, or be that folder; use a name without '..' or a "
            "leading slash."
        )
    return check_name(text, base)


def _is_below(target: Path, base: Path) -> bool:
    try:
        found, place = target.resolve(), base.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links; what no path can hold
        return False
    return found != place and found.is_relative_to(place)


def _describe(attempt: Attempt, target: Path, name: str, step: int, part: str | None) -> None:
    """Write the manifest, and notify the sinks.

    A disk that is full now has room for the artifact and not for its manifest.
    """
    try:
        write_manifest(target, name, {**attempt.origin(), "step": step, "part": part})
    except (OSError, OutlastError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error).removesuffix(".")
        attempt.tell("warning", f"The artifact {target} is complete, but its manifest could not be written: {words}.")
    attempt.shown.send("artifact", name, target)
