"""Shared options of the commands that need a trained run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import outlast
from outlast_recipes.common import run_options
from outlast_recipes.skeleton.saved import Labels
from outlast_recipes.skeleton.store import Store

PARTS = {"ema": "averaged", "best": "best on validation", "model": "as trained"}


def add_run_arguments(parser: ArgumentParser, *, data: bool = True) -> None:
    """Declare the run, its checkpoint, the device, and where the data are."""
    run_options.add_run_arguments(parser, PARTS)
    parser.add_argument("--device", default="auto", help="device: cpu, cuda, cuda:0 or auto (default: auto)")
    if data:
        parser.add_argument("--data-root", metavar="STORE", help="folder of the clip store")


def open_run_of(values: Namespace) -> outlast.SavedCheckpoint:
    """The checkpoint that the arguments name."""
    flags = {"data_root": values.data_root} if getattr(values, "data_root", None) else {}
    return outlast.open_saved(values.run, root=values.checkpoint_dir, step=values.step, flags=flags)


def check_data(labels: Labels, store: Store, saved: outlast.SavedCheckpoint) -> None:
    """Refuse data of other joints or classes than those that a run was trained on; a different store of the same is
    allowed."""
    if (labels.layout, labels.classes) != (store.layout, store.classes):
        raise outlast.DataError(
            f"{saved.run_id} was trained on {labels.layout} with {len(labels.classes)} classes ({labels.classes[0]}, "
            f"...), and {store.folder} has {store.layout} with {len(store.classes)} classes ({store.classes[0]}, "
            "...). Give the store that it was trained on."
        )
