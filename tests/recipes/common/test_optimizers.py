"""torch's optimizers without its compiler: the same results, hooks and states; nothing imports torch._dynamo."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from outlast_recipes.common import optimizers

CASES: dict[str, dict[str, Any]] = {
    "Adam": {"fused": True},
    "AdamW": {"weight_decay": 0.1},
    "SGD": {"momentum": 0.9, "nesterov": True},
}

WITHOUT = """
import sys
import torch
from outlast_recipes.common import optimizers

weight = torch.nn.Parameter(torch.ones(3))
for kind in (optimizers.Adam, optimizers.AdamW, optimizers.SGD):
    one = kind([weight], lr=0.1)
    weight.square().sum().backward()
    one.step()
    one.load_state_dict(one.state_dict())
    one.zero_grad()
    one.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
print("torch._dynamo" in sys.modules)
"""


def test_the_compiler_is_not_imported() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize("name", CASES)
def test_as_torchs_own(name: str) -> None:
    reached = []
    calls: list[Any] = []
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: calls.append(optimizer))
    for kind in (getattr(torch.optim, name), getattr(optimizers, name)):
        weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
        one = kind([weight], lr=0.1, **CASES[name])
        for _ in range(3):
            one.zero_grad()
            weight.square().sum().backward()
            one.step()
        again = kind([weight], lr=0.5, **CASES[name])
        again.load_state_dict(one.state_dict())
        assert weight.requires_grad
        assert weight.grad is not None
        reached.append((weight.detach(), again.state_dict()))
        assert calls == [one] * 3, "outlast copies before a step changes the weights"
        calls.clear()
    handle.remove()
    (weight, state), (ours, our_state) = reached
    assert torch.equal(weight, ours)
    assert state["param_groups"] == our_state["param_groups"]
    for key, value in state["state"][0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(our_state["state"][0][key])), key
    assert getattr(optimizers, name).__qualname__ == name, "the class that a checkpoint names"
