"""Start an attempt on Kaggle: what is pushed, what it continues from, and the record that comes before it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outlast import files
from outlast.checkpoint import Checkpoint, Retention, Store, verify
from outlast.environment.kaggle import HOURS, HOURS_TPU, reserve
from outlast.errors import CorruptCheckpoint, KaggleRefused, UsageError
from outlast.files import MANIFEST, RunFolder
from outlast.launch import bundle
from outlast.launch.kaggle import datasets
from outlast.launch.kaggle.client import Kaggle, Push
from outlast.launch.kaggle.secrets import DATASET
from outlast.launch.records import LaunchRecord, all_launches
from outlast.recipe import Prepared

INLINE = 900_000
"""Bytes of code that one push may have; Kaggle refuses about a megabyte. Larger bundles go into a dataset."""
_BACKSTOP = 5 * 60  # seconds before the platform's own end at which the push asks Kaggle to stop it


@dataclass(frozen=True)
class Terms:
    """What a session is to have.

    Attributes:
        accelerator: "t4x2", "tpu" or "cpu".
        internet: whether the kernel may reach the outside.
        seconds: budget of the training; as long as the platform allows when None.
        secrets: whether the dataset of `push_secrets` is attached.
        wheels: a folder of wheels to install from, for a session without internet.
    """

    accelerator: str = "t4x2"
    internet: bool = True
    seconds: float | None = None
    secrets: bool = False
    wheels: Path | None = None

    @property
    def budget(self) -> float:
        """Seconds that the session may train: by default the platform's limit without what it needs to store outputs."""
        hours = HOURS_TPU if self.accelerator == "tpu" else HOURS
        return self.seconds or hours * 3600.0 - reserve(0) - _BACKSTOP


@dataclass(frozen=True)
class Script:
    """What would be pushed.

    Attributes:
        text: the one file: the runner, with the bundle inside where that is small enough.
        bundle: what travels.
        dataset: the dataset that carries the bundle instead; empty when it travels in the text.
    """

    text: str
    bundle: bundle.Bundle
    dataset: str = ""

    @property
    def file(self) -> str:
        """The bundle's name in its dataset: not one that Kaggle would unpack."""
        return f"bundle-{self.bundle.hash[:16]}.bin"


def script(prepared: Prepared, terms: Terms) -> Script:
    """The one file that is pushed, for this recipe and these values.

    Raises:
        UsageError: the recipe's folder is too large to be code, or the wheels are none.
    """
    packed = bundle.make(prepared, bundle.request_of(prepared, budget=terms.budget), wheels=terms.wheels)
    about = {"accelerator": terms.accelerator, "sha256": hashlib.sha256(packed.data).hexdigest()}
    runner = (Path(__file__).parent / "runner.py").read_text()
    inline = base64.b64encode(packed.data).decode()
    if len(runner) + len(inline) + 1000 > INLINE:
        made = Script("", packed, f"outlast-code-{packed.hash[:16]}")
        inline, about = "", about | {"file": made.file}
    else:
        made = Script("", packed)
    text = runner.replace('ABOUT = "{}"', f"ABOUT = {json.dumps(json.dumps(about))}", 1)
    return Script(text.replace('DATA = ""', f'DATA = "{inline}"', 1), packed, made.dataset)


def launch(
    kaggle: Kaggle, prepared: Prepared, terms: Terms, *, tell: Callable[[str], None] = lambda _: None
) -> LaunchRecord:
    """Push one attempt. It is on record before it is pushed, so a lost answer cannot lose it.

    It continues from the outputs of the run's last session there, or from a dataset made of this folder's newest checkpoint when
    that is further.

    Args:
        kaggle: the account.
        prepared: what is to be trained.
        terms: what the session is to have.
        tell: hears what takes long.

    Raises:
        UsageError: an attempt of this run is alive there.
        KaggleRefused, LaunchError: as of `Kaggle.push`.
    """
    folder = prepared.folder
    made = script(prepared, terms)
    before, newer = _continues(kaggle, folder, prepared)
    number = max((each.number for each in all_launches(folder)), default=0) + 1
    while kaggle.status(slug := _slug(prepared.run_id, number)) is not None:  # of this name, launched from elsewhere
        number += 1
    carried = [name for name in (made.dataset, newer and _dataset_of(prepared.run_id, newer)) if name]
    record = LaunchRecord.begin(
        folder,
        number,
        on="kaggle",
        slug=slug,
        accelerator=terms.accelerator,
        bundle=made.bundle.hash,
        budget=terms.budget,
        after=before,
        datasets=carried,
    )
    try:
        if made.dataset:
            tell(f"sending the code as the private dataset {made.dataset}")
            datasets.create(kaggle, made.dataset, {made.file: made.bundle.data})
        if newer:
            tell(f"sending step {newer[-1].step} as the private dataset {carried[-1]}")
            datasets.create(kaggle, carried[-1], _contents(folder, newer))
        record.learn(state="pushing")
        attached = [*carried, *([DATASET] if terms.secrets else [])]
        pushed = kaggle.push(
            Push(
                slug,
                made.text,
                terms.accelerator,
                internet=terms.internet,
                seconds=int(terms.budget + reserve(0)),
                kernels=[f"{kaggle.user}/{before}"] if before else [],
                datasets=[f"{kaggle.user}/{name}" for name in attached],
            )
        )
    except KaggleRefused as error:
        record.learn(state="refused", end={"reason": "refused", "words": str(error)})
        raise
    record.learn(state="pushed", url=pushed.url)
    return record


def _continues(kaggle: Kaggle, folder: RunFolder, prepared: Prepared) -> tuple[str, list[Checkpoint]]:
    """The slug whose outputs the next session continues from (empty: none), and what this folder has that is newer than they are."""
    slug, there = "", -1
    for record in reversed(all_launches(folder)):
        status = kaggle.status(record.record["slug"])
        if status is None:
            continue
        if not status.over:
            raise UsageError(
                f"{record.record['slug']} is {status.state} still, and a run has one writer: follow it with `outlast logs {folder.path.name}`, or end "
                f"it with `outlast cancel {folder.path.name}`."
            )
        if steps := steps_left(kaggle, record.record["slug"], folder):
            slug, there = record.record["slug"], max(steps)
            break
    here = _good(folder, prepared)
    return slug, here if here and here[-1].step > there else []


def steps_left(kaggle: Kaggle, slug: str, folder: RunFolder) -> list[int]:
    """The steps whose checkpoints a session has left whole."""
    mark = re.compile(rf"runs/{re.escape(folder.path.name)}/checkpoints/step-(\d+)/{re.escape(MANIFEST)}")
    found = (mark.fullmatch(output.name) for output in kaggle.outputs(slug))
    return [int(match[1]) for match in found if match]


def _good(folder: RunFolder, prepared: Prepared) -> list[Checkpoint]:
    """Of this folder's checkpoints the best one and the newest, if they verify, ascending."""
    found = Store(folder).committed()
    recipe = prepared.recipe
    keep = Retention(best=1, metric=recipe.metric, mode=recipe.mode) if recipe.metric else Retention()
    best = keep.best_step([checkpoint.kept for checkpoint in found])
    chosen: list[Checkpoint] = []
    for checkpoint in reversed(found):
        if chosen and checkpoint.step != best:
            continue
        try:
            verify(checkpoint.path)
        except CorruptCheckpoint:
            continue
        chosen.insert(0, checkpoint)
    return chosen


def _contents(folder: RunFolder, checkpoints: list[Checkpoint]) -> dict[str, datasets.Content]:
    """The run with these checkpoints only, laid out as in a session's outputs."""
    paths = [folder.run, folder.config, folder.journal, *folder.attempts.glob("*.json")]
    for checkpoint in checkpoints:
        paths += [path for places in checkpoint.paths.values() for path in places]
        paths.append(checkpoint.path / MANIFEST)
    inside = {path.relative_to(folder.path).as_posix(): path for path in paths if path.exists()}
    return {f"runs/{folder.path.name}/{name}": path for name, path in inside.items()}


def _dataset_of(run_id: str, checkpoints: list[Checkpoint]) -> str:
    """A name that says what is in it, so that it is sent once."""
    manifests = b"".join((checkpoint.path / MANIFEST).read_bytes() for checkpoint in checkpoints)
    return f"outlast-{_short(run_id, 20)}-step-{checkpoints[-1].step}-{files.digest(manifests)[:8]}"


def _slug(run_id: str, number: int) -> str:
    return f"outlast-{_short(run_id, 36)}-{number:03d}"  # at most 50 letters


def _short(run_id: str, length: int) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", run_id.lower()))[:length].strip("-")
