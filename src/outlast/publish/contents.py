"""What a publication holds, made from a run folder. The same run folder gives the same bytes.

README.md                       the model card
train/weights/last.safetensors  of the newest checkpoint that verifies
train/weights/best.safetensors  of the best one, if the run has a metric to choose by
train/args.yaml, config.json    values of the configuration; the same with their origins
train/results.csv, metrics.json, training_curves.png
train/..., test/...             the run's artifacts: those whose names begin with "test", and those in a folder "test",
                                are in test/; train/results.csv may be an artifact as well
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from outlast.checkpoint import Checkpoint, CheckpointStore
from outlast.checkpoint.export import export
from outlast.config.layers import fingerprint, first_origin
from outlast.config.paths import origin_without_folders, without_folders
from outlast.errors import CorruptCheckpoint, UsageError
from outlast.folder import durable, layout, plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import CONFIG
from outlast.publish import card
from outlast.publish.plan import Plan, PlannedFile, check_word, hash_files, make_plan
from outlast.report import read_run
from outlast.report.curves import draw_curves
from outlast.report.history import history

_REPLACED = ("train/results.csv", "train/training_curves.png")
"""Files of which the run may have better ones: an artifact with such a name takes the place of what is made here."""


@dataclass
class _Contents:
    """Files that are gathered: path in the publication -> where the file is; and what there is to say of them."""

    scratch: Path
    files: dict[str, Path] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def write(self, path: str, data: bytes) -> None:
        target = self.scratch / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.files[path] = target

    def add_curves(self, drawn: Path | UsageError) -> None:
        if isinstance(drawn, Path):
            self.files["train/training_curves.png"] = drawn
        else:  # matplotlib is not installed, or nothing was logged
            self.told.append(f"There is no train/training_curves.png: {drawn}")


def plan_of(
    folder: Path,
    scratch: Path,
    *,
    part: str,
    best: int | None = None,
    module: str | None = None,
    name: str | None = None,
) -> tuple[Plan, list[str]]:
    """Gather what a run has to show, and plan its publication.

    Args:
        folder: the run folder; nothing in it is changed.
        scratch: an empty folder for the files that are made.
        part: the tracked part that is the model.
        best: the step of the best checkpoint.
        module: what was trained; by default the name of the run's recipe.
        name: of the publication; by default from module, run and the time of the newest checkpoint.

    Returns:
        The plan, and a sentence for each file that was left out.

    Raises:
        UsageError: the run has no checkpoint that verifies, or a name cannot be taken as it is.
        UnknownName: its checkpoints have no such part.
        OutlastError: a file of it cannot be read.
    """
    check_word(module, "--module")
    check_word(name, "--name")
    place, info = RunFolder(folder), read_run(folder)
    found = _Contents(scratch)
    with ThreadPoolExecutor(1) as beside:  # it draws while files are read, written and hashed
        curves = beside.submit(_curves, folder, scratch / "training_curves.png")
        newest = _weights(place, found, part)
        if best is not None:
            found.files["train/weights/best.safetensors"] = _exported(place.checkpoint(best), scratch, part, "best")
        weights = _hash_weights(found, [])
    found.add_curves(curves.result())
    values, config = _config(place, found)
    metrics = _metrics(place, found, newest, info.latest, info.renamed)
    _artifacts(place.artifacts, found)
    weights += _hash_weights(found, weights)
    module = module or _module(info.about)
    experiment = folder.resolve().name
    time = _time_of(newest)
    about = {
        "run": info.about.get("uid"),
        "run_id": experiment,
        "recipe": _recipe(info.about),
        "step": newest.step,
        "best_step": best,
        "part": part,
        "checkpoint": newest.digest,
        "config": config,
    }
    found.write(
        "README.md",
        card.write(
            module=module,
            experiment=experiment,
            step=newest.step,
            total=info.total_steps,
            time=time,
            metrics=metrics,
            about=about,
            software=newest.manifest["software"],
            weights=sorted(weights, key=lambda file: file.path),
            values=values,
        ),
    )
    plan = make_plan(
        module=module, experiment=experiment, time=time, about=about, sources=found.files.items(), known=weights,
        name=name,
    )  # fmt: skip
    return plan, found.told


def _time_of(checkpoint: Checkpoint) -> str:
    """When it was written, as its manifest says; raises CorruptCheckpoint when that is no time."""
    time = str(checkpoint.manifest["written"]["time"])
    try:
        datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise CorruptCheckpoint(
            f"{checkpoint.path} says that it was written at {time[:40]!r}, which is no time: its manifest was changed. "
            "Nothing was published."
        ) from error
    return time


def _hash_weights(found: _Contents, known: list[PlannedFile]) -> list[PlannedFile]:
    ready = {file.path for file in known}
    return list(
        hash_files(
            (path, file)
            for path, file in found.files.items()
            if path.startswith("train/weights/") and path not in ready
        )
    )


def _module(about: Mapping[str, Any]) -> str:
    """The recipe's name, the stage's too; that of its file; or "run" for a script's."""
    recipe = about.get("recipe")
    name = "run" if recipe is None else Path(str(recipe)).stem if "/" in str(recipe) else str(recipe)
    stage = about.get("chain", {}).get("stage")
    return f"{name}-{stage}" if stage else name


def _recipe(about: Mapping[str, Any]) -> str | None:
    """The recipe's name, or its file; without the folders above it if their path is absolute."""
    recipe = about.get("recipe")
    last = without_folders(recipe)
    return recipe if last == recipe else f"./{last}"


def _weights(place: RunFolder, found: _Contents, part: str) -> Checkpoint:
    for checkpoint in CheckpointStore(place).newest_first():
        try:
            found.files["train/weights/last.safetensors"] = _exported(checkpoint.path, found.scratch, part, "last")
        except CorruptCheckpoint as error:
            found.told.append(f"{error} The checkpoint before it is published.")
            continue
        return checkpoint
    raise UsageError(f"{place.path} has no checkpoint that verifies, so there are no weights to publish.")


def _exported(checkpoint: Path, scratch: Path, part: str, name: str) -> Path:
    target = scratch / f"{name}.safetensors"
    export(checkpoint, part, target)
    return target


def _config(place: RunFolder, found: _Contents) -> tuple[Mapping[str, Any], str | None]:
    """Write the configuration twice, as `_lasting` has it; returns its values and its fingerprint."""
    if not plain.kind_of(place.config):
        return {}, None  # of a script
    record = _lasting(reading.read_record(place.config, CONFIG))
    values = record["values"]
    found.write("train/config.json", durable.as_json(record))
    found.write("train/args.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode())
    return values, record.get("fingerprint")


def _lasting(record: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json without what another session of the run changes.

    That is: settings of the session, folders of the machine, where the data were named, and how often the run was
    continued. A finished run that is started again, also elsewhere, is the same publication. In a record of an older
    outlast, which has no `on_resume`, the settings of a session stay.
    """
    rules = record.get("on_resume", {})
    kept = {key: value for key, value in record["values"].items() if rules.get(key) != "session"}
    values = without_folders(kept)
    lasting = {**record, "values": values}
    if origins := record.get("origins"):
        lasting["origins"] = {
            key: origin_without_folders(first_origin(words))
            for key, words in origins.items()
            if rules.get(key) not in ("session", "place")
        }
    if rules:
        lasting["on_resume"] = {key: rule for key, rule in rules.items() if rule != "session"}
        lasting["fingerprint"] = fingerprint(values)
    return lasting


def _metrics(
    place: RunFolder, found: _Contents, newest: Checkpoint, latest: Any, renamed: Mapping[str, str]
) -> dict[str, Any]:
    """Write the journal up to the checkpoint as a table; returns the last value of each metric."""
    known = history(place.journal, latest, renamed)
    records = [record for record in known.records if record.get("step", 0) <= newest.step]
    if known.thinned:
        found.told.append(f"train/results.csv: {known.thinned}")
    metrics: dict[str, Any] = {}
    for record in records:
        metrics |= {name: _plain(value) for name, value in record.items() if name != "step"}
    names = ["step", *metrics]
    target = found.scratch / "results.csv"
    with target.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.DictWriter(file, names, restval="", lineterminator="\n", extrasaction="ignore")
        table.writeheader()
        table.writerows(records)
    if records:
        found.files["train/results.csv"] = target
    found.write("train/metrics.json", (json.dumps({"step": newest.step, **metrics}, indent=1) + "\n").encode())
    return metrics


def _plain(value: Any) -> Any:
    """NaN and infinities as words, as JSON has no numbers for them."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _curves(folder: Path, target: Path) -> Path | UsageError:
    try:
        return draw_curves(folder, target)
    except UsageError as error:
        return error


def _artifacts(folder: Path, found: _Contents) -> None:
    if plain.kind_of(folder) != "folder":
        return
    found.told += [f"{path} is a {plain.kind_of(path)} and was left out." for path in plain.strange_files(folder)]
    taken: set[str] = set()
    for own, path in _named(folder):
        name = own.as_posix()
        if not all(layout.is_plain(each) for each in own.parts):
            found.told.append(f"{str(path)!r} was left out: its name cannot be one on every system.")
            continue
        first = own.parts[0].lower()
        if first in ("train", "test") and len(own.parts) > 1:
            target = f"{first}/{name.partition('/')[2]}"
        else:
            target = f"{'test' if first.startswith('test') else 'train'}/{name}"
        if target in taken or (target in found.files and target not in _REPLACED):
            found.told.append(f"The artifact {name} was left out: the publication has a {target} of its own.")
            continue
        taken.add(target)
        found.files[target] = path


def _named(folder: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    for path in plain.plain_files(folder):
        yield PurePosixPath(path.relative_to(folder).as_posix()), path
