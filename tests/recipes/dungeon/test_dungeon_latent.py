"""Latent diffusion: identities against plain arithmetic, guidance, seeds, and what a sampler clamps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outlast_recipes.dungeon.conditions import ENCODED, INSIDE, UNKNOWN, RoomCondition, encode, frames
from outlast_recipes.dungeon.latent import LatentConfig, LatentDenoiser, cosine_schedule, joint_loss
from outlast_recipes.dungeon.sampling import LatentSampler, sample_seed
from outlast_recipes.dungeon.tiles import DOOR, WALL, doors_of
from outlast_recipes.dungeon.vqvae import RoomAutoencoder, VQConfig

SMALL = LatentConfig(latent_dim=4, embedding_dim=16, width=16, layers=2, heads=2, dropout=0.0)
ASKED = [RoomCondition(frozenset("N")), RoomCondition(frozenset("EW"), stairs=True), RoomCondition()]


def awake(model: nn.Module) -> nn.Module:
    """With numbers in place of the zeros that it begins with."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model


@pytest.fixture
def denoiser() -> LatentDenoiser:
    torch.manual_seed(0)
    return awake(LatentDenoiser(SMALL)).eval()


@pytest.fixture
def asked() -> Tensor:
    return torch.from_numpy(encode(ASKED))


class Knows(LatentDenoiser):
    """Always predicts the v that leads to `clean`; keeps what it was given."""

    def __init__(self, clean: Tensor, config: LatentConfig = SMALL) -> None:
        super().__init__(config)
        self.clean = clean
        self.given: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor, time: Tensor, conditions: Tensor) -> Tensor:
        self.given.append((x, time, conditions))
        signal, sigma = (table[time].view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        noise = (x - signal * self.clean) / sigma
        return signal * noise - sigma * self.clean


def test_sizes_are_those_of_a_small_corpus() -> None:
    assert sum(each.numel() for each in LatentDenoiser(LatentConfig()).parameters()) < 3_000_000


@pytest.mark.parametrize("steps", [10, 1000])
def test_the_schedule_is_a_cosine(steps: int) -> None:
    signal, noise = cosine_schedule(steps)
    assert (signal.square() + noise.square()).tolist() == pytest.approx([1] * steps, abs=1e-6)
    assert (signal.diff() < 0).all()
    for step in range(steps - 1):  # the last one is cut off, so that something of the signal is left
        at = [math.cos((place / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for place in (step + 1, 0)]
        assert signal[step].item() ** 2 == pytest.approx(at[0] / at[1], abs=1e-6)
    assert 0 < signal[-1] < 0.1


def test_the_right_v_gives_the_latents_back_and_no_loss(asked: Tensor) -> None:
    latents = torch.randn(3, 4, 4, 3)
    model = Knows(latents)
    loss, predicted, ratio = model.denoised(latents, asked, torch.Generator().manual_seed(0))
    assert loss == pytest.approx(0, abs=1e-6)
    assert predicted.allclose(latents, atol=1e-2)  # at a signal of 0.01, rounding of 1e-7 counts hundredfold
    (x, time, _) = model.given[0]
    assert ratio.tolist() == pytest.approx([(model.signal[t] / model.noise[t]).item() ** 2 for t in time], rel=1e-5)
    assert x.shape == latents.shape


def test_the_loss_is_the_weighted_error_of_v(denoiser: LatentDenoiser, asked: Tensor) -> None:
    """Against v and the weights by their definitions, with the same draws."""
    latents = 3 + 2 * torch.randn(3, 4, 4, 3)
    denoiser.fit(latents)
    found = denoiser.loss(latents, asked, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    time = torch.randint(1000, (3,), generator=generator)
    noise = torch.randn(3, 4, 4, 3, generator=generator)
    kept = torch.rand(3, 1, generator=generator) >= 0.1
    expected = 0.0
    mean, deviation = latents.mean((0, 2, 3)), latents.movedim(1, -1).reshape(-1, 4).std(0)
    for room in range(3):
        clean = (latents[room] - mean[:, None, None]) / deviation[:, None, None]
        a, s = denoiser.signal[time[room]].double(), denoiser.noise[time[room]].double()
        v = denoiser(
            (a * clean + s * noise[room])[None].float(), time[room : room + 1], asked[room : room + 1] * kept[room]
        )
        error = (v[0] - (a * noise[room] - s * clean)).square().mean().item()
        snr = (a / s).item() ** 2
        expected += min(snr, 5.0) / (snr + 1) * error / 3
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_ddim_goes_to_what_is_always_predicted(steps: int, asked: Tensor) -> None:
    clean = torch.randn(3, 4, 4, 3)
    model = Knows(clean)
    found = model.ddim(asked, [1, 2, 3], steps)
    assert found.allclose(clean, atol=1e-3)
    times = [int(time[0]) for _, time, _ in model.given]
    assert len(times) == steps
    assert times[0] == 999
    assert times == sorted(times, reverse=True)
    noise = model.given[0][0]
    for (x, *_), time in zip(model.given, times, strict=True):  # a straight line between noise and clean, in the angle
        first = (noise - model.signal[999] * clean) / model.noise[999]
        assert x.allclose(model.signal[time] * clean + model.noise[time] * first, atol=1e-3)


def test_ddim_equals_a_plain_one(denoiser: LatentDenoiser, asked: Tensor) -> None:
    """By noise instead of v, as in the paper, with guidance."""
    with torch.no_grad():
        denoiser.mean.fill_(2.0)
        denoiser.deviation.fill_(0.5)
    found = denoiser.ddim(asked, [4, 5, 6], steps=5, guidance=2.0)
    x = torch.stack(
        [torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(seed)) for seed in (4, 5, 6)]
    ).double()
    power = denoiser.signal.double().square()
    times = [999, 749, 500, 250, 0]
    for now, after in zip(times, [*times[1:], None], strict=True):
        with torch.no_grad():
            time = torch.full((3,), now)
            told, free = (denoiser(x.float(), time, each).double() for each in (asked, 0 * asked))
        v = free + 2.0 * (told - free)
        noise = power[now].sqrt() * v + (1 - power[now]).sqrt() * x
        clean = (x - (1 - power[now]).sqrt() * noise) / power[now].sqrt()
        kept = power[after] if after is not None else torch.tensor(1.0)
        x = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    assert found.allclose((2.0 + 0.5 * x).float(), atol=2e-3)


def test_guidance_of_one_is_the_condition_alone(denoiser: LatentDenoiser, asked: Tensor) -> None:
    model = Knows(torch.zeros(3, 4, 4, 3))
    model.ddim(asked, [0, 1, 2], steps=3)
    assert [given[2].equal(asked) for given in model.given] == [True] * 3
    plain, nearly, far = (denoiser.ddim(asked, [0, 1, 2], 4, guidance) for guidance in (1.0, 1 + 1e-6, 3.0))
    assert plain.allclose(nearly, atol=1e-3)
    assert not plain.allclose(far, atol=1e-2)


def test_a_sample_depends_on_its_own_seed_and_condition_alone(denoiser: LatentDenoiser, asked: Tensor) -> None:
    together = denoiser.ddim(asked, [7, 8, 9], 4)
    for place, seed in enumerate([7, 8, 9]):
        alone = denoiser.ddim(asked[place : place + 1], [seed], 4)[0]
        assert alone.allclose(together[place], atol=1e-4)
    assert not denoiser.ddim(asked, [7, 8, 10], 4)[2].allclose(together[2], atol=1e-2)
    assert len({sample_seed(seed, number) for seed in range(20) for number in range(20)}) == 400


def test_a_share_of_the_conditions_is_left_out() -> None:
    model = Knows(torch.zeros(1), LatentConfig(latent_dim=1, grid=(1, 1), embedding_dim=4, width=4, heads=1, layers=1))
    model.loss(torch.zeros(2000, 1, 1, 1), torch.ones(2000, ENCODED), torch.Generator().manual_seed(0))
    kept = model.given[0][2]
    assert ((kept == 0).all(1) | (kept == 1).all(1)).all()
    assert 0.07 < (kept[:, 0] == 0).float().mean() < 0.13
    assert model.given[0][1].unique().numel() > 800, "each room has its own step"


def test_gradients_reach_every_parameter(denoiser: LatentDenoiser, asked: Tensor) -> None:
    denoiser.loss(torch.randn(3, 4, 4, 3), asked, torch.Generator().manual_seed(0)).backward()
    assert [name for name, each in denoiser.named_parameters() if each.grad is None or not each.grad.any()] == []


def test_latents_are_standardised_and_come_back() -> None:
    torch.manual_seed(0)
    latents = torch.tensor([5.0, 0, 0, -3]).view(1, 4, 1, 1) + torch.tensor([10, 1, 1e-9, 2]).view(
        1, 4, 1, 1
    ) * torch.randn(50, 4, 4, 3)
    model = Knows(torch.zeros(1))
    model.fit(latents)
    assert model.deviation.tolist() == pytest.approx([10, 1, 0.0325, 2], rel=0.1), "the third one hardly varies"
    model.denoised(latents, torch.zeros(50, ENCODED), torch.Generator().manual_seed(0))
    assert model.given[0][0].movedim(1, -1).reshape(-1, 4)[:, [0, 1, 3]].std(0).tolist() == pytest.approx(
        [1] * 3, abs=0.1
    )


def test_a_network_learns_what_depends_on_the_condition() -> None:
    torch.manual_seed(0)
    model = LatentDenoiser(LatentConfig(latent_dim=2, grid=(2, 1), embedding_dim=16, width=16, layers=1, heads=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    conditions = torch.zeros(64, ENCODED)
    conditions[::2, 3] = 1
    latents = (2 * conditions[:, 3] - 1).view(-1, 1, 1, 1).expand(-1, 2, 2, 1)
    model.fit(latents)
    for _ in range(60):
        loss = model.loss(latents, conditions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    found = model.ddim(conditions[:20], list(range(20)), 10).mean((1, 2, 3))
    assert (found[::2] > 0.5).all()
    assert (found[1::2] < -0.5).all()


@pytest.fixture(scope="module")
def models() -> tuple[RoomAutoencoder, LatentDenoiser]:
    torch.manual_seed(0)
    autoencoder = RoomAutoencoder(VQConfig(width=16, latent_dim=4, num_embeddings=32))
    return autoencoder, awake(LatentDenoiser(SMALL))


def test_the_joint_loss_trains_both(models: tuple[RoomAutoencoder, LatentDenoiser], asked: Tensor) -> None:
    autoencoder, denoiser = models
    rooms = torch.randint(0, 3, (3, 16, 11))
    loss, figures = joint_loss(autoencoder, denoiser, rooms, asked, torch.Generator().manual_seed(0))
    loss.backward()
    for model in models:
        assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []
        model.zero_grad()
    assert {"diffusion", "tiles", "reconstruction", "perplexity"} <= set(figures)
    assert loss.item() == pytest.approx(
        float(figures["reconstruction"] + 0.25 * figures["commitment"] + figures["diffusion"] + figures["tiles"]),
        rel=1e-4,
    )


def test_rooms_have_the_asked_doors_and_do_not_depend_on_their_batch(
    models: tuple[RoomAutoencoder, LatentDenoiser],
) -> None:
    sampler = LatentSampler(*(model.eval() for model in models), steps=3)
    conditions = ASKED * 3
    rooms = sampler.sample(conditions, 3)
    assert rooms.shape == (9, 16, 11)
    assert rooms.dtype == np.uint8
    assert [doors_of(room) for room in rooms] == [condition.doors for condition in conditions]
    outside = frames(conditions) != UNKNOWN
    assert (rooms[outside] == frames(conditions)[outside]).all()
    assert not np.isin(rooms[:, *INSIDE], (WALL, DOOR)).any()
    assert (rooms == sampler.sample(conditions, 3)).all()
    assert (rooms != sampler.sample(conditions, 4)).any()
    assert (rooms[:4] == sampler.sample(conditions[:4], 3)).all()
    assert (rooms == LatentSampler(*models, steps=3, at_once=2).sample(conditions, 3)).all()
    assert len({rooms[place].tobytes() for place in (0, 3, 6)}) > 1, "equal conditions, different seeds"
    assert sampler.sample([], 3).shape == (0, 16, 11)
