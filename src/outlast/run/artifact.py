"""A named output of a run for others: a picture, a table, an exported model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from outlast.errors import UsageError
from outlast.folder import durable, layout
from outlast.run.attempt import Attempt


@contextlib.contextmanager
def artifact(attempt: Attempt, name: str) -> Iterator[Path]:
    """A path to write to, a file or a folder; see `Run.artifact`.

    Raises:
        UsageError: the name leads out of the folder for artifacts.
    """
    if not attempt.ranks.main:
        with tempfile.TemporaryDirectory() as folder:  # written and dropped: rank 0 keeps its own
            yield Path(folder) / Path(name).name
        return
    base = attempt.artifacts
    target = base / name
    if not target.resolve().is_relative_to(base.resolve()):
        raise UsageError(
            f"An artifact named {name!r} would lie outside {base}; use a name without '..' or a leading slash."
        )
    durable.make_folder(target.parent)
    temporary = target.with_name(f"{layout.TEMPORARY}{target.name}")
    durable.remove_any(temporary)
    try:
        yield temporary
        if target.is_dir():
            durable.remove_folder(target)
        durable.sync_file(temporary)
        durable.move(temporary, target)
    finally:
        durable.remove_any(temporary)
