"""A run's results as one zip: what a browser can download and a thesis can be handed in with."""

from __future__ import annotations

import json
import math
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from outlast.checkpoint import Store
from outlast.checkpoint.export import export
from outlast.errors import CorruptCheckpoint, UsageError
from outlast.files import RunFolder
from outlast.report.curves import draw_curves, series
from outlast.tracking import read


def archive(folder: Path, target: Path, *, part: str = "model", step: int | None = None) -> list[str]:
    """Write config.json, training_history.json, training_curves.png, model_final.safetensors, and the artifacts.

    Args:
        folder: the run folder.
        target: the zip; replaced when it exists, and only by a whole one.
        part: the tracked part that is the model.
        step: of the checkpoint; by default the newest one that verifies.

    Returns:
        The names in the zip.

    Raises:
        UsageError: the run has no checkpoint yet, or the target cannot be written.
        UnknownName: its checkpoints have no such part.
    """
    place = RunFolder(folder)
    temporary = target.with_name(f".{target.name}.tmp")
    with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
        made = _made(place, Path(scratch), part, step)
        contents = {path.name: path for path in made}
        contents |= {path.relative_to(place.artifacts).as_posix(): path for path in _files(place.artifacts)}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
                for name, path in contents.items():
                    packed.write(path, name)
            temporary.replace(target)
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error.strerror}.") from error
        finally:
            temporary.unlink(missing_ok=True)
    return list(contents)


def _made(place: RunFolder, scratch: Path, part: str, step: int | None) -> list[Path]:
    """The files that are made for the archive."""
    config, history, model = (
        scratch / name for name in ("config.json", "training_history.json", "model_final.safetensors")
    )
    config.write_bytes(place.config.read_bytes() if place.config.exists() else b"{}")
    history.write_text(json.dumps([_plain(record) for record in read(place.journal)], indent=1))
    _export(place, model, part, step)
    found = [config, history, model]
    if series(place):
        found.append(draw_curves(place.path, scratch / "training_curves.png"))
    return found


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinities as words, as JSON has no numbers for them."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }


def _export(place: RunFolder, target: Path, part: str, step: int | None) -> None:
    for checkpoint in reversed(Store(place).committed()):
        if step not in (None, checkpoint.step):
            continue
        try:
            export(checkpoint.path, part, target)
        except CorruptCheckpoint:
            if step is not None:
                raise
            continue
        return
    raise UsageError(
        f"{place.path} has no checkpoint{'' if step is None else f' at step {step}'} that verifies, so there is no model to archive."
    )


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
