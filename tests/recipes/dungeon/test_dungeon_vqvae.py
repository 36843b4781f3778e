"""Rooms as codes: shapes, gradients, and a codebook that equals a plain one."""

from __future__ import annotations

import copy
import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from outlast_recipes.dungeon.conditions import OWN, RoomCondition, encode
from outlast_recipes.dungeon.patterns import PatternSampler
from outlast_recipes.dungeon.quantizers import LEVELS, Codebook, Rounding
from outlast_recipes.dungeon.tiles import FLOOR, MONSTER, STAIR, TILES, WALL
from outlast_recipes.dungeon.vqvae import RoomAutoencoder, VQConfig, balanced_accuracy, tile_counts, tile_losses

KINDS = [VQConfig(quantizer=quantizer, halvings=halvings) for quantizer in ("ema", "fsq") for halvings in (1, 2)]


def drawn(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rooms by rules, and their conditions."""
    doors = [frozenset("NESW"[side] for side in range(4) if room >> side & 1) for room in range(number)]
    asked = [RoomCondition(each, stairs=len(each) == 1) for each in doors]
    rooms = PatternSampler().sample(asked, seed)
    return torch.from_numpy(rooms.astype(np.int64)), torch.from_numpy(encode(asked))


@pytest.mark.parametrize("config", KINDS, ids=lambda config: f"{config.quantizer}-{config.halvings}")
def test_rooms_become_codes_and_codes_rooms(config: VQConfig) -> None:
    torch.manual_seed(0)
    model = RoomAutoencoder(config).eval()
    rooms, asked = drawn(5)
    codes = model.encode(rooms, asked)
    assert codes.shape == (5, *config.grid) == (5, *((8, 6) if config.halvings == 1 else (4, 3)))
    assert codes.dtype == torch.int64
    assert 0 <= codes.min() <= codes.max() < config.codes
    assert model.decode(codes, asked).shape == (5, len(TILES), 16, 11)
    assert torch.equal(model.nearest_codes(model.embed(codes)), codes)
    assert model.encode(rooms[:1], asked[:1]).equal(codes[:1]), "a room does not depend on its batch"
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (100_000 if config.halvings == 1 else 300_000) < count < 600_000


@pytest.mark.parametrize("quantizer", ["ema", "fsq"])
def test_gradients_reach_every_parameter(quantizer: str) -> None:
    torch.manual_seed(0)
    model = RoomAutoencoder(VQConfig(quantizer=quantizer, width=16, latent_dim=8))
    loss, figures = model.loss(*drawn(16))
    loss.backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []
    assert set(figures) == {"reconstruction", "commitment", "accuracy", "balanced_accuracy", "perplexity"}
    assert not any(figure.requires_grad for figure in figures.values())
    assert 1 <= figures["perplexity"] <= model.config.codes
    assert loss.item() == pytest.approx(float(figures["reconstruction"] + 0.25 * figures["commitment"]), rel=1e-5)


def test_doors_reach_the_tiles_and_neighbours_do_not() -> None:
    torch.manual_seed(0)
    model = RoomAutoencoder(VQConfig(width=16, latent_dim=8)).eval()
    rooms, asked = drawn(4)
    codes = model.encode(rooms, asked)
    beside, other = asked.clone(), asked.clone()
    beside[:, OWN:] = 1
    other[:, 2] = 1 - other[:, 2]
    assert model.decode(codes, beside).equal(model.decode(codes, asked))
    assert (model.decode(codes, other) != model.decode(codes, asked)).flatten(1).any(1).all()


def test_rare_tiles_weigh_more() -> None:
    torch.manual_seed(0)
    rooms = torch.full((2, 16, 11), FLOOR)
    rooms[1, 5, 5] = MONSTER
    logits = torch.zeros(2, len(TILES), 16, 11)
    weights = RoomAutoencoder(VQConfig(width=8, latent_dim=4, rare_weight=5.0)).weights
    assert tile_losses(logits, rooms, weights).tolist() == pytest.approx([math.log(10), math.log(10) * 180 / 176])
    assert tile_losses(logits, rooms).tolist() == pytest.approx([math.log(10)] * 2)


def test_balanced_accuracy_counts_each_kind_of_tile_alike() -> None:
    rooms = torch.full((1, 16, 11), WALL)
    rooms[0, 4, 2:6] = MONSTER
    rooms[0, 8, 5] = STAIR
    guess = torch.nn.functional.one_hot(torch.full_like(rooms, WALL), len(TILES)).movedim(-1, 1).float()
    guess[0, :, 4, 2] = torch.eye(len(TILES))[MONSTER]
    right, found = tile_counts(guess, rooms)
    assert (right.sum(), found.sum(), found[MONSTER], right[MONSTER]) == (172, 176, 4, 1)
    assert balanced_accuracy(right, found) == pytest.approx((1 + 1 / 4 + 0) / 3)


def test_codebook_equals_a_plain_one() -> None:
    """Moving averages of counts and sums, tile by tile, without restarts."""
    torch.manual_seed(0)
    book = Codebook(3, 5, decay=0.9, restart_after=1_000_000)
    book.unused.zero_()
    vectors = book.book.double().tolist()
    counts, sums = [0.0] * 5, [[0.0] * 3 for _ in range(5)]
    for _ in range(20):
        latents = torch.randn(2, 3, 2, 2)
        passed, codes, distance = book(latents, None)
        flat = latents.movedim(1, -1).reshape(-1, 3).double().tolist()
        nearest = [
            min(range(5), key=lambda code, x=x: sum((a - b) ** 2 for a, b in zip(x, vectors[code], strict=True)))
            for x in flat
        ]
        assert codes.flatten().tolist() == nearest
        assert passed.movedim(1, -1).reshape(-1, 3).tolist() == [
            pytest.approx(vectors[code], abs=1e-5) for code in nearest
        ]
        far = [
            (a - b) ** 2 for x, code in zip(flat, nearest, strict=True) for a, b in zip(x, vectors[code], strict=True)
        ]
        assert distance == pytest.approx(sum(far) / len(far), rel=1e-4)
        for code, axis in product(range(5), range(3)):
            mine = [x for x, chosen in zip(flat, nearest, strict=True) if chosen == code]
            counts[code] = 0.9 * counts[code] + 0.1 * len(mine) if axis == 0 else counts[code]
            sums[code][axis] = 0.9 * sums[code][axis] + 0.1 * sum(x[axis] for x in mine)
        vectors = [
            [part / count for part in total] if count > 1e-6 else vector
            for vector, total, count in zip(vectors, sums, counts, strict=True)
        ]
        assert book.book.tolist() == [pytest.approx(vector, abs=1e-4) for vector in vectors]


def test_unused_codes_become_vectors_of_the_batch_drawn_by_the_generator() -> None:
    torch.manual_seed(0)
    book = Codebook(2, 8, decay=0.9, restart_after=3)
    book.book.fill_(100)
    book.book[0] = 0
    book.unused.zero_()
    latents = [torch.randn(4, 2, 1, 1) for _ in range(4)]
    for batch in latents[:3]:
        book(batch, None)
    assert book.unused.tolist() == [0] + [3] * 7
    assert (book.book[1:] == 100).all(), "they are unused for three batches, and not for more"
    other = copy.deepcopy(book)
    for each in (book, other):
        each(latents[3], torch.Generator().manual_seed(5))
    assert book.book.equal(other.book)
    assert book.unused.tolist() == [0] * 8
    of_batch = (book.book[1:, None] == latents[3].flatten(1)).all(-1).any(1)
    assert of_batch.all()
    assert len(book.book[1:].unique(dim=0)) > 1
    before = book.book.clone()
    book.eval()(latents[0], None)
    assert book.book.equal(before), "no code moves in evaluation mode"


def test_a_loaded_state_goes_on_as_it_was() -> None:
    torch.manual_seed(0)
    config = VQConfig(width=8, latent_dim=4, num_embeddings=16, restart_after=1)
    one, other = RoomAutoencoder(config), RoomAutoencoder(config)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    for seed in range(3):
        one.loss(*drawn(4, seed), generators[0])
    other.load_state_dict(one.state_dict())
    generators[1].set_state(generators[0].get_state())
    for model, generator in zip((one, other), generators, strict=True):
        for seed in range(3, 6):
            model.loss(*drawn(4, seed), generator)
    assert all(one.state_dict()[key].equal(value) for key, value in other.state_dict().items())


@pytest.mark.parametrize("number", LEVELS)
def test_every_code_of_fsq_can_be_reached_and_has_its_own_vector(number: int) -> None:
    torch.manual_seed(0)
    levels = LEVELS[number]
    rounding = Rounding(len(levels), levels)
    rounding.inward = torch.nn.Identity()
    axes = [torch.linspace(-4, 4, 201)] * len(levels)
    seen = [
        rounding.codes(
            torch.zeros(1, len(levels), 201, 1).index_copy(1, torch.tensor([axis]), ramp[None, None, :, None])
        )
        for axis, ramp in enumerate(axes)
    ]
    assert [len(codes.unique()) for codes in seen] == list(levels)
    everything = torch.arange(math.prod(levels))
    assert len(rounding.vectors(everything).unique(dim=0)) == math.prod(levels)
    grid = rounding.vectors(everything).detach().T[None, :, :, None]
    assert rounding.nearest(grid).flatten().equal(everything)


def test_fsq_does_not_collapse() -> None:
    """A new quantiser uses most codes, and the gradients pass its rounding."""
    torch.manual_seed(0)
    rounding = Rounding(16, LEVELS[256])
    latents = (0.01 * torch.randn(200, 16, 4, 3)).requires_grad_()
    vectors, codes, _ = rounding(latents, None)
    shares = torch.bincount(codes.flatten(), minlength=240) / codes.numel()
    assert torch.special.entr(shares).sum().exp() > 150
    assert vectors.allclose(rounding.vectors(codes).movedim(-1, 1), atol=1e-6)
    vectors.square().sum().backward()
    assert latents.grad.any(1).all()


@pytest.mark.parametrize("quantizer", ["fsq", "ema"])
def test_rooms_come_back_after_a_short_training(quantizer: str) -> None:
    rooms, asked = drawn(16)
    torch.manual_seed(0)
    model = RoomAutoencoder(VQConfig(quantizer=quantizer, width=16, latent_dim=16, num_embeddings=64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first, _ = model.loss(rooms, asked)
    for _ in range(30):
        loss, figures = model.loss(rooms, asked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.4 * first
    assert figures["accuracy"] > 0.85


def test_fsq_refuses_a_number_without_levels() -> None:
    with pytest.raises(ValueError, match=r"^num_embeddings is 100; FSQ has 64, 128, 256, 512, 1024\. Choose one"):
        VQConfig(quantizer="fsq", num_embeddings=100)
    assert VQConfig(num_embeddings=100).codes == 100
    assert VQConfig(quantizer="fsq", num_embeddings=256).codes == 240
