"""The folder for temporary files of a training."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from outlast.errors import ConfigError


@contextlib.contextmanager
def scratch(folder: Path | None) -> Iterator[None]:
    """Put temporary files of this process, and of those that it starts, into a folder; None leaves the system's.

    Raises:
        ConfigError: the folder cannot be made, or cannot be written to.
    """
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"scratch_dir is {folder}, and no temporary file can be made there: {error.strerror}. Name another folder, "
            "or leave it out to use the system's."
        ) from error
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder.resolve())
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
