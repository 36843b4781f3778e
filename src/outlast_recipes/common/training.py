"""Shared code of PyTorch recipes: device, learning rate schedule, averaged weights, and half precision."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import nn

import outlast


def device_of(name: str) -> torch.device:
    """The device of a config's `device`; "auto" and "cuda" are this rank's GPU.

    Raises:
        outlast.ConfigError: torch has no such device here.
    """
    gpus = torch.cuda.device_count()
    own = f"cuda:{torch.cuda.current_device()}" if gpus else "cpu"
    names = ["cpu", *(f"cuda:{number}" for number in range(gpus))]
    chosen = own if name == "auto" or (name == "cuda" and gpus) else name
    if chosen not in names:
        raise outlast.ConfigError(
            f"--device is {name!r}; torch can use {', '.join(names)} on this machine. Give one of these, or auto."
        )
    return torch.device(chosen)


def loader_options(config: outlast.SupervisedConfig) -> dict[str, Any]:
    """The options of `outlast.DataLoader` that a config asks for.

    Memory is pinned for a GPU only, and processes that load data stay only where there are some.
    """
    options: dict[str, Any] = {"num_workers": config.num_workers}
    if config.pin_memory and device_of(config.device).type == "cuda":
        options["pin_memory"] = True
    if config.persistent_workers and config.num_workers:
        options["persistent_workers"] = True
    return options


def few_steps(samples: int, batch_size: int, steps: int, epochs: int) -> str:
    """A sentence when an epoch has so few steps that little is learnt in the usual number of them; else empty.

    Args:
        samples: to train on.
        batch_size: of a step.
        steps: of an epoch.
        epochs: in all.
    """
    if steps >= _FEW:
        return ""
    better = 2 ** max(1, int(math.log2(max(2, samples / _FEW))) - 1)
    left = samples - steps * batch_size
    without = f", and each epoch leaves {left} out" if left > 0 else ""
    return (
        f"{samples} samples in batches of {batch_size} make {steps} {'step' if steps == 1 else 'steps'} an epoch, "
        f"{steps * epochs} in all{without}. "
        f"--batch-size {better} makes {samples // better} an epoch."
    )


_FEW = 4  # steps of an epoch


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, for a training on the CPU; does nothing where the C library is not
    glibc.

    glibc gives every freed block of more than 32 MB back to the system, and the kernel has to clear its pages again for
    the next: with batches of 64 clips that was half of the time of a step (docs/log.md). What one thread frees, another
    may have: each with memory of its own kept a third more. Sizes and speed change, values do not. mallopt(3).
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, -1)
        library.mallopt(_M_ARENA_MAX, 1)


_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Share of the peak at a step: up in a line for a share of all steps, then a cosine to zero.

    A function of the step and the config alone, so that a resume with another --lr uses it.
    """
    warm = max(1, round(total * warmup))
    after = (step - warm) / max(1, total - warm)
    return step / warm if step <= warm else 0.5 + 0.5 * math.cos(math.pi * after)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Forgets faster while it is young, so that a short run is not averaged with its random start."""
    share = 1 - min(decay, step / (step + 9))
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, share)
        else:
            old.copy_(new)


def half_precision(device: torch.device, *, wanted: bool) -> tuple[torch.dtype, torch.amp.GradScaler]:
    """bfloat16 where the device computes in it, else float16 with the loss scaling that it needs."""
    narrow = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    half = torch.float16 if narrow else torch.bfloat16
    return half, torch.amp.GradScaler(device.type, enabled=wanted and half == torch.float16)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices in bfloat16 faster than in float32: every GPU with it, and CPUs with AMX, or
    with AVX512-BF16 that are not Intel's, as far as torch says (2.10 and later).

    Intel's AVX512-BF16 without AMX reached 69 GFLOPS in bfloat16 where float32 reached 88 (Xeon, torch 2.13).
    """
    if device.type != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if found.get("amx_bf16"):
        return True
    return bool(found.get("avx512_bf16")) and "intel" not in str(found.get("cpu_name", "")).lower()
