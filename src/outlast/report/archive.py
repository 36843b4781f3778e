"""A run's results as one zip."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.checkpoint import CheckpointStore
from outlast.checkpoint.export import NoArrays, export
from outlast.errors import CorruptCheckpoint, UsageError
from outlast.folder import durable, hashing, layout, plain, reading
from outlast.folder.artifact import ENDING
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import CONFIG
from outlast.report.curves import draw_curves
from outlast.report.history import History, history
from outlast.report.runs import read_run
from outlast.tracking import records


@dataclass(frozen=True)
class Archive:
    """The contents of a written archive.

    Attributes:
        names: names of the files in the zip.
        told: a message for each artifact that was left out, or has another name in the zip.
    """

    names: list[str]
    told: list[str]


def archive(
    folder: Path, target: Path, *, part: str = "model", step: int | None = None, all_lines: bool = False
) -> Archive:
    """Write config.json, training_history.json, training_curves.png, model_final.safetensors, and the artifacts.

    A run whose state holds no arrays has no model file; `told` then contains a message.

    Args:
        folder: the run folder.
        target: the zip. An existing file is replaced only by a complete one.
        part: name of the tracked part with the model.
        step: step of the checkpoint; by default that of the newest valid one.
        all_lines: whether training_history.json gets all lines of a long journal. The picture is always thinned.

    Raises:
        UsageError: the run has no checkpoint yet, or the target cannot be written.
        UnknownName: the checkpoint has no such part.
        CorruptCheckpoint: config.json is not valid, or the checkpoint of the step does not verify.
    """
    place = RunFolder(folder)
    temporary = target.with_name(f".{target.name}.tmp")
    with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
        info = read_run(folder)
        known = history(place.journal, info.latest, info.renamed)
        made, told = _made(place, Path(scratch), part, step, known, all_lines=all_lines)
        contents = {path.name: path for path in made}
        told += _add_artifacts(place.artifacts, contents)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            durable.remove_any(temporary)
            with zipfile.ZipFile(temporary, "x", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
                for name, path in contents.items():
                    _pack(packed, name, path)
            temporary.replace(target)
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error.strerror}.") from error
        finally:
            temporary.unlink(missing_ok=True)
    if known.thinned and not all_lines:
        told.insert(0, f"training_history.json: {known.thinned} --all-lines writes every line.")
    return Archive(list(contents), told)


def _pack(packed: zipfile.ZipFile, name: str, path: Path) -> None:
    with os.fdopen(plain.open_plain(path), "rb") as source:
        about = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
        about.compress_type = zipfile.ZIP_DEFLATED
        with packed.open(about, "w", force_zip64=about.file_size > 2**31) as target:
            shutil.copyfileobj(source, target, hashing.CHUNK)


def _add_artifacts(folder: Path, contents: dict[str, Path]) -> list[str]:
    """Add the artifacts under unused names; returns messages for the user."""
    told = [f"{path} is a {plain.kind_of(path)} and was left out." for path in plain.strange_files(folder)]
    taken = {name.casefold() for name in contents}  # some file systems know no other names
    placed: dict[Path, str] = {}
    found = plain.plain_files(folder) if plain.kind_of(folder) == "folder" else []
    for path in sorted(found, key=lambda path: path.name.endswith(ENDING)):
        own = name = path.relative_to(folder).as_posix()
        described = path.with_name(path.name.removesuffix(ENDING))
        if described in placed:  # a manifest is beside what it describes
            name = placed[described] + ENDING
        if not all(
            layout.is_plain(piece.lstrip(".")) and ":" not in piece for piece in name.split("/")
        ) or not _encodes(name):
            told.append(f"{str(path)!r} was left out: its name cannot be one in a zip that every system unpacks.")
            continue
        while name.casefold() in taken:
            name = f"artifacts/{name}"
        if name != own and described not in placed:
            told.append(f"The artifact {own} is {name} in the archive, which has a file of its own under that name.")
        taken.add(name.casefold())
        contents[name] = path
        placed[path] = name
    return told


def _encodes(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _made(
    place: RunFolder, scratch: Path, part: str, step: int | None, known: History, *, all_lines: bool
) -> tuple[list[Path], list[str]]:
    """The files that are made for the archive, and messages, such as that there is no model."""
    config, table, model = (
        scratch / name for name in ("config.json", "training_history.json", "model_final.safetensors")
    )
    stored = reading.read_record(place.config, CONFIG) if plain.kind_of(place.config) else {}
    config.write_bytes(durable.as_json(stored))
    _write_history(table, records(place.journal) if all_lines else known.records)
    found, told = [config, table], list[str]()
    try:
        _export(place, model, part, step)
        found.append(model)
    except NoArrays as error:
        told.append(f"{model.name} was left out: {error}")
    if known.thinned and not all_lines:
        found.append(scratch / "training_history.txt")
        found[-1].write_text(f"{known.thinned}\n")
    if known.series:
        found.append(draw_curves(place.path, scratch / "training_curves.png", known))
    return found, told


def _write_history(target: Path, found: Iterable[dict[str, Any]]) -> None:
    """Write a JSON list with one record per line, without holding all records in memory."""
    # A lone surrogate is no text that UTF-8 can hold; replaced so, it is JSON's own escape of it.
    with target.open("w", encoding="utf-8", errors="backslashreplace") as file:
        before = "[\n"
        for record in found:
            file.write(before + json.dumps(_plain(record), ensure_ascii=False))
            before = ",\n"
        file.write("[]\n" if before == "[\n" else "\n]\n")


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinities as text, because JSON has no numbers for them."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }


def _export(place: RunFolder, target: Path, part: str, step: int | None) -> None:
    for checkpoint in CheckpointStore(place).newest_first():
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
        f"{place.path} has no checkpoint{'' if step is None else f' at step {step}'} that verifies, so there is no "
        "model to archive."
    )
