"""The training of signs.

The epoch is chosen by the validation clips. The test is read once, at the end, with the averaged weights of the last
step and with those that were best on validation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import outlast
from outlast import Run
from outlast_recipes.common.complexity import parameters
from outlast_recipes.common.finite import Finite
from outlast_recipes.common.selection import BestByValidation
from outlast_recipes.common.training import (
    device_of,
    few_steps,
    half_precision,
    has_bfloat16,
    keep_freed_memory,
    update_average,
    warmup_cosine,
)
from outlast_recipes.sign import outputs
from outlast_recipes.sign.batch import Batch, SignData
from outlast_recipes.sign.build import build, optimizer_of
from outlast_recipes.sign.commands import COMMANDS
from outlast_recipes.sign.config import Monitor, SignConfig
from outlast_recipes.sign.data import load_data
from outlast_recipes.sign.evaluation import metrics, outputs_of
from outlast_recipes.sign.export import EXPORTS
from outlast_recipes.sign.loading import idle_options
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.plateau import Plateau
from outlast_recipes.sign.saved import Labels

SMOKE_EPOCHS = 2
MODES: dict[Monitor, Literal["max", "min"]] = {"val_gloss_top1": "max", "val_loss": "min"}
"""Whether a larger value of a monitored metric is better."""
_NOTHING = "smoke test on generated clips; its results mean nothing"

Build = Callable[[SignConfig, SignData], SignNetwork]


def of_config(config: SignConfig, data: SignData) -> SignNetwork:
    """The network that a config describes, for the labels of these data."""
    return build(config.network, data.category_of, len(data.categories))


def train(run: Run, config: SignConfig, build: Build = of_config) -> None:
    outlast.seed_everything(config.seed)
    device = device_of(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    data = load_data(config, run=run)
    check_config(config, data)
    network = build(config, data).to(device)
    ema = copy.deepcopy(network).eval()
    mode = MODES[config.monitor]
    best, plateau = BestByValidation(ema, mode), Plateau(mode)
    optimizer = optimizer_of(config, network)
    narrow = device.type == "cuda" or has_bfloat16(device)
    half, scaler = half_precision(device, wanted=config.mixed_precision)
    precision = torch.autocast(device.type, half, enabled=config.mixed_precision and narrow)
    finite = Finite(network, scaled=scaler.is_enabled())
    run.track(
        keep={"optimizer": ["lr", "weight_decay"]},  # the values of this attempt; the rate is set in every step
        model=network,
        ema=ema,
        best=best.weights,
        choice=best,
        plateau=plateau,
        labels=Labels.of(data),
        optimizer=optimizer,
        scaler=scaler,
        data=data.loader,
    )
    tell_about(run, config, data, device)
    epochs = _epochs(config, data)
    if plateau.is_over(config.early_stop):  # the attempt before ended while it was ending the run
        epochs = min(epochs, plateau.epoch)

    for batch in run.batches(data.loader, epochs=epochs):
        epoch = run.epoch or 1
        network.train()
        view = data.view(batch, epoch, device)
        losses = add_gradients(network, view, config, scaler, precision)
        scaler.unscale_(optimizer)
        if config.grad_clip:
            nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        rate = config.learning_rate * rate_at(config, run.step, run.total_steps or 1, plateau.halvings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        finite.check(run.step, losses)
        update_average(ema, network, config.ema, run.step)
        if run.epoch_end or run.step % (1 if config.debug else config.log_every) == 0:
            _log(run, data, **losses, lr=rate)
        if run.epoch_end and len(data.parts["val"]):
            found = metrics(outputs_of(ema, data.parts["val"], device), "val_")
            _log(run, data, **found)
            best.update(epoch, found[config.monitor], ema)
            patience = config.scheduler_patience if config.scheduler == "plateau" else None
            plateau.update(epoch, found[config.monitor], patience)
            if plateau.is_over(config.early_stop) and epoch < epochs:
                run.tell(
                    f"No better validation for {config.early_stop} epochs (--early-stop): the run ends after epoch "
                    f"{epoch}; epoch {plateau.best_epoch} was the best with {config.monitor} {plateau.best:.4f}."
                )
                break

    log_test(run, data, ema, best, device)
    outputs.write(run, ema, best, generated=data.generated)


def add_gradients(
    network: SignNetwork,
    batch: Batch,
    config: SignConfig,
    scaler: torch.amp.GradScaler,
    precision: AbstractContextManager[Any],
) -> dict[str, Tensor]:
    """Add the gradients of a batch's mean loss to those of the parameters; returns `losses_of` the batch.

    On a CPU a batch is computed in pieces (`frames_at_once`).
    """
    whole = batch.lengths.device.type != "cpu" or not network.in_pieces or not config.frames_at_once
    losses: dict[str, Tensor] = {}
    for piece in [batch] if whole else batch.pieces(config.frames_at_once):
        share = len(piece) / len(batch)
        with precision:
            found = losses_of(network(*piece.inputs), piece, config)
        scaler.scale(share * found["loss"]).backward()
        for name, value in found.items():
            losses[name] = losses.get(name, 0) + share * value.detach()
    return losses


def losses_of(logits: tuple[Tensor, Tensor], batch: Batch, config: SignConfig) -> dict[str, Tensor]:
    """The loss of a batch, and its two parts before they are weighted."""
    gloss = F.cross_entropy(logits[0], batch.gloss, label_smoothing=config.label_smoothing)
    category = F.cross_entropy(logits[1], batch.category)
    return {
        "loss": config.alpha * gloss + config.beta * category,
        "gloss_loss": gloss,
        "category_loss": category,
    }


def rate_at(config: SignConfig, step: int, total: int, halvings: int) -> float:
    """The learning rate of a step, as a share of the peak.

    Args:
        config: the values of the run.
        step: from 1.
        total: number of steps.
        halvings: because of plateaus.
    """
    if config.scheduler == "cosine":
        return warmup_cosine(step, total, config.warmup)
    share = min(1.0, step / max(1, round(total * config.warmup)))
    return share * 0.5**halvings if config.scheduler == "plateau" else share


def _epochs(config: SignConfig, data: SignData) -> int:
    """Passes over the data."""
    return min(config.epochs, SMOKE_EPOCHS) if data.generated else config.epochs


def check_config(config: SignConfig, data: SignData) -> None:
    """Refuse values that the data, or a training, cannot use; raises outlast.ConfigError."""
    if config.network.pretrained_backbone:
        raise outlast.ConfigError(
            "--pretrained-backbone is given, and a training reads image features; there is no backbone in it. Give "
            "--no-pretrained-backbone, and make the features with: outlast data prepare sign"
        )
    for flag, needed in (
        ("--scheduler plateau", config.scheduler == "plateau"),
        ("--early-stop", config.early_stop is not None),
    ):
        if needed and not len(data.parts["val"]):
            raise outlast.ConfigError(f"{flag} needs validation clips, and there are none.")


def tell_about(run: Run, config: SignConfig, data: SignData, device: torch.device) -> None:
    """Few steps, options without effect, generated data, where there are some."""
    sentences = idle_options(config, device)
    epochs = _epochs(config, data)
    if few := few_steps(len(data.parts["train"]), config.batch_size, len(data.loader), epochs):
        sentences.append(few)
    if epochs < config.epochs:
        sentences.append(f"--smoke-test trains {epochs} epochs, not {config.epochs}.")
    if data.generated:
        sentences = [_NOTHING, *(f"{sentence} ({_NOTHING})" for sentence in sentences)]
    for sentence in sentences:
        run.tell(sentence)


def log_test(run: Run, data: SignData, ema: SignNetwork, best: BestByValidation, device: torch.device) -> None:
    """Metrics of the test clips, with the last averaged weights and those that were best on validation.

    The test is read once, by a finished run, and nothing is chosen by it.
    """
    test = data.parts["test"]
    if not len(test):
        run.tell(_NOTHING if data.generated else "There are no test clips, so no test result is reported.")
        return
    reached: dict[str, Any] = metrics(outputs_of(ema, test, device), "test_")
    if best.epoch:
        reached |= {"best_epoch": best.epoch}
        reached |= metrics(outputs_of(best.weights, test, device), "best_test_")
    _log(run, data, **reached)


def _log(run: Run, data: SignData, **values: Any) -> None:
    """A line of metrics; that of a smoke test says so."""
    run.log(**values, **({"smoke_test": 1} if data.generated else {}))


def check(config: Any) -> str:
    device_of(config.device)
    data = load_data(config)
    check_config(config, data)
    sizes = ", ".join(f"{len(clips)} {name}" for name, clips in data.parts.items())
    network = of_config(config, data)
    steps = math.ceil(len(data.parts["train"]) / config.batch_size)
    few = few_steps(len(data.parts["train"]), config.batch_size, steps, _epochs(config, data))
    made = f"{_NOTHING}; " if data.generated else ""
    return (
        f"{made}{sizes} clips of {len(data.glosses)} glosses in {len(data.categories)} categories; "
        f"{type(network).__name__}, {parameters(network):,} parameters{'; ' + few if few else ''}"
    )


commands, exports = COMMANDS, EXPORTS
