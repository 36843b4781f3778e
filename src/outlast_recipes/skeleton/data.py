"""The data of a run: its clip store, the subsets of its split, teacher logits, and the training views."""

from __future__ import annotations

import outlast
from outlast import Run
from outlast_recipes.common.auto_prepare import store_of
from outlast_recipes.common.splits import spread
from outlast_recipes.skeleton.augment import Strength
from outlast_recipes.skeleton.config import Config
from outlast_recipes.skeleton.distill import TeacherLogits
from outlast_recipes.skeleton.sizing import Sized, by_set, given
from outlast_recipes.skeleton.splits import split
from outlast_recipes.skeleton.store import FORM, Store
from outlast_recipes.skeleton.views import ClipSubset, Views

Parts = dict[str, ClipSubset]


def load_data(config: Config, *, run: Run | None = None) -> tuple[Store, Parts, int]:
    """The store, its parts, and the number of classes.

    Args:
        config: the values of a run.
        run: for which a store is made of raw files, when there is none.

    Raises:
        outlast.ConfigError: no data are named; see `store_of` and `split` for the rest.
    """
    if config.data_root is None:
        raise outlast.ConfigError(
            "skeleton needs --data-root: a folder of .skeleton, NW-UCLA or UTKinect files, or a clip store from "
            "`outlast data prepare skeleton`."
        )
    store = store_of(config.data_root, config.checkpoint_dir, FORM, run)
    parts = split(
        store.entries,
        config.data.split,
        train_subjects=config.data.train_subjects,
        validate=config.data.validate_subjects,
    )
    return store, {name: ClipSubset(store, numbers) for name, numbers in parts.items()}, len(store.classes)


def size_of(parts: Parts) -> Sized:
    """What follows from the training part."""
    entries = parts["train"].store.entries
    return by_set([entries[number].length for number in parts["train"].numbers])


def trained_on(config: Config, parts: Parts, batch_size: int) -> Parts:
    """The parts that a training uses: a few batches of each with --debug, else all.

    Raises:
        outlast.ConfigError: a batch is larger than the training part.
    """
    if config.debug:
        parts = {name: ClipSubset(part.store, spread(part.numbers, 4 * batch_size)) for name, part in parts.items()}
    if len(parts["train"]) < batch_size:
        raise outlast.ConfigError(
            f"--batch-size is {batch_size}, and there are {len(parts['train'])} training clips. Give at most "
            "that number."
        )
    return parts


def given_values(config: Config, teacher: TeacherLogits | None) -> dict[str, float]:
    """The values that are given, by the config or a teacher; its frames can be refused later, by `check_teacher`."""
    taught = {"frames": teacher.about.frames, "yaw": teacher.about.strength.yaw} if teacher else {}
    return {**taught, **given(config)}


def teacher_of(config: Config) -> TeacherLogits | None:
    """The teacher's logits; None when this is no distillation."""
    path = config.distill.teacher_logits
    if config.mode == "baseline" or (config.mode == "auto" and path is None):
        return None
    if path is None:
        raise outlast.ConfigError(
            "--mode is distill and needs teacher logits. Give --teacher-logits FILE (written by `outlast "
            "teacher-logits skeleton RUN`), or --mode baseline."
        )
    return TeacherLogits(path)


def check_teacher(teacher: TeacherLogits | None, parts: Parts, classes: int, frames: int) -> None:
    """Compare a teacher's logits with the data.

    Args:
        teacher: if there is one.
        parts: of the data, whole.
        classes: of the data.
        frames: of a view.

    Raises:
        outlast.DataError: they do not fit.
    """
    if teacher is not None:
        store = parts["train"].store
        teacher.check(store, [store.entries[number].name for number in parts["train"].numbers], classes, frames)


def strength_of(config: Config, yaw: float) -> Strength:
    """How far views are from their clips, with the yaw that was settled."""
    return Strength(**{**config.augment.model_dump(), "yaw": yaw})


def views_of(config: Config, part: ClipSubset, teacher: TeacherLogits | None, sized: Sized) -> Views:
    """The views of the training part; a teacher's own where there is one."""
    if teacher is None:
        return Views(part, sized.frames, strength_of(config, sized.yaw), config.seed)
    store = part.store
    rows = {entry.name: number for number, entry in enumerate(store.entries)}
    lenders = ClipSubset(store, [rows[name] for name in teacher.about.names])
    return Views(lenders, teacher.about.frames, teacher.about.strength, teacher.about.seed)
