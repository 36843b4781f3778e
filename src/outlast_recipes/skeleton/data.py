"""The data of a run: its clip store, the subsets of its split, teacher logits, and the training views."""

from __future__ import annotations

from collections.abc import Mapping

import outlast
from outlast import Run
from outlast_recipes.common.auto_prepare import store_of
from outlast_recipes.common.splits import spread
from outlast_recipes.skeleton.augment import Strength
from outlast_recipes.skeleton.config import Config
from outlast_recipes.skeleton.distill import TeacherLogits
from outlast_recipes.skeleton.splits import split
from outlast_recipes.skeleton.store import FORM, Store
from outlast_recipes.skeleton.views import ClipSubset, Views


def load_data(
    config: Config, *, whole: bool = False, run: Run | None = None
) -> tuple[Store, dict[str, ClipSubset], int]:
    """The store, its parts, and the number of classes.

    Args:
        config: the values of a run.
        whole: even when --debug asks for a small part of them.
        run: for which a store is made of raw files, when there is none.

    Raises:
        outlast.ConfigError: a batch is larger than the training part; see `store_of` and `split` for the rest.
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
    if config.debug and not whole:
        parts = {name: spread(numbers, 4 * config.batch_size) for name, numbers in parts.items()}
    if len(parts["train"]) < config.batch_size:
        raise outlast.ConfigError(
            f"--batch-size is {config.batch_size}, and there are {len(parts['train'])} training clips. Give at most "
            "that number."
        )
    return store, {name: ClipSubset(store, numbers) for name, numbers in parts.items()}, len(store.classes)


def teacher_of(config: Config) -> TeacherLogits | None:
    """The teacher's logits, compared with the data; None when this is no distillation."""
    path = config.distill.teacher_logits
    if config.mode == "baseline" or (config.mode == "auto" and path is None):
        return None
    if path is None:
        raise outlast.ConfigError(
            "--mode is distill and needs teacher logits. Give --teacher-logits FILE (written by `outlast "
            "teacher-logits skeleton RUN`), or --mode baseline."
        )
    teacher = TeacherLogits(path)
    store, parts, classes = load_data(config, whole=True)
    teacher.check(store, [store.entries[number].name for number in parts["train"].numbers], classes, config.data.frames)
    return teacher


def views_of(config: Config, parts: Mapping[str, ClipSubset], teacher: TeacherLogits | None) -> Views:
    """The views of this training; a teacher's own where there is one."""
    if teacher is None:
        strength = Strength(**config.augment.model_dump())
        return Views(parts["train"], config.data.frames, strength, config.seed)
    store = parts["train"].store
    rows = {entry.name: number for number, entry in enumerate(store.entries)}
    lenders = ClipSubset(store, [rows[name] for name in teacher.about.names])
    return Views(lenders, teacher.about.frames, teacher.about.strength, teacher.about.seed)
