"""LAST computes what it computed on 2026-11-29, before it was made faster, from the weights of then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from outlast_recipes.skeleton import compiled
from outlast_recipes.skeleton.layouts import KINECT_1, KINECT_2
from outlast_recipes.skeleton.model import SIZES, Last

GOLDEN = json.loads(Path(__file__).with_name("golden_last.json").read_text())
CLASSES, FRAMES = 7, 16

CASES: dict[str, tuple[str, dict[str, object]]] = {
    "nano": ("nano", {}),
    "nano, plain parts": ("nano", {"kind": "joint", "shift": "tsm", "routing": "static", "attention": False}),
    "nano, parts off": ("nano", {"kind": "bone", "shift": "off", "routing": "off", "bodies": 1}),
    "nano, fixed scales": ("nano", {"kind": "velocity", "shift": "scales"}),
    "base": ("base", {"drop_path": 0.0}),
}


def wave(count: int, step: float) -> torch.Tensor:
    return torch.sin(torch.arange(count, dtype=torch.float64) * step + 0.5)


def filled(case: str) -> Last:
    """A network whose weights come from no random generator, so that any version of torch makes the same."""
    size, options = CASES[case]
    model = Last(
        SIZES[size], CLASSES, KINECT_1 if case == "nano, fixed scales" else KINECT_2, frames=FRAMES, dropout=0.0,
        **options,
    )  # fmt: skip
    for number, (name, value) in enumerate(model.state_dict().items()):
        if not value.is_floating_point() or (name.endswith("theta") and "scales" not in case and "plain" not in case):
            continue
        waves = wave(value.numel(), 1.7 + 0.013 * number).view(value.shape)
        if name.endswith("running_var") or (value.dim() == 1 and name.endswith("weight")):
            value.copy_(1 + 0.2 * waves)
        elif name.endswith("theta"):
            value.add_(0.03 * waves)
        elif value.dim() > 1:
            value.copy_(1.5 * waves / value[0].numel() ** 0.5)
        else:
            value.copy_(0.1 * waves)
    return model


def clips(model: Last) -> tuple[torch.Tensor, torch.Tensor]:
    """Five clips: two of two bodies, two of one, and one of nobody."""
    joints = wave(5 * FRAMES * 2 * model.layout.joints * 3, 0.37).float().view(5, FRAMES, 2, -1, 3)
    mask = torch.ones(5, FRAMES, 2, dtype=torch.bool)
    mask[2:, :, 1], mask[4], mask[1, 5:8, 0] = False, False, False
    return joints * mask[..., None, None], mask


def facts(case: str) -> dict[str, object]:
    """Logits of inference, then a step of training: logits, gradients (a projection and the norm of each), running
    statistics, and logits after it."""
    model = filled(case)
    given = clips(model)
    with torch.no_grad():
        found: dict[str, object] = {"inferred": model.eval()(*given).tolist()}
    model.train()
    logits = model(*given)
    torch.nn.functional.cross_entropy(logits, torch.arange(5)).backward()
    found["trained"] = logits.tolist()
    found["gradients"] = {
        name: [float(value.grad.norm()), float((value.grad.flatten() * wave(value.numel(), 0.9)).sum())]
        for name, value in model.named_parameters()
    }
    found["statistics"] = {
        name: float((value.flatten() * wave(value.numel(), 0.9)).sum())
        for name, value in model.named_buffers()
        if "running" in name
    }
    torch.optim.SGD(model.parameters(), 0.05).step()
    with torch.no_grad():
        found["after"] = model.eval()(*given).tolist()
    found["weights"] = {name: list(value.shape) for name, value in model.state_dict().items()}
    return found


@pytest.mark.parametrize("how", ["compiled", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_last_computes_what_it_did(case: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "torch":
        monkeypatch.setattr(compiled, "library", lambda: "no C compiler was found (cc, gcc, clang)")
    elif isinstance(why := compiled.library(), str):
        pytest.skip(why)
    found, golden = facts(case), GOLDEN[case]
    assert found["weights"] == golden["weights"], "checkpoints of before would not load"
    for what in ("inferred", "trained"):
        torch.testing.assert_close(torch.tensor(found[what]), torch.tensor(golden[what]), atol=1e-5, rtol=1e-5)
    for name, expected in golden["gradients"].items():
        norm = max(1e-2, expected[0])  # 0 before a norm, but for rounding
        assert found["gradients"][name] == pytest.approx(expected, abs=1e-4 * norm), name
    for name, number in golden["statistics"].items():
        assert found["statistics"][name] == pytest.approx(number, abs=1e-5, rel=1e-5), name
    torch.testing.assert_close(torch.tensor(found["after"]), torch.tensor(golden["after"]), atol=1e-4, rtol=1e-4)
