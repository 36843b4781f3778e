"""A subset of a clip store as a data set, and the training views of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from outlast_recipes.common.chance import Chance
from outlast_recipes.skeleton.augment import NUMBERS, Batch, Strength, augmented, collate
from outlast_recipes.skeleton.layouts import LAYOUTS
from outlast_recipes.skeleton.store import Store

STRETCH = 2.0  # the most by which a bone of another body may differ; beyond it the tracker was wrong


class ClipSubset:
    """Some clips of a store, as tensors.

    Args:
        store: a prepared data set.
        numbers: of the clips.
    """

    def __init__(self, store: Store, numbers: Sequence[int]) -> None:
        self.store, self.numbers = store, list(numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, int]:
        """Positions (T, M, V, 3), mask (T, M), label, and the clip's number in the store."""
        number = self.numbers[index]
        joints, mask = self.store[number]
        return torch.from_numpy(joints), torch.from_numpy(mask), self.store.entries[number].label, number

    def batches(self, size: int) -> Iterator[Batch]:
        """All clips in order; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield collate([self[index] for index in range(start, min(start + size, len(self)))])


class Views:
    """Changes clips of a training part; what comes out depends on the seed, the round and the clip alone.

    Args:
        part: the training part, whose clips lend their bones to others of their class.
        frames: of a view.
        strength: how far a view may be from its clip.
        seed: of all views.
    """

    def __init__(self, part: ClipSubset, frames: int, strength: Strength, seed: int) -> None:
        self.store, self.frames, self.strength, self.seed = part.store, frames, strength, seed
        self.layout = LAYOUTS[part.store.layout]
        classes: dict[int, list[int]] = {}
        for number in part.numbers:
            classes.setdefault(part.store.entries[number].label, []).append(number)
        self._alike = {label: torch.tensor(numbers) for label, numbers in classes.items()}

    def __call__(self, batch: Batch, view: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Views of these clips in one round.

        Args:
            batch: of the part.
            view: number of the view: the epoch, or a teacher's.
            device: where they are made.

        Returns:
            (N, frames, M, V, 3) metres and (N, frames, M), on the device.
        """
        names = [self.store.entries[number].name for number in batch.numbers.tolist()]
        chance = Chance.of(names, seed=self.seed, view=view, width=NUMBERS + self.layout.joints)
        share = chance.take()[:, 0]
        ratios = self._ratios(batch, share).to(device) if self.strength.bones else None
        return augmented(
            batch.joints.to(device),
            batch.mask.to(device),
            batch.lengths.to(device),
            self.frames,
            self.layout,
            self.strength,
            chance.to(device),
            ratios,
        )

    def _ratios(self, batch: Batch, share: Tensor) -> Tensor:
        """(N, M, V): lengths of the bones of another clip of the class, as multiples of the clip's own; 1 where either
        has none."""
        alike = [self._alike[label] for label in batch.labels.tolist()]
        others = torch.stack([numbers[int(at * len(numbers))] for numbers, at in zip(alike, share, strict=True)])
        own, other = (
            torch.from_numpy(self.store.fixed["bones"][numbers.numpy()]) for numbers in (batch.numbers, others)
        )
        known = (own > 0) & (other > 0)
        return torch.where(known, other / own, 1.0).clamp(1 / STRETCH, STRETCH)
