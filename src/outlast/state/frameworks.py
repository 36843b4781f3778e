"""What is asked of all frameworks that the program has imported: their devices, kernels and versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.state import adapters, rng


def bound_memory(nbytes: int) -> None:
    """Let every framework that can do so allocate no more than so many bytes of each GPU."""
    for adapter in adapters.loaded():
        adapter.bound_memory(nbytes)


def wait_for_devices() -> None:
    """Wait until the loaded frameworks have computed all that was asked for."""
    for adapter in adapters.loaded():
        adapter.wait()


def device_peaks() -> dict[str, int]:
    """Device with its framework -> most bytes that the framework has held there; without what it cannot tell."""
    return {
        f"{device} ({adapter.name})": nbytes
        for adapter in adapters.loaded()
        for device, nbytes in adapter.device_peaks().items()
    }


def use_deterministic_kernels() -> None:
    """Make the loaded frameworks use deterministic kernels."""
    for adapter in adapters.loaded():
        adapter.use_deterministic_kernels()


def software() -> dict[str, Any]:
    """Versions and devices of the loaded frameworks. The last bits of a result depend on them."""
    import platform

    facts: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    if (seed := rng.seeded()) is not None:
        facts["seed"] = seed
    return facts | adapters.software()


def uses_gpu(facts: Mapping[str, Any]) -> bool:
    """Whether one of the devices in a result of `software` is not a CPU."""
    return any(name.endswith(" device") and not str(value).startswith("cpu") for name, value in facts.items())
