"""The samples of a data set as ultralytics' training takes them, without its scan of folders and its label caches."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import outlast
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.ultralytics_adapter.library import Albumentations, YOLODataset


class _Epoch:
    """The epoch of a sampler, from 0. In the process of a worker, which is started for one epoch, it is that one.

    It refers to the sampler weakly: the loader looks for generators inside the dataset, for every batch, and would find
    the run there.
    """

    def __init__(self, sampler: outlast.BatchSampler) -> None:
        self._sampler, self._fixed = weakref.ref(sampler), 0

    def __call__(self) -> int:
        sampler = self._sampler() if self._sampler else None
        return self._fixed if sampler is None else sampler.epoch

    def __getstate__(self) -> dict[str, Any]:
        return {"_sampler": None, "_fixed": self()}


KEPT = 2**27
"""Bytes of decoded images that a process keeps; at 640 pixels ultralytics' own number of images is more."""


class _NoFiles:
    """Where ultralytics looks for decoded images: a file image.npy beside an image would be read instead of it, and
    deleted when it is damaged."""

    def __getitem__(self, _: int) -> Path:
        return _NO_FILE


_NO_FILE = Path("no-such-file")


class SampleDataset(YOLODataset):
    """Samples with ultralytics' augmentation, in which nothing random depends on what was loaded before.

    Its own dataset draws the other images of a mosaic out of those that were loaded last, so that a batch depends on
    the process that made the batches before it. Here they are drawn out of all, as it does with `cache="ram"`.

    Args:
        samples: of a split.
        data: ultralytics' description of the data set.
        mosaics: the number of epochs that have mosaics and mixes; None: in a validation.
        **options: as of YOLODataset.
    """

    def __init__(
        self, samples: Sequence[Sample], *, data: dict[str, Any], mosaics: int | None = None, **options: Any
    ) -> None:
        self._samples, self.mosaics, self._open = samples, mosaics, True
        self._epoch: Callable[[], int] = int
        self.max_buffer_length: int
        self.cache: str | None
        super().__init__(img_path="", data=data, **options)
        self._samples = ()  # the loader looks for generators inside the dataset, for every batch: nothing large is kept
        self.npy_files = _NoFiles()
        if self.augment:  # mosaics draw from all images, so more of them are kept decoded than ultralytics keeps
            self.max_buffer_length = min(self.ni, max(self.max_buffer_length, KEPT // (3 * self.imgsz**2)))

    def follow(self, sampler: outlast.BatchSampler) -> None:
        """Take the epoch from the loader's sampler."""
        self._epoch = _Epoch(sampler)

    def get_img_files(self, _: Any) -> list[str]:
        return [str(sample.path) for sample in self._samples]

    def get_labels(self) -> list[dict[str, Any]]:
        return [_label(sample, bool(self.use_keypoints)) for sample in self._samples]

    def build_transforms(self, hyp: Any) -> Any:
        self._options = copy(hyp)
        cache, self.cache = self.cache, "ram"  # which a mosaic asks for whether to draw from the images loaded last
        try:
            made = super().build_transforms(hyp)
        finally:
            self.cache = cache
        # Where albumentations is installed, it would blur some images, and all later random numbers would be others.
        made.transforms = [each for each in made.transforms if not isinstance(each, Albumentations)]
        return made

    def load_image(self, i: int, **options: Any) -> tuple[Any, tuple[int, int], tuple[int, int]]:
        try:
            image, *sizes = super().load_image(i, **options)
        except (OSError, ValueError, cv2.error) as error:  # the header was read before the training, and no more
            raise outlast.DataError(
                f"{self.im_files[i]} cannot be decoded any more, or was never whole. `outlast data check yolo` looks "
                "at the pixels of all images."
            ) from error
        # Some transforms write into the image, and the same one may be asked for again.
        return (image.copy() if self.augment else image), *sizes

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.mosaics is not None and self._open != (self._epoch() < self.mosaics):
            self._open = not self._open
            options = copy(self._options)
            if self._open:
                self.transforms = self.build_transforms(options)
            else:
                kept, self._options = self._options, options
                self.close_mosaic(options)
                self._options = kept
        return super().__getitem__(index)


def _label(sample: Sample, keypoints: bool) -> dict[str, Any]:  # noqa: FBT001
    """The labels of an image, as shares of its size."""
    size = np.array([sample.width, sample.height], np.float32)
    low, high = sample.boxes[:, :2], sample.boxes[:, 2:]
    label: dict[str, Any] = {
        "im_file": str(sample.path),
        "shape": (sample.height, sample.width),
        "cls": sample.classes.astype(np.float32)[:, None],
        "bboxes": np.concatenate([(low + high) / 2 / size, (high - low) / size], axis=1, dtype=np.float32),
        "segments": [],
        "keypoints": None,
        "normalized": True,
        "bbox_format": "xywh",
    }
    if keypoints:
        assert sample.keypoints is not None  # noqa: S101 - the data set has some, so each sample has an array
        assert sample.visible is not None  # noqa: S101
        points = sample.keypoints / size
        label["keypoints"] = np.concatenate([points, sample.visible[..., None]], axis=2, dtype=np.float32)
    return label
