"""A loader for loops that count epochs: the batches of outlast.DataLoader, in its order."""

from __future__ import annotations

import pytest
from tests.integrations import twins

import outlast

twins.need("torch")


@pytest.mark.parametrize("shuffle", [True, False])
def test_its_batches_are_those_of_outlasts_loader(*, shuffle: bool) -> None:
    from torch.utils.data import DataLoader

    from outlast.integrations.epochs import EpochLoader

    samples = list(range(10))
    like = EpochLoader.like(DataLoader(samples, 4, shuffle=shuffle), seed=3)
    loader = outlast.DataLoader(samples, 4, shuffle=shuffle, seed=3)
    for epoch in range(2):
        like.set_epoch(epoch)
        assert [each.tolist() for each in like] == [each.tolist() for each in loader]
    assert len(like) == 3
