"""Options of the processes that load data."""

from __future__ import annotations

from typing import Any

import torch

from outlast_recipes.common import training as common
from outlast_recipes.sign.config import SignConfig


def loader_options(config: SignConfig) -> dict[str, Any]:
    """The options of `outlast.DataLoader` that a config asks for.

    Memory is pinned for a GPU only, and batches are loaded ahead by other processes only; see `idle_options`.
    """
    options = common.loader_options(config)
    if config.prefetch_factor is not None and config.num_workers:
        options["prefetch_factor"] = config.prefetch_factor
    return options


def idle_options(config: SignConfig, device: torch.device) -> list[str]:
    """A sentence for each option that does nothing in this session."""
    sentences = []
    if config.pin_memory and device.type != "cuda":
        sentences.append("--pin-memory has no effect: batches are not copied to a GPU.")
    if config.prefetch_factor is not None and not config.num_workers:
        sentences.append("--prefetch-factor has no effect without --num-workers.")
    if config.mixed_precision and device.type != "cuda" and not common.has_bfloat16(device):
        sentences.append("--amp has no effect: this device trains in float32.")
    return sentences
