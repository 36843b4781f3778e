"""Some clips of a store as batches, and the views of them that are trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from outlast_recipes.sign import augment, signers
from outlast_recipes.sign.augment import Strength, resampled
from outlast_recipes.sign.batch import Batch, FeatureBatch, KeypointBatch
from outlast_recipes.sign.clips import Store
from outlast_recipes.sign.normalise import ASPECT, placed


class ClipSubset:
    """Some clips of a store.

    Args:
        store: the clips.
        numbers: of those that belong to it.
        frames: longest clip of a batch; longer ones are resampled.
        aspect: width of the frames by their height; None: as the clips say.
        normalise: whether `batches` are in units of the body.
        keep: is kept alive as long as this.
    """

    def __init__(
        self,
        store: Store,
        numbers: Sequence[int],
        *,
        frames: int,
        aspect: float | None = None,
        normalise: bool = True,
        keep: Any = None,
    ) -> None:
        self.store, self.numbers, self.frames, self.normalise, self._keep = (
            store,
            list(numbers),
            frames,
            normalise,
            keep,
        )
        self.aspect = torch.tensor([aspect or entry.aspect or ASPECT for entry in store.entries])

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def lengths(self) -> list[int]:
        """Frames of each clip in a batch."""
        return [min(self.store.entries[number].length, self.frames) for number in self.numbers]

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """One batch of these clips, as they are in the store; see `first`."""
        return [self.raw([self.numbers[index] for index in indices])]

    def __getitem__(self, index: int) -> Batch:
        return self.raw([self.numbers[index]])

    def raw(self, numbers: Sequence[int]) -> Batch:
        """A batch of clips of the store: shares of the frame, padded."""
        values, seen = (torch.from_numpy(array) for array in self.store.padded(numbers))
        entries = [self.store.entries[number] for number in numbers]
        batch = batch_of(values, seen, torch.tensor([entry.length for entry in entries]), self.frames)
        return dataclasses.replace(
            batch,
            gloss=torch.tensor([entry.label for entry in entries]),
            category=torch.tensor([entry.category for entry in entries]),
            occluded=torch.tensor([entry.occluded for entry in entries]),
            numbers=torch.tensor(numbers),
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All clips, normalised, in the order of their lengths."""
        order = sorted(self.numbers, key=lambda number: (self.store.entries[number].length, number))
        for start in range(0, len(order), size):
            batch = self.raw(order[start : start + size])
            yield in_body(batch, self.aspect[batch.numbers]) if self.normalise else batch


def batch_of(values: Tensor, seen: Tensor, lengths: Tensor, frames: int) -> Batch:
    """Clips without labels, as they are in their files.

    Args:
        values: (B, T, 78, 2) shares of the frame, or (B, T, 2048) features; 0 after a clip's length.
        seen: (B, T, 78), or (B, T).
        lengths: (B,) frames.
        frames: longest clip of the batch; longer ones are resampled.
    """
    if int(lengths.max()) > frames:
        shorter = lengths.clamp(max=frames)
        values, seen = resampled(values, seen, torch.zeros(len(lengths)), lengths - 1.0, shorter)
        lengths = shorter
    nobody = torch.zeros_like(lengths)
    labels = (lengths, nobody, nobody, nobody.bool(), nobody)
    return FeatureBatch(*labels, values) if values.dim() == 3 else KeypointBatch(*labels, values, seen)


def in_body(batch: Batch, aspect: Tensor) -> Batch:
    """Keypoints in units of the body; features as they are.

    Args:
        batch: as in the files.
        aspect: (B,) width of the frame by its height.
    """
    if not isinstance(batch, KeypointBatch):
        return batch
    place = placed(batch.points, batch.seen, aspect)
    return dataclasses.replace(batch, points=place.to_body(batch.points, batch.seen))


def first(batches: Sequence[Batch]) -> Batch:
    """The batch that `ClipSubset.__getitems__` made whole."""
    return batches[0]


class Views:
    """Changes batches of a training part, and normalises them; what comes out depends on seed, epoch and clip alone.

    Args:
        part: the training part.
        strength: how far a view may be from its clip.
        seed: of all views.
    """

    def __init__(self, part: ClipSubset, strength: Strength, seed: int) -> None:
        self.part, self.strength, self.seed = part, strength, seed

    def __call__(self, batch: Batch, epoch: int, device: torch.device) -> Batch:
        """The views of a batch in one epoch, on a device."""
        names = [self.part.store.entries[number].name for number in batch.numbers.tolist()]
        if isinstance(batch, KeypointBatch):
            return self._keypoints(batch, names, epoch, device)
        assert isinstance(batch, FeatureBatch)  # noqa: S101 - there are two kinds
        chance = augment.chance_of(names, self.seed, epoch)
        frames = torch.arange(batch.features.shape[1])[None] < batch.lengths[:, None]
        values, seen, lengths = augment.in_time(
            batch.features.to(device), frames.to(device), batch.lengths, self.strength, chance, self.part.frames
        )
        seen = augment.dropped(seen, lengths, names, self.seed, epoch, self.strength.drop_frames)
        return dataclasses.replace(batch.to(device), features=values * seen[..., None], lengths=lengths.to(device))

    def _keypoints(self, batch: KeypointBatch, names: list[str], epoch: int, device: torch.device) -> KeypointBatch:
        strength, chance = self.strength, augment.chance_of(names, self.seed, epoch)
        points, seen = batch.points.to(device), batch.seen.to(device)
        place = placed(points, seen, self.part.aspect[batch.numbers].to(device))
        points, seen, lengths = augment.in_time(
            place.to_body(points, seen), seen, batch.lengths, strength, chance, self.part.frames
        )
        seen = augment.dropped(seen, lengths, names, self.seed, epoch, strength.drop_frames)
        if strength.noise:
            noise: Tensor = augment.noise_of(lengths, names, self.seed, epoch, points.shape[1])
            points = points + strength.noise * noise.to(device) / place.scale
        there, gloss = lengths.to(device), batch.gloss.to(device)
        points, seen = augment.in_space(points, seen, there, gloss, strength, chance.to(device))
        points, seen = signers.of_another(points, seen, there, strength, names, self.seed, epoch)
        if not self.part.normalise:
            points = place.to_frame(points, seen)
        return dataclasses.replace(batch.to(device), points=points, seen=seen, lengths=there)
