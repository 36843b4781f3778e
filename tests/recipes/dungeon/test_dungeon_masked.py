"""Masked diffusion of rooms: the loss, and the order and numbers of sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from outlast_recipes.dungeon import masked
from outlast_recipes.dungeon.conditions import ENCODED, INSIDE, UNKNOWN, RoomCondition, encode, frames
from outlast_recipes.dungeon.corpus import room_digest
from outlast_recipes.dungeon.patterns import PatternSampler
from outlast_recipes.dungeon.sampling import RedrawingSampler, RoomSampler, fulfils, sample_seed
from outlast_recipes.dungeon.tiles import BLOCK, ELEMENT, FLOOR, MONSTER, STAIR, TILES, WALL, doors_of, has_stairs


@pytest.fixture
def network() -> masked.MaskedDenoiser:
    torch.manual_seed(0)
    return masked.MaskedDenoiser(16, 1).eval()


class Uniform(nn.Module):
    """The same probability for every tile; counts what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))
        self.hidden: list[list[int]] = []

    def forward(self, tiles: Tensor, condition: Tensor) -> Tensor:
        self.hidden.append((tiles == UNKNOWN).sum((1, 2)).tolist())
        return torch.zeros(*tiles.shape, len(TILES))


def test_mask_keeps_as_many_as_asked() -> None:
    tiles = torch.randint(0, len(TILES), (5, 12, 7))
    kept = torch.tensor([0, 1, 40, 82, 83])
    given = masked.mask(tiles, kept, torch.rand(5, masked.CELLS))
    seen = given != UNKNOWN
    assert torch.equal(seen.sum((1, 2)), kept)
    assert torch.equal(given[seen], tiles[seen])


def test_loss_is_of_masked_tiles_alone() -> None:
    tiles = torch.full((2, 12, 7), FLOOR)
    logits = torch.zeros(2, 12, 7, len(TILES))
    given = masked.mask(tiles, torch.tensor([3, 80]), torch.rand(2, masked.CELLS))
    assert masked.masked_loss(logits, tiles, given).tolist() == pytest.approx([math.log(10)] * 2)
    logits[given != UNKNOWN] = torch.randn(len(TILES)) * 100
    assert masked.masked_loss(logits, tiles, given).tolist() == pytest.approx([math.log(10)] * 2)


@pytest.mark.parametrize(("at_once", "steps"), [(1, 84), (4, 21), (100, 1)])
def test_every_tile_is_drawn_once(at_once: int, steps: int) -> None:
    uniform = Uniform()
    chance = torch.Generator().manual_seed(0)
    tiles = masked.sample(uniform, torch.zeros(3, ENCODED), chance, entropy=1e9, at_once=at_once)
    assert len(uniform.hidden) == steps
    assert uniform.hidden == [[84 - at_once * step] * 3 for step in range(steps)]
    assert tiles.shape == (3, 12, 7)
    assert tiles.max() < UNKNOWN


@pytest.mark.parametrize(
    ("entropy", "at_once", "many"), [(0, 84, 1), (2.2, 84, 1), (2.4, 84, 2), (9.3, 84, 5), (9.3, 3, 3)]
)
def test_tiles_of_a_step_have_a_bounded_entropy(entropy: float, at_once: int, many: int) -> None:
    """Each tile has log 10 = 2.303 nats here, and the most uncertain one of a step is not counted."""
    uniform = Uniform()
    chance = torch.Generator().manual_seed(0)
    masked.sample(uniform, torch.zeros(2, ENCODED), chance, entropy=entropy, at_once=at_once)
    assert uniform.hidden == [[84 - done] * 2 for done in range(0, 84, many)]


def test_tiles_that_are_sure_take_no_step_of_their_own() -> None:
    """Half of the rooms have one uncertain row, the others four; a room that is done is not looked at again."""

    class Rows(Uniform):
        def forward(self, tiles: Tensor, condition: Tensor) -> Tensor:
            super().forward(tiles, condition)
            logits = torch.zeros(*tiles.shape, len(TILES)).index_fill_(-1, torch.tensor(FLOOR), 200.0)
            for room, asked in zip(logits, condition[:, 0].long().tolist(), strict=True):
                room[:asked] = 0
            return logits

    rows = Rows()
    condition = torch.zeros(4, ENCODED)
    condition[:, 0] = torch.tensor([1, 4, 1, 4])
    tiles = masked.sample(rows, condition, torch.Generator().manual_seed(0))
    assert [len(hidden) for hidden in rows.hidden] == [4] * 7 + [2] * 21
    assert (tiles[0, 1:] == FLOOR).all()
    assert (tiles[1, 4:] == FLOOR).all()
    assert len(tiles[1, :4].unique()) > 5


def test_a_room_is_the_same_among_others(network: masked.MaskedDenoiser) -> None:
    asked = [RoomCondition(frozenset("N"))] * 70  # several parts of those that are drawn together
    many, few = (RoomSampler(network).sample(asked[:number], 3) for number in (70, 40))
    assert (many[:40] == few).all()
    assert len(np.unique(many.reshape(70, -1), axis=0)) == 70


def test_far_is_a_convolution_of_means_and_mirror_images() -> None:
    torch.manual_seed(0)
    block = masked._Block(6, 0.0, 1)
    nn.init.normal_(block.far.weight)
    nn.init.normal_(block.far.bias)
    y = torch.randn(3, 6, 12, 7)
    means = [y.mean(dims, keepdim=True).expand_as(y) for dims in ((2,), (3,), (2, 3))]
    mirrored = [y.flip(dims) for dims in ((2,), (3,), (2, 3))]
    expected = block.far(torch.cat([*means, *mirrored], 1))
    assert torch.allclose(block._far(y), expected, atol=1e-5)


def test_tiles_have_the_probabilities_of_the_network() -> None:
    shares = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0, 0, 0, 0, 0])

    class Known(Uniform):
        def forward(self, tiles: Tensor, condition: Tensor) -> Tensor:
            return shares.log().expand(*tiles.shape, -1)

    drawn = masked.sample(Known(), torch.zeros(200, ENCODED), torch.Generator().manual_seed(0))
    found = torch.bincount(drawn.flatten(), minlength=len(TILES)) / drawn.numel()
    assert (found - shares).abs().max() < 0.02  # 16,800 tiles: five standard deviations
    assert found[[FLOOR, BLOCK, MONSTER]].sum() == pytest.approx(1.0)
    cold = masked.sample(Known(), torch.zeros(20, ENCODED), torch.Generator().manual_seed(0), temperature=0.01)
    assert (cold == FLOOR).all()


def test_guidance_leads_away_from_no_condition() -> None:
    class Asked(Uniform):
        def forward(self, tiles: Tensor, condition: Tensor) -> Tensor:
            logits = torch.zeros(*tiles.shape, len(TILES))
            logits[..., BLOCK] = condition[:, 0, None, None]
            return logits

    def blocks(guidance: float) -> float:
        chance = torch.Generator().manual_seed(0)
        drawn = masked.sample(Asked(), torch.ones(50, ENCODED), chance, guidance=guidance)
        return (drawn == BLOCK).float().mean().item()

    expected = [math.exp(scale) / (math.exp(scale) + 9) for scale in (0, 1, 4)]
    assert [blocks(0), blocks(1), blocks(4)] == pytest.approx(expected, abs=0.03)


def test_rooms_have_the_asked_doors_and_depend_on_the_seed(network: masked.MaskedDenoiser) -> None:
    conditions = [RoomCondition(frozenset("N")), RoomCondition(frozenset("EW"), stairs=True), RoomCondition()]
    sampler = RoomSampler(network)
    rooms = sampler.sample(conditions, 3)
    assert rooms.shape == (3, 16, 11)
    assert rooms.dtype == np.uint8
    assert [doors_of(room) for room in rooms] == [condition.doors for condition in conditions]
    outside = frames(conditions) != UNKNOWN
    assert (rooms[outside] == frames(conditions)[outside]).all()
    assert (rooms == sampler.sample(conditions, 3)).all()
    assert (rooms != sampler.sample(conditions, 4)).any()
    assert sampler.sample([], 3).shape == (0, 16, 11)


def test_the_condition_reaches_every_tile(network: masked.MaskedDenoiser) -> None:
    for parameter in network.parameters():  # blocks begin as the identity, which no condition changes
        nn.init.normal_(parameter, std=0.3)
    tiles = torch.full((1, 12, 7), UNKNOWN)
    one, other = (torch.from_numpy(encode([RoomCondition(frozenset(doors))])) for doors in ("N", "S"))
    with torch.no_grad():
        assert (network(tiles, one) != network(tiles, other)).any(-1).all()


def test_a_tile_is_restored_after_training() -> None:
    """Rooms of rows that are all block or all floor: what is masked follows from what is seen."""
    torch.manual_seed(0)
    network = masked.MaskedDenoiser(16, 1, dropout=0.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    condition = torch.zeros(32, ENCODED)
    for _ in range(100):
        tiles = torch.where(torch.rand(32, 12, 1) < 0.5, BLOCK, FLOOR).expand(-1, -1, 7)
        given = masked.mask(tiles, torch.randint(0, masked.CELLS, (32,)), torch.rand(32, masked.CELLS))
        loss = masked.masked_loss(network(given, condition), tiles, given).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    rooms = RoomSampler(network.eval()).sample([RoomCondition()] * 20, 0)[:, *INSIDE]
    rows = (rooms == rooms[:, :, :1]).all(-1)
    assert np.isin(rooms, (FLOOR, BLOCK)).mean() > 0.99  # without learning: 0.2
    assert rows.mean() > 0.8  # without learning: 2 % of the rows
    assert len(np.unique(rooms.reshape(20, -1), axis=0)) == 20


class Faulty:
    """Draws a wall within the second half of the rooms for some calls, and keeps the calls."""

    def __init__(self, good_after: int) -> None:
        self.calls: list[tuple[list[RoomCondition], int]] = []
        self._good_after = good_after

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> NDArray[np.uint8]:
        self.calls.append((list(conditions), seed))
        rooms = PatternSampler().sample(conditions, seed)
        if len(self.calls) <= self._good_after:
            rooms[len(rooms) // 2 :, 8, 5] = WALL
        return rooms


ASKED = [RoomCondition(frozenset("NS"), stairs=number == 3) for number in range(4)]


def test_rooms_that_are_not_valid_are_drawn_again_with_other_seeds() -> None:
    faulty = Faulty(good_after=2)
    again = RedrawingSampler(faulty, redraws=4)
    rooms = again.sample(ASKED, 7)
    assert all(fulfils(room, asked) for room, asked in zip(rooms, ASKED, strict=True))
    # In the second call, one of the two rooms is wrong again.
    assert [call[0] for call in faulty.calls] == [ASKED, ASKED[2:], ASKED[3:]]
    assert [call[1] for call in faulty.calls] == [7, sample_seed(7, 0), sample_seed(7, 1)]
    assert again.drawn == 7
    assert (rooms[:2] == PatternSampler().sample(ASKED, 7)[:2]).all()


@pytest.mark.parametrize("redraws", [0, 2])
def test_the_last_redraw_is_taken_as_it_is(redraws: int) -> None:
    faulty = Faulty(good_after=99)
    rooms = RedrawingSampler(faulty, redraws).sample(ASKED[:2], 7)
    assert len(faulty.calls) == 1 + redraws
    assert [fulfils(room, ASKED[0]) for room in rooms] == [True, False]


def test_a_room_that_is_known_is_drawn_again_itself_and_mirrored() -> None:
    first = PatternSampler().sample(ASKED, 7)
    known = [room_digest(first[1]), room_digest(first[2, :, ::-1])]
    again = RedrawingSampler(PatternSampler(), 1, known)
    rooms = again.sample(ASKED, 7)
    assert (rooms[[0, 3]] == first[[0, 3]]).all()
    assert again.drawn == 6
    assert (rooms[[1, 2]] == PatternSampler().sample(ASKED[1:3], sample_seed(7, 0))).all()
    assert (rooms[[1, 2]] != first[[1, 2]]).any((1, 2)).all()


def test_a_stair_that_is_missing_or_not_asked_for_is_drawn_again() -> None:
    without, wanted = RoomCondition(frozenset("N")), RoomCondition(frozenset("N"), stairs=True)
    plain = frames([without])[0]
    plain[INSIDE] = FLOOR
    stair = plain.copy()
    stair[8, 5] = STAIR
    assert has_stairs(stair)
    assert (fulfils(plain, without), fulfils(stair, wanted)) == (True, True)
    assert (fulfils(plain, wanted), fulfils(stair, without)) == (False, False)
    cut = plain.copy()
    cut[8, 2:9] = ELEMENT
    assert fulfils(cut, without)  # the ladder crosses water
