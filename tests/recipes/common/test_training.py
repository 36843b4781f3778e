"""What recipes in torch share."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from outlast_recipes.common.training import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)
for _ in range(10):
    torch.ones(16_000_000)  # 64 MB; the first ones have to come from the system
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_tensor_memory_is_reused() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "leave")
    }
    assert faults["leave"] >= 300  # 10 x 64 MB in the largest pages that the kernel gives, 2 MB
    assert faults["keep"] < faults["leave"] / 10


@pytest.mark.parametrize(
    ("values", "gpus", "options"),
    [
        ({}, 1, {"num_workers": 0}),
        ({"pin_memory": True}, 1, {"num_workers": 0, "pin_memory": True}),
        ({"pin_memory": True}, 0, {"num_workers": 0}),
        ({"pin_memory": True, "device": "cpu"}, 1, {"num_workers": 0}),
        ({"persistent_workers": True, "num_workers": 2}, 0, {"num_workers": 2, "persistent_workers": True}),
        ({"persistent_workers": True}, 0, {"num_workers": 0}),
    ],
)
def test_the_options_of_a_loader(monkeypatch: pytest.MonkeyPatch, values: dict, gpus: int, options: dict) -> None:
    import torch

    import outlast
    from outlast_recipes.common.training import loader_options

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert loader_options(outlast.SupervisedConfig(**values)) == options
