"""The verbs of digits that concern its data."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import outlast
from outlast_recipes.common.data_verbs import nothing
from outlast_recipes.digits.recipe import Config

KNOWN = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""SHA-256 of the pixels, then the labels, a byte each."""


def run(_: Namespace, tell: Callable[[int, int], None]) -> Iterable[str]:
    from sklearn.datasets import load_digits

    from outlast_recipes.digits.training import splits

    images, labels = load_digits(return_X_y=True)
    found = hashlib.sha256(images.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if found != KNOWN:
        raise outlast.DataError(
            f"scikit-learn's handwritten digits have the SHA-256 {found[:12]}; expected {KNOWN[:12]}. This version has "
            "other images, so figures of other versions do not compare."
        )
    tell(1, 1)
    yield f"{'':12}{''.join(f'{digit:>6}' for digit in range(10))}{'all':>8}"
    for name, part in splits(Config()).items():
        counts = np.bincount(_labels(part), minlength=10)
        yield f"{name:12}{''.join(f'{count:>6}' for count in counts)}{counts.sum():>8}"
    yield f"scikit-learn's handwritten digits: {len(images):,} images, with the known SHA-256."
    yield "Train on them: outlast train digits"


def _labels(part: Any) -> Any:
    return part[:][1].numpy()


_COMES = "its images come with scikit-learn, which is installed with the recipe."

COMMANDS = (
    nothing("data get", f"digits fetches nothing: {_COMES}"),
    outlast.Command(
        "data check", "count the images of each digit, and compare them with their hash", lambda _: None, run
    ),
    nothing("data prepare", f"digits prepares nothing: {_COMES}"),
)
