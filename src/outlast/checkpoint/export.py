"""Writes an inference-only safetensors file from a checkpoint, which stays unchanged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outlast.checkpoint import tensors
from outlast.checkpoint.manifest import Checkpoint
from outlast.checkpoint.reading import open_checkpoint
from outlast.errors import CorruptCheckpoint, OutlastError, UnknownName, UsageError
from outlast.folder import artifact, durable, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import CONFIG
from outlast.state.array import Array


class NoArrays(UnknownName):
    """The checkpoint holds no arrays."""


def export(checkpoint: Path, part: str, target: Path) -> int:
    """Write one part of a verified checkpoint. A tied tensor is written once under each of its names.

    Args:
        checkpoint: a checkpoint folder.
        part: a tracked name, such as "model".
        target: the file to write; replaced when it exists.

    Returns:
        Number of tensors.

    Raises:
        UnknownName: the checkpoint has no such part, or the part has no arrays.
        NoArrays: no part of the checkpoint has arrays.
        UsageError: the target cannot be written.
        CorruptCheckpoint: the checkpoint does not verify.
    """
    opened = open_checkpoint(checkpoint)
    parts = opened.state.parts
    held = ", ".join(sorted(name for name in parts if name in opened.parts))
    if not held:
        raise NoArrays(
            f"{checkpoint} holds no arrays, only numbers and text in {', '.join(sorted(parts))}, so nothing can be "
            "written as safetensors. outlast.open_saved(RUN).part(NAME) reads them."
        )
    if part not in parts or part not in opened.parts:
        raise UnknownName(f"{checkpoint} has no arrays under {part!r}; it holds {held}. Choose one with --part.")
    try:
        arrays = dict(_named(parts[part]["state"], "", opened.parts[part]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{checkpoint}: the state of {part!r} does not fit its arrays ({error}).") from error
    metadata = {"format": "pt", "step": str(opened.checkpoint.step), "part": part}
    try:
        durable.make_folder(target.parent)
        durable.write_file(target, tensors.encode(arrays, metadata))
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}.") from error
    return len(arrays)


def describe(folder: RunFolder, checkpoint: Checkpoint, part: str, target: Path) -> Path:
    """Write the manifest of an export: run, checkpoint, part, config, and the hashes of its files.

    Args:
        folder: the run folder.
        checkpoint: the checkpoint that was exported.
        part: the part that was exported.
        target: the file that was written. The manifest is written beside it.

    Returns:
        Path of the manifest.

    Raises:
        UsageError: the manifest cannot be written.
    """
    known = {name: checkpoint.manifest.get(name) for name in ("run", "attempt")}
    config = None
    with contextlib.suppress(FileNotFoundError, OutlastError):  # a script has none; a damaged one is no reason to fail
        config = reading.read_record(folder.config, CONFIG).get("fingerprint")
    about = {**known, "run_id": folder.path.resolve().name, "step": checkpoint.step, "part": part, "config": config}
    try:
        return artifact.write_manifest(target, target.name, {**about, "checkpoint": checkpoint.digest})
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{target} was written, but its manifest could not be: {words}.") from error


def _named(node: Any, name: str, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    if isinstance(node, dict) and "$array" in node:
        yield name, arrays[node["$array"]]
    elif isinstance(node, dict):
        pairs = node["$dict"] if "$dict" in node else node.items()
        for key, child in pairs:
            yield from _named(child, f"{name}.{key}" if name else str(key), arrays)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _named(child, f"{name}.{index}", arrays)
