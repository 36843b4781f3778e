"""The hardware and software of PyTorch: versions, devices, kernels, and pinned memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch


def software() -> dict[str, Any]:
    """The facts on which the last bits of torch's results depend: version, device, threads, kernels."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    facts = {"torch": torch.__version__, "torch device": device, "torch threads": torch.get_num_threads()}
    if torch.get_default_dtype() != torch.float32:
        facts["torch default dtype"] = str(torch.get_default_dtype()).removeprefix("torch.")
    if torch.get_float32_matmul_precision() != "highest":
        facts["torch matmul precision"] = torch.get_float32_matmul_precision()
    if device == "cpu":
        facts["torch cpu kernels"] = torch.backends.cpu.get_cpu_capability()
    else:
        facts["cuda"] = torch.version.cuda
    return facts


def use_deterministic_kernels() -> None:
    """Make torch use deterministic kernels. An operation without one raises when it is used."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False


def bound_memory(nbytes: int) -> None:
    """Let torch allocate no more than so many bytes of each GPU; beyond it raises torch.OutOfMemoryError."""
    for device in range(torch.cuda.device_count()):
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, nbytes / total), device)


def wait() -> None:
    """Wait until all GPUs have computed what was asked of them."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)


def device_peaks() -> dict[str, int]:
    """Most bytes that torch has reserved on each GPU. The driver's own context, some 100s of MB, is not in them."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return {}
    return {
        f"cuda:{device} {torch.cuda.get_device_name(device)}": torch.cuda.max_memory_reserved(device)
        for device in range(torch.cuda.device_count())
    }


def pin(memory: memoryview) -> Callable[[], None] | None:
    """Page-lock memory for copies by a GPU. Returns a function that unlocks it; None if no GPU is used."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    address = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
    runtime = torch.cuda.cudart()
    if int(runtime.cudaHostRegister(address, len(memory), 0)):
        return None  # copies are slower then, and still correct
    return lambda: runtime.cudaHostUnregister(address)
