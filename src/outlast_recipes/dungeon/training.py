"""The trainings of dungeon: a VQ-VAE of rooms, a diffusion of its latents, and both together; or a masked diffusion."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import outlast
from outlast import Run
from outlast_recipes.common.complexity import parameters
from outlast_recipes.common.finite import Finite
from outlast_recipes.common.optimizers import AdamW
from outlast_recipes.common.training import (
    device_of,
    few_steps,
    half_precision,
    keep_freed_memory,
    loader_options,
    warmup_cosine,
)
from outlast_recipes.dungeon import outputs, validation
from outlast_recipes.dungeon.commands import COMMANDS
from outlast_recipes.dungeon.conditions import OWN
from outlast_recipes.dungeon.config import Config
from outlast_recipes.dungeon.latent import joint_loss
from outlast_recipes.dungeon.networks import autoencoder_of, generator_of, masked_of
from outlast_recipes.dungeon.room_data import RoomData, load_rooms, without

Losses = tuple[Tensor, Mapping[str, Tensor]]
Inputs = Mapping[str, Any]
Networks = TypeVar("Networks", bound=nn.Module)
_JOINT = 0.1
"""Peak learning rate of the joint stage, as a share of that of the others: both networks are trained already."""


def train_vqvae(run: Run, config: Config, _inputs: Inputs) -> None:
    """Rooms to codes and back."""
    data, device = _begin(run, config)
    network = autoencoder_of(config).to(device)
    trained = _fit(run, config, config.vq, data, network, network.loss, validation.of_tiles)
    outputs.write_reconstructions(run, trained, data)


def train_diffusion(run: Run, config: Config, inputs: Inputs) -> None:
    """The latents of rooms. The autoencoder is that of the stage before, and stays as it is."""
    data, device = _begin(run, config, inputs["vqvae"])
    network = generator_of(config)
    inputs["vqvae"].load_into(network.autoencoder)
    network.autoencoder.requires_grad_(requires_grad=False)
    network.to(device).denoiser.fit(network.latents(*(tensor.to(device) for tensor in data.train.tensors)))

    def loss(rooms: Tensor, asked: Tensor) -> Losses:
        return network.denoiser.loss(network.latents(rooms, asked), asked), {}

    trained = _fit(run, config, config.diffusion, data, network, loss, validation.of_latents)
    outputs.write_samples(run, trained, data, config)


def train_joint(run: Run, config: Config, inputs: Inputs) -> None:
    """Both together: the decoder learns what the denoiser gives it."""
    data, device = _begin(run, config, inputs["diffusion"])
    network = generator_of(config)
    inputs["diffusion"].load_into(network)
    network.to(device)

    def loss(rooms: Tensor, asked: Tensor) -> Losses:
        return joint_loss(network.autoencoder, network.denoiser, rooms, asked)

    trained = _fit(run, config, config.joint, data, network, loss, validation.of_both, share=_JOINT)
    outputs.write_samples(run, trained, data, config)


def train_masked(run: Run, config: Config, _inputs: Inputs) -> None:
    """Masked tiles, from the others."""
    data, device = _begin(run, config)
    network = masked_of(config).to(device)

    def loss(rooms: Tensor, asked: Tensor) -> Losses:
        asked = without(asked, slice(None), config.condition_dropout)
        return validation.masked_loss_of(network, rooms, asked), {}

    trained = _fit(run, config, config.masked, data, network, loss, validation.of_masked)
    outputs.write_samples(run, trained, data, config)


def _begin(run: Run, config: Config, before: Any = None) -> tuple[RoomData, torch.device]:
    """The rooms of a stage, which are those of the stage before it, and the device."""
    if not config.auto_resume and any((run.folder / "checkpoints").glob("step-*")):
        raise outlast.ConfigError(
            f"{run.folder} has checkpoints, and auto_resume is off. Leave it on to continue the run, or give another "
            "--experiment-name to begin a new one."
        )
    outlast.seed_everything(config.seed)
    device = device_of(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    data = load_rooms(config)
    if before and (known := before.part("facts")["rooms"]) != data.facts.rooms:
        raise outlast.DataError(
            f"{before.run_id} was trained on other rooms ({known}) than {run.id} is asked to ({data.facts.rooms}): "
            "rooms of its training may be in the test of this one. Leave out --data, --held-out, --validation and "
            f"--debug to have those of {before.run_id}, or begin a new chain under another --experiment-name."
        )
    if data.facts.synthetic:
        run.tell("The corpus is synthetic: rooms that a grammar made. --data FOLDER names one of a game.")
    return data, device


def _fit(
    run: Run,
    config: Config,
    values: Any,
    data: RoomData,
    network: Networks,
    loss_of: Callable[[Tensor, Tensor], Losses],
    validate: Callable[[Networks, Tensor, Tensor], Mapping[str, Any]],
    share: float = 1.0,
) -> Networks:
    """Train a network, and return its averaged weights.

    Args:
        run, config: of the stage.
        values: the section of the stage, with `epochs` and `learning_rate`.
        data: the rooms.
        network: on its device.
        loss_of: loss and figures of rooms (N, 16, 11) and conditions (N, ENCODED).
        validate: metrics of a network on the validation rooms; `val_loss` chooses the best checkpoint.
        share: peak learning rate, as a share of the config's, if the stage has none of its own.
    """
    device = next(network.parameters()).device
    ema = copy.deepcopy(network).eval()
    epochs = values.epochs or config.epochs
    peak = config.learning_rate * share if values.learning_rate is None else values.learning_rate
    optimizer = AdamW(_groups(network, config.weight_decay), lr=peak)
    half, scaler = half_precision(device, wanted=config.mixed_precision)
    finite = Finite(network, scaled=scaler.is_enabled())
    size = min(config.batch_size, len(data.train))
    loader = outlast.DataLoader(data.train, size, seed=config.seed, drop_last=True, **loader_options(config))
    keep = {"optimizer": ["lr", "weight_decay"]}  # the values of this attempt; the rate is set in every step
    run.track(keep=keep, model=network, ema=ema, optimizer=optimizer, scaler=scaler, data=loader, facts=data.facts)
    if few := few_steps(len(data.train), size, len(loader), epochs):
        run.tell(few)
    seen = [tensor.to(device) for tensor in data.validation.tensors]

    for rooms, asked in run.batches(loader, epochs=epochs):
        network.train()
        asked = without(asked, slice(OWN, None), config.neighbour_dropout)
        with torch.autocast(device.type, half, enabled=config.mixed_precision):
            loss, figures = loss_of(rooms.to(device), asked.to(device))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = peak * warmup_cosine(run.step, run.total_steps or 1, config.warmup)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        finite.check(run.step, {"loss": loss})
        _update(ema, network, config.ema, run.step)
        if run.step % (1 if config.debug else config.log_every) == 0:
            run.log(loss=loss, lr=optimizer.param_groups[0]["lr"], **figures)
        if run.epoch_end and ((run.epoch or 0) % config.val_every == 0 or run.epoch == epochs):
            with torch.no_grad():
                run.log(**validate(ema, *seen))
    return ema


@torch.no_grad()
def _update(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Average the weights, and copy all else: a codebook follows averages already. Faster while it is young."""
    share = 1 - min(decay, step / (step + 9))
    for old, new in zip(average.parameters(), network.parameters(), strict=True):
        old.lerp_(new, share)
    for old, new in zip(average.buffers(), network.buffers(), strict=True):
        old.copy_(new)


def _groups(network: nn.Module, decay: float) -> Iterator[dict[str, Any]]:
    """What is trained, with weight decay for matrices only."""
    trained = [each for each in network.parameters() if each.requires_grad]
    yield {"params": [each for each in trained if each.ndim > 1], "weight_decay": decay}
    yield {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0}


def check(config: Any) -> str:
    device_of(config.device)
    data = load_rooms(config)
    masked = config.generator == "masked"
    network = masked_of(config) if masked else generator_of(config)
    words = "masked diffusion" if masked else "VQ-VAE and latent diffusion"
    corpus = "a synthetic corpus (a grammar made it)" if data.facts.synthetic else data.name
    return (
        f"{corpus}: {len(data.known)} different rooms for training and their mirror images, "
        f"{len(data.validation) // 4} for validation (dungeons {', '.join(config.validation)}), {len(data.asked)} for "
        f"the test (dungeons {', '.join(config.held_out)}); {words}, {parameters(network):,} parameters"
    )


commands = COMMANDS
