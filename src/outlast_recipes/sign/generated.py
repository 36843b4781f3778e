"""Generated clips for --smoke-test: hands that move along curves of their gloss. They show that a training runs, and
nothing else.

A clip is a function of the seed, its gloss and its number, and nothing is written to disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

import outlast
from outlast_recipes.common.clips import Mask
from outlast_recipes.sign.batch import FEATURES, LEFT, POINTS, RIGHT, Batch, FeatureBatch, KeypointBatch, SignData
from outlast_recipes.sign.config import SignConfig
from outlast_recipes.sign.loading import loader_options

GLOSSES, CATEGORIES = 105, 10  # when the numbers are not given
EACH = {"train": 2, "val": 1, "test": 0}  # clips of a gloss
SHORTEST, LONGEST = 12, 32  # frames


class GeneratedClips:
    """Clips that are computed when they are asked for.

    Args:
        seed: of all clips.
        glosses: (N,) of the clips.
        first: number of the first clip.
        categories: number of them; the category of a gloss is its number modulo this.
        features: whether the clips are image features instead of keypoints.
    """

    def __init__(self, seed: int, glosses: Sequence[int], first: int, categories: int, *, features: bool) -> None:
        self.seed, self.glosses, self.first = seed, list(glosses), first
        self.categories, self.features = categories, features

    def __len__(self) -> int:
        return len(self.glosses)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        """(T, 78, 2) points or (T, 2048) features, seen (T, 78), gloss, and the clip's number."""
        gloss, number = self.glosses[index], self.first + index
        own, kind = np.random.default_rng((self.seed, number)), np.random.default_rng((self.seed, gloss, 0))
        length = int(own.integers(SHORTEST, LONGEST + 1))
        if self.features:
            curves = np.sin(np.linspace(0, 6, length)[:, None] * kind.uniform(0.5, 2, FEATURES) + kind.uniform(0, 6))
            values = curves + 0.3 * own.normal(size=(length, FEATURES))
            return torch.from_numpy(values.astype(np.float32)), torch.ones(length, POINTS).bool(), gloss, number
        points = np.random.default_rng(self.seed).normal(scale=0.3, size=(1, POINTS, 2)) + np.zeros((length, 1, 1))
        time = np.linspace(0, 1, length)[:, None]
        for part in (LEFT, RIGHT):
            curve = sum(kind.normal(size=(1, 2)) * np.sin(3 * wave * time + kind.uniform(0, 6)) for wave in (1, 2))
            points[:, part] += curve[:, None] + kind.normal(scale=0.2, size=(1, 21, 2))
        points += 0.03 * own.normal(size=points.shape)
        seen: Mask = np.ones((length, POINTS), np.bool_)
        if number % 5 == 0:  # an occluded clip
            seen[length // 3 : length // 2, RIGHT] = False
        points *= seen[..., None]
        return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(seen), gloss, number

    def collate(self, clips: Sequence[tuple[torch.Tensor, torch.Tensor, int, int]]) -> Batch:
        """Clips of any lengths as one batch."""
        values, seen, glosses, numbers = zip(*clips, strict=True)
        gloss, number = torch.tensor(glosses), torch.tensor(numbers)
        lengths = torch.tensor([len(value) for value in values])
        labels = (lengths, gloss, gloss % self.categories, number % 5 == 0, number)
        padded = pad_sequence(list(values), batch_first=True)
        if self.features:
            return FeatureBatch(*labels, padded)
        return KeypointBatch(*labels, padded, pad_sequence(list(seen), batch_first=True))

    def batches(self, size: int) -> Iterator[Batch]:
        """All clips in order."""
        for start in range(0, len(self), size):
            yield self.collate([self[index] for index in range(start, min(start + size, len(self)))])


def generated_data(config: SignConfig) -> SignData:
    """The data of a smoke test: a few clips of each gloss for training and validation, and none for a test.

    Raises:
        outlast.ConfigError: there are more categories than glosses.
    """
    glosses = config.data.num_gloss or GLOSSES
    categories = config.data.num_cat or min(CATEGORIES, glosses)
    if categories > glosses:
        raise outlast.ConfigError(
            f"--num-cat is {categories} and --num-gloss is {glosses}; generated clips need a gloss for each category."
        )
    parts, first, features = {}, 0, config.network.name == "iv3_gru"
    for name, count in EACH.items():
        parts[name] = GeneratedClips(config.seed, [*range(glosses)] * count, first, categories, features=features)
        first += len(parts[name])
    loader = outlast.DataLoader(
        parts["train"],
        min(config.batch_size, len(parts["train"])),
        seed=config.seed,
        collate_fn=parts["train"].collate,
        **loader_options(config),
    )
    facts = json.dumps([config.seed, glosses, categories, features]).encode()
    return SignData(
        parts=parts,
        loader=loader,
        view=lambda batch, _epoch, device: batch.to(device),
        glosses=tuple(f"generated gloss {number}" for number in range(glosses)),
        categories=tuple(f"generated category {number}" for number in range(categories)),
        category_of=tuple(number % categories for number in range(glosses)),
        hash="generated-" + hashlib.blake2b(facts, digest_size=8).hexdigest(),
        generated=True,
    )
