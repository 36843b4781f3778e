"""Start an attempt on Kaggle: what is pushed, what it continues from, and the record that comes before it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from outlast.checkpoint import Checkpoint, Retention, Store, verify
from outlast.environment.kaggle import HOURS, HOURS_TPU, KEPT, reserve
from outlast.errors import AnswerLost, CorruptCheckpoint, LaunchError, RunBusy, UsageError
from outlast.folder import hashing, layout, plain
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.folder.lock import holder
from outlast.launch import bundle
from outlast.launch.fetch import fetch
from outlast.launch.inside import MISSING_CHECKPOINT
from outlast.launch.kaggle import datasets
from outlast.launch.kaggle.client import Kaggle, Push, Quota
from outlast.launch.kaggle.secrets import DATASET
from outlast.launch.kaggle.setup import check_user
from outlast.launch.records import LaunchRecord, all_launches, launching
from outlast.recipe.prepare import Prepared
from outlast.remote.fork import fork

INLINE = 900_000
"""Bytes of code that one push may have; Kaggle refuses about a megabyte. Larger bundles go into a dataset."""
_MARGIN = 5 * 60  # seconds before the platform's own end that are left alone besides what storing the outputs takes
_SETUP = 15 * 60  # seconds that a session may take until it trains


@dataclass(frozen=True)
class Terms:
    """What a session is to have.

    Attributes:
        accelerator: "t4x2", "tpu" or "cpu".
        internet: whether the kernel may reach the outside.
        seconds: budget of the training; as long as the platform allows when None.
        secrets: whether the dataset of `push_secrets` is attached.
        wheels: a folder of wheels to install from, for a session without internet.
        datasets: further "owner/slug" to attach.
    """

    accelerator: str = "t4x2"
    internet: bool = True
    seconds: float | None = None
    secrets: bool = False
    wheels: Path | None = None
    datasets: tuple[str, ...] = ()

    @property
    def limit(self) -> float:
        """Seconds after which the platform ends a session."""
        return 3600.0 * (HOURS_TPU if self.accelerator == "tpu" else HOURS)

    @property
    def budget(self) -> float:
        """Seconds that the session may train: by default the platform's limit without what it needs to store outputs."""
        return self.seconds or self.limit - reserve(0) - _MARGIN

    @property
    def backstop(self) -> int:
        """Seconds after which Kaggle is asked to end the session: late enough for outputs as large as it keeps."""
        return int(min(self.limit, self.budget + reserve(KEPT) + _SETUP))

    def within(self, quota: Quota) -> Terms:
        """The same for what is left of this week's hours, when that is less: at their end a session is stopped like at its limit."""
        left = quota.left(self.accelerator) - reserve(0) - _MARGIN
        return replace(self, seconds=max(left, 60.0)) if left < self.budget else self


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


def script(prepared: Prepared, terms: Terms, *, step: int = 0) -> Script:
    """The one file that is pushed, for this recipe and these values, continuing from this step.

    Raises:
        UsageError: the recipe's folder is too large to be code, or the wheels are none.
    """
    packed = bundle.make(prepared, wheels=terms.wheels)
    about = {
        "accelerator": terms.accelerator,
        "sha256": hashlib.sha256(packed.data).hexdigest(),
        "request": bundle.request_of(prepared, budget=terms.budget, step=step),
    }
    runner = (Path(__file__).parent / "kaggle/runner.py").read_text()
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

    It continues from the outputs of the run's last session there when that one completed, else from a dataset made of this folder's
    newest checkpoint; from that too when it is further.

    Args:
        kaggle: the account.
        prepared: what is to be trained.
        terms: what the session is to have.
        tell: hears what takes long.

    Raises:
        RunBusy: another process launches this run, or trains it here.
        UsageError: an attempt of this run is alive there, under another account, or the keys that are to be attached were never sent.
        KaggleRefused, LaunchError: as of `Kaggle.push`.
    """
    with launching(prepared.folder, "a launch"):
        return launch_next(kaggle, prepared, terms, tell=tell)


def launch_next(
    kaggle: Kaggle, prepared: Prepared, terms: Terms, *, tell: Callable[[str], None] = lambda _: None
) -> LaunchRecord:
    """As `launch`, for whoever is the only one already."""
    folder = prepared.folder
    if owner := holder(folder.lock):
        raise RunBusy(
            f"{folder.path} is being trained here by {owner.get('attempt', 'an attempt')}; a run has one writer. Stop it first."
        )
    if prepared.fork_of:
        fork(RunFolder(prepared.fork_of.path.parents[1]), prepared.fork_of, folder)
    if terms.secrets and datasets.state(kaggle, DATASET) != "READY":
        raise UsageError(
            f"There is no dataset {kaggle.user}/{DATASET} that is ready: `outlast kaggle secrets push secrets.json` makes it."
        )
    source = _continues(kaggle, prepared, tell)
    made = script(prepared, terms, step=source.step)
    if made.bundle.left_out:
        tell(f"left out, as their names say that they are keys: {', '.join(made.bundle.left_out)}")
    carried = [
        name for name in (made.dataset, source.checkpoints and _dataset_of(prepared.run_id, source.checkpoints)) if name
    ]
    record = _begin(kaggle, prepared, terms, made, source.slug, carried)
    try:
        if made.dataset:
            tell(f"sending the code as the private dataset {made.dataset}")
            datasets.create(kaggle, made.dataset, {made.file: made.bundle.data})
        if source.checkpoints:
            tell(f"sending step {source.checkpoints[-1].step} as the private dataset {carried[-1]}")
            datasets.create(kaggle, carried[-1], _contents(folder, source.checkpoints))
        record.learn(state="pushing")
        attached = [f"{kaggle.user}/{name}" for name in [*carried, *([DATASET] if terms.secrets else [])]]
        pushed = kaggle.push(
            Push(
                record.record["slug"],
                made.text,
                terms.accelerator,
                internet=terms.internet,
                seconds=terms.backstop,
                kernels=[f"{kaggle.user}/{source.slug}"] if source.slug else [],
                datasets=[*attached, *terms.datasets],
            )
        )
    except AnswerLost:
        raise
    except LaunchError as error:
        record.learn(state="refused", end={"reason": "refused", "words": str(error)})
        raise
    record.learn(state="pushed", url=pushed.url)
    return record


def _begin(
    kaggle: Kaggle, prepared: Prepared, terms: Terms, made: Script, after: str, carried: list[str]
) -> LaunchRecord:
    """Put on record what is about to be pushed, under a name that nothing has; a refused push has used up none."""
    known = all_launches(prepared.folder)
    number = max((each.number for each in known if each.record["state"] != "refused"), default=0) + 1
    number = layout.free_number(prepared.folder.launches, number)
    while kaggle.status(slug := _slug(prepared.run_id, number)) is not None:  # of this name, launched from elsewhere
        number = layout.free_number(prepared.folder.launches, number + 1)
    return LaunchRecord.begin(
        prepared.folder,
        number,
        on="kaggle",
        user=kaggle.user,
        slug=slug,
        bundle=made.bundle.hash,
        budget=terms.budget,
        after=after,
        datasets=carried,
        asked=bundle.request_of(prepared, budget=terms.budget),
        accelerator=terms.accelerator,
        terms=asdict(terms)
        | {"seconds": prepared.resolved.config.budget, "wheels": str(terms.wheels) if terms.wheels else None},
    )


@dataclass(frozen=True)
class _Source:
    """What a session continues from: outputs that are mounted, and checkpoints from here that are sent."""

    slug: str = ""
    checkpoints: Sequence[Checkpoint] = ()
    step: int = 0


def _continues(kaggle: Kaggle, prepared: Prepared, tell: Callable[[str], None]) -> _Source:
    """What the next session continues from. That outputs mount is known of sessions that completed, so of others they are sent."""
    folder = prepared.folder
    records = [each for each in all_launches(folder) if each.record["state"] not in ("refused", "abandoned", "deleted")]
    slug, there, mounts = "", 0, True
    for record in reversed(records):
        check_user(kaggle, record.record.get("user"))
        status = kaggle.status(record.record["slug"])
        if status is None:
            continue
        if not status.over:
            raise UsageError(
                f"{record.record['slug']} is {status.state} still, and a run has one writer: follow it with `outlast logs {folder.path.name}`, or end "
                f"it with `outlast cancel {folder.path.name}`."
            )
        mounts = mounts and record.record.get("exit") != str(MISSING_CHECKPOINT)
        if steps := steps_left(kaggle, record.record["slug"], folder):
            slug, there = record.record["slug"], max(steps)
            mounts = mounts and status.state == "complete"
            if not mounts and record.record["state"] != "fetched":
                tell(f"bringing {slug} home first: what such a session left may not be there for the next one")
                fetch(kaggle, record)
            break
    here = _good(folder, prepared)
    step = here[-1].step if here else 0
    if mounts and slug:
        return _Source(slug, here if step > there else (), max(step, there))
    return _Source("", here, step)


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


def _contents(folder: RunFolder, checkpoints: Sequence[Checkpoint]) -> dict[str, datasets.Content]:
    """The run with these checkpoints only, laid out as in a session's outputs."""
    paths = [folder.run, folder.config, folder.journal, *map(folder.attempt, folder.attempt_numbers())]
    for checkpoint in checkpoints:
        paths += [path for places in checkpoint.paths.values() for path in places]
        paths.append(checkpoint.path / MANIFEST)
    # Plain files only: what a link points to is sent to nobody.
    inside = {path.relative_to(folder.path).as_posix(): path for path in paths if plain.kind_of(path) == "file"}
    return {f"runs/{folder.path.name}/{name}": path for name, path in inside.items()}


def _dataset_of(run_id: str, checkpoints: Sequence[Checkpoint]) -> str:
    """A name that says what is in it, so that it is sent once."""
    manifests = b"".join((checkpoint.path / MANIFEST).read_bytes() for checkpoint in checkpoints)
    return f"outlast-{_short(run_id, 16)}-step-{checkpoints[-1].step}-{hashing.digest(manifests)[:8]}"


def _slug(run_id: str, number: int) -> str:
    return f"outlast-{_short(run_id, 36)}-{number:03d}"  # at most 50 letters


def _short(run_id: str, length: int) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", run_id.lower()))[:length].strip("-")
