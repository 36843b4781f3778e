"""The clips of one step, and the data of a run: what the readers of files hand to training and networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

POINTS = 78
"""Keypoints of a frame: pose, left hand, right hand, face, in this order."""
POSE, LEFT, RIGHT, FACE = slice(0, 25), slice(25, 46), slice(46, 67), slice(67, 78)
FEATURES = 2048
"""Image features of a frame."""


@dataclass(frozen=True)
class Batch:
    """Labelled clips, padded at their ends to T frames.

    Attributes:
        lengths: (B,) int64, frames of each clip; at most T. 0 is a clip without frames.
        gloss: (B,) int64, from 0.
        category: (B,) int64, from 0.
        occluded: (B,) bool.
        numbers: (B,) int64, of the clips in their data set.
        over_time: names of the attributes that have frames.
    """

    over_time: ClassVar[tuple[str, ...]]

    lengths: Tensor
    gloss: Tensor
    category: Tensor
    occluded: Tensor
    numbers: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The arguments of a network."""
        raise NotImplementedError

    def __len__(self) -> int:
        """B."""
        return len(self.lengths)

    def to(self, device: torch.device) -> Self:
        """The same on a device; pinned memory is copied beside the computation."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same in pinned memory; torch's loader calls it."""
        return self._each(Tensor.pin_memory)

    def pieces(self, frames: float) -> Iterator[Self]:
        """The clips in pieces of at most so many frames with their padding; a longer clip is a piece of its own.

        Several pieces have the shortest clips first. One piece is the batch as it is.
        """
        if len(self) * getattr(self, self.over_time[0]).shape[1] <= frames:
            yield self
            return
        order = self.lengths.argsort(stable=True)
        lengths = [max(1, length) for length in self.lengths[order].tolist()]
        begin = 0
        for end, longest in enumerate(lengths):
            if end > begin and (end + 1 - begin) * longest > frames:
                yield self._some(order[begin:end], lengths[end - 1])
                begin = end
        yield self._some(order[begin:], lengths[-1])

    def _some(self, chosen: Tensor, frames: int) -> Self:
        """Some of the clips, without what follows the longest of them."""
        part = self._each(lambda tensor: tensor[chosen])
        return replace(part, **{name: getattr(part, name)[:, :frames] for name in self.over_time})

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})


@dataclass(frozen=True)
class KeypointBatch(Batch):
    """Clips of keypoints.

    Attributes:
        points: (B, T, 78, 2) float32; 0 where `seen` is False.
        seen: (B, T, 78) bool; False after a clip's length.
    """

    over_time: ClassVar = ("points", "seen")

    points: Tensor
    seen: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """(points, seen, lengths)."""
        return self.points, self.seen, self.lengths


@dataclass(frozen=True)
class FeatureBatch(Batch):
    """Clips of image features.

    Attributes:
        features: (B, T, 2048) float32; 0 after a clip's length.
    """

    over_time: ClassVar = ("features",)

    features: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """(features, lengths)."""
        return self.features, self.lengths


class Clips(Protocol):
    """Some clips of a data set, such as those of a split."""

    def __len__(self) -> int:
        """Number of clips."""

    def batches(self, size: int) -> Iterator[Batch]:
        """All clips, unchanged by chance and normalised, in batches of at most `size`. Each clip is in one batch; the
        order may be that of their lengths."""


class Loader(Protocol):
    """The batches of a training, as `outlast.DataLoader` gives them, with their position as state."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def state_dict(self) -> dict[str, Any]:
        """The position."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a position."""


@dataclass(frozen=True)
class SignData:
    """The data of a run.

    Attributes:
        parts: the clips under "train", "val" and "test"; "val" and "test" may be empty.
        loader: batches of the training part, as they lie in the data set.
        view: (batch of the loader, epoch from 1, device) -> the batch that is trained on, on the device: augmented as
            a function of seed, epoch and clip, and normalised.
        glosses: names of the glosses.
        categories: names of the categories.
        category_of: category of each gloss; -1 for a gloss of which neither a clip nor the table of names
            says one.
        hash: of all clips and labels.
        generated: whether the data were generated for a smoke test.
    """

    parts: Mapping[str, Clips]
    loader: Loader
    view: Callable[[Batch, int, torch.device], Batch]
    glosses: tuple[str, ...]
    categories: tuple[str, ...]
    category_of: tuple[int, ...]
    hash: str
    generated: bool = False
