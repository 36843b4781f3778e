"""Blocks in pieces with channels last compute what their modules compute."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from outlast_recipes.common import channels_last
from outlast_recipes.common.lanes import Scratch
from outlast_recipes.skeleton import compiled, fast
from outlast_recipes.skeleton.layouts import KINECT_2, Layout
from outlast_recipes.skeleton.model import SIZES, Last, TemporalShift


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def computed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with blocks that are compiled, and with torch's operations, as where there is no compiler."""
    if request.param == "torch":
        monkeypatch.setattr(compiled, "library", lambda: "no C compiler was found (cc, gcc, clang)")
    elif isinstance(why := compiled.library(), str):
        pytest.skip(why)


def built(**options) -> Last:
    torch.manual_seed(0)
    return Last(SIZES["nano"], 5, KINECT_2, frames=16, **options)


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.ones(5, 16, 2, dtype=torch.bool)
    mask[3:, :, 1] = False
    return torch.randn(5, 16, 2, 25, 3, generator=torch.Generator().manual_seed(1)) * mask[..., None, None], mask


@pytest.mark.parametrize("options", [{"drop_path": 0.4}, {"routing": "static", "shift": "tsm"}, {"attention": False}])
def test_pieces_are_the_whole(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight bodies in pieces of three: values, gradients and running statistics, and the same samples dropped."""
    monkeypatch.setattr(channels_last, "PIECE", 3 * 16 * 25 * 64)
    own, whole = built(**options), built(**options)
    whole.stem[0].register_forward_hook(lambda *_: None)  # who looks between the modules gets the modules
    found = []
    for model, way in ((own, "training"), (whole, "modules")):
        assert fast.way(model, clips()[0]) == way
        torch.manual_seed(3)
        logits = model(*clips())
        torch.nn.functional.cross_entropy(logits, torch.arange(5)).backward()
        found.append(logits)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
    for (name, one), other in zip(own.named_parameters(), whole.parameters(), strict=True):
        scale = float(other.grad.norm()) + 1e-2
        torch.testing.assert_close(
            one.grad / scale, other.grad / scale, atol=1e-4, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )
    for one, other in zip(own.buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        inferred = own.eval()(*clips())
        assert fast.way(own, clips()[0]) == "inference"
    torch.testing.assert_close(inferred, own(*clips()), atol=1e-5, rtol=1e-5)


def test_the_same_bits_every_time() -> None:
    found = []
    for _ in range(2):
        model = built()
        torch.manual_seed(3)
        model(*clips()).square().sum().backward()
        found.append(torch.cat([value.grad.flatten() for value in model.parameters()]))
    assert torch.equal(*found)


def test_the_same_bits_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block's pieces are computed on one core each: eight bodies in pieces of three, in one thread and in three."""
    monkeypatch.setattr(channels_last, "PIECE", 3 * 16 * 25 * 64)
    before, found = torch.get_num_threads(), []
    own = torch.randn(8, 16, 25, 32, generator=torch.Generator().manual_seed(4))
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            block = built(drop_path=0.4, attention=False, routing="static").blocks[1]  # those are modules
            x = channels_last.image(own.clone()).requires_grad_()
            torch.manual_seed(3)
            made, pooled = fast.trained(block, x, fast.pooled(x))
            (made.square().sum() + pooled.sum()).backward()
            pieces = [value.grad for value in block.parameters() if value.grad is not None]
            found.append(torch.cat([each.detach().flatten() for each in (made, x.grad, *pieces, *block.buffers())]))
    finally:
        torch.set_num_threads(before)
    assert len(found[0]) > 2 * own.numel()
    assert torch.equal(*found)


def test_modules_compute_what_pieces_cannot() -> None:
    model = built()
    joints, _ = clips()
    assert fast.way(model, joints) == "training"
    with torch.autocast("cpu", torch.bfloat16):
        assert fast.way(model, joints) == "modules"
    assert fast.way(model, joints.double()) == "modules"
    frozen = copy.deepcopy(model)
    frozen.blocks[0].after_joints[1].eval()
    assert fast.way(frozen, joints) == "modules"
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    assert fast.way(converted, joints) == "modules"
    assert fast.way(model.eval(), joints) == "modules", "gradients of inference"


def test_taps_are_the_shift_at_its_very_end() -> None:
    shift = TemporalShift(4, "adaptive")
    shift.theta.data = torch.tensor([50.0, -50.0, 0.0, 0.3])
    x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    found = channels_last.image(fast.shifted(x, shift.taps(), Scratch()))
    torch.testing.assert_close(found, shift(channels_last.image(x)))


@pytest.mark.parametrize("joints", [17, 25])
@pytest.mark.parametrize("frames", [1, 7, 12])
def test_any_number_of_frames_and_joints(joints: int, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends that are repeated reach over all frames, strides leave one, and joints are no multiple of a tile."""
    monkeypatch.setattr(channels_last, "PIECE", 2 * frames * joints * 64)
    layout = Layout("some", tuple(range(-1, joints - 1)), tuple(range(joints)), 0, ("a",) * joints)
    layout = dataclasses.replace(layout, parents=(0, *layout.parents[1:]))
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(Last(SIZES["nano"], 5, layout, frames=frames, attention=False))
    own, whole = made
    whole.stem[0].register_forward_hook(lambda *_: None)
    given = (
        torch.randn(3, frames, 2, joints, 3, generator=torch.Generator().manual_seed(2)),
        torch.ones(3, frames, 2) > 0,
    )
    found = []
    for model in made:
        torch.manual_seed(3)
        model(*given).square().sum().backward()
        found.append([value.grad for value in model.parameters()])
    for (name, _), one, other in zip(own.named_parameters(), *found, strict=True):
        scale = float(other.norm()) + 1e-1
        torch.testing.assert_close(one / scale, other / scale, atol=2e-4, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
    with torch.no_grad():
        torch.testing.assert_close(own.eval()(*given), whole.eval()(*given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [5, 17])
def test_routes_and_attention_of_weights_far_from_their_start(frames: int) -> None:
    """Fewer frames than were trained on and more, and joints: neither is a multiple of a vector."""
    layout = Layout("some", (0, *range(17)), tuple(range(18)), 0, ("a",) * 18)
    made = Last(SIZES["nano"], 5, layout, frames=12).eval()
    random = torch.Generator().manual_seed(5)
    for name, value in made.named_parameters():
        if name.endswith(("routes", "strength", "queries.weight", "queries.bias")) or ".attention." in name:
            value.data += 0.5 * torch.randn(value.shape, generator=random)
    whole = copy.deepcopy(made)
    whole.stem[0].register_forward_hook(lambda *_: None)
    given = torch.randn(3, frames, 2, 18, 3, generator=random), torch.ones(3, frames, 2) > 0
    with torch.no_grad():
        assert (fast.way(made, given[0]), fast.way(whole, given[0])) == ("inference", "modules")
        torch.testing.assert_close(made(*given), whole(*given), atol=2e-5, rtol=1e-5)
        assert made(given[0] * float("nan"), given[1]).isnan().all()
