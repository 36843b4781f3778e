"""LAST: size, gradients, symmetry, and that every part does something."""

from __future__ import annotations

import pytest
import torch

from outlast_recipes.common.complexity import macs, parameters
from outlast_recipes.skeleton.layouts import KINECT_1, KINECT_2, Layout
from outlast_recipes.skeleton.model import SIZES, Last, TemporalShift, anatomy, streams


def clips(
    count: int = 2, frames: int = 64, layout: Layout = KINECT_2, bodies: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    mask = torch.ones(count, frames, 2, dtype=torch.bool)
    mask[:, :, bodies:] = False
    joints = torch.randn(count, frames, 2, layout.joints, 3, generator=chance) * mask[..., None, None]
    return joints, mask


def built(name: str = "tiny", layout: Layout = KINECT_2, **options) -> Last:
    torch.manual_seed(0)
    return Last(SIZES[name], 120, layout, **options)


LIMITS = {"tiny": (0.30e6, 0.4e9), "base": (1.5e6, 1.6e9), "large": (4.5e6, 4.5e9)}


@pytest.mark.parametrize("name", LIMITS)
def test_sizes_are_within_their_class(name: str) -> None:
    model = built(name)
    most, work = LIMITS[name]
    assert 0.5 * most < parameters(model) <= most
    assert 0.3 * work < macs(model, clips(1)) <= work
    assert (parameters(model), round(macs(model, clips(1)) / 1e6)) == {
        "tiny": (231_022, 141),
        "base": (1_044_110, 968),
        "large": (3_819_502, 3321),
    }[name]


def test_every_parameter_has_a_gradient_at_the_first_step() -> None:
    model = built(drop_path=0.0, dropout=0.0)
    loss = torch.nn.functional.cross_entropy(model(*clips(4)), torch.arange(4))
    loss.backward()
    dead = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert dead == []


def like(whole: Last, other: Last, leave: str = "nothing") -> Last:
    """The other network with the first one's weights, wherever it has the same."""
    own = other.state_dict()
    shared = {
        name: value
        for name, value in whole.state_dict().items()
        if own.get(name, torch.empty(0)).shape == value.shape and not name.endswith(leave)
    }
    other.load_state_dict(shared, strict=False)
    return other.eval()


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "joint"}, {"kind": "bone"}, {"kind": "velocity"}, {"shift": "off"}, {"shift": "tsm"},
        {"shift": "scales"}, {"routing": "static"}, {"routing": "off"}, {"attention": False}, {"bodies": 1},
    ],
    ids=str,
)  # fmt: skip
def test_every_switch_changes_the_output(options: dict[str, object]) -> None:
    whole = built()
    for module in whole.modules():
        if isinstance(module, TemporalShift):
            module.theta.data += 0.1  # trained away from where it began
    joints, mask = clips()
    torch.testing.assert_close(like(whole, built())(joints, mask), whole.eval()(joints, mask))
    without = like(whole, built(**options), leave="shift.theta" if "shift" in options else "nothing")
    assert not torch.allclose(whole.eval()(joints, mask), without(joints, mask), atol=1e-4)


def test_the_order_of_bodies_and_an_absent_one_do_not_matter() -> None:
    model = built().eval()
    joints, mask = clips()
    swapped = model(joints.flip(2), mask.flip(2))
    torch.testing.assert_close(model(joints, mask), swapped, atol=1e-5, rtol=1e-4)
    alone, there = clips(bodies=1)
    noise = alone.clone()
    noise[:, :, 1] = 7.0
    torch.testing.assert_close(model(alone, there), model(noise, there), atol=1e-5, rtol=1e-4)
    nobody = torch.zeros_like(mask)
    assert model(joints, nobody).isfinite().all()


def test_shifts_read_between_frames_and_repeat_the_ends() -> None:
    shift = TemporalShift(4, "adaptive")
    shift.theta.data = torch.atanh(torch.tensor([0.0, 1.0, -1.5, 3.0]) / 4)
    ramp = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 4, 8, 2)
    moved = shift(ramp)[0, :, :, 0]
    expected = torch.stack([(torch.arange(8.0) + by).clamp(0, 7) for by in (0.0, 1.0, -1.5, 3.0)])
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)


def test_velocities_and_bones_respect_the_mask() -> None:
    joints, mask = clips(1, frames=4)
    mask[0, 2, 0] = False
    joints = joints * mask[..., None, None]
    found = streams(joints, mask, KINECT_2)
    assert found.shape == (1, 2, 9, 4, 25)
    assert (found[0, 0, 6:, 1:3] == 0).all(), "no speed into or out of a frame in which nobody was seen"
    assert (found[0, 0, 3:6, :, 20] == 0).all(), "the root has no bone"
    torch.testing.assert_close(found[0, 1, 6:, 0], (joints[0, 1, 1] - joints[0, 0, 1]).T)


def test_another_sensor_and_half_precision() -> None:
    assert anatomy(KINECT_1).sum(-1).allclose(torch.ones(4, 20))
    model = built("nano", KINECT_1, frames=32).eval()
    joints, mask = clips(1, 32, KINECT_1)
    still = torch.zeros_like(joints)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(joints, mask).isfinite().all()
        assert model(still, mask).isfinite().all(), "a clip that stands still"


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [("st_gcn", "joint", 3_114_252), ("ctr_gcn", "joint", 1_461_942), ("last_seed", "joint", 689_100),
        ("last_seed", "fused", None)],
)  # fmt: skip
def test_baselines_have_the_published_sizes_and_learn(name: str, kind: str, count: int | None) -> None:
    """ST-GCN's own code has 3.1 M, CTR-GCN's 1.46 M, and the model of seeds/000 exactly 689,100."""
    from benchmarks.skeleton.networks import NETWORKS

    torch.manual_seed(0)
    model = NETWORKS[name](120, KINECT_2, kind)
    assert count is None or parameters(model) == count
    joints, mask = clips(3)
    mask[0, :, 1] = False
    joints = joints * mask[..., None, None]
    torch.nn.functional.cross_entropy(model(joints, mask), torch.arange(3)).backward()
    dead = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert dead == []
    alone = model.eval()(joints[:1], mask[:1])
    torch.testing.assert_close(model(joints, mask)[:1], alone, atol=1e-4, rtol=1e-4)


def test_absent_bodies_are_left_out_and_change_nothing() -> None:
    model = built().eval()
    joints, mask = clips(3)
    mask[1, :, 1] = False
    joints = joints * mask[..., None, None]
    seen = []
    model.stem.register_forward_hook(lambda _module, given, _out: seen.append(len(given[0])))
    together = model(joints, mask)
    assert seen == [5], "three clips, one of them of one body"
    for row in range(3):
        torch.testing.assert_close(model(joints[[row]], mask[[row]])[0], together[row], atol=1e-4, rtol=1e-4)


def test_synthetic_clips_have_the_described_form(tmp_path) -> None:
    from benchmarks.skeleton import synthetic

    store = synthetic.store(tmp_path / "store", clips=3)
    assert (len(store), len(store.classes)) == (180, 60)
    assert all(entry.name.startswith("synthetic-") for entry in store.entries)
    two = [entry.bodies == 2 for entry in store.entries]
    assert all(two[135:]), "the last family is of two people"
    assert 0.2 < sum(two[:135]) / 135 < 0.8, "strangers in about half of the others"
    assert synthetic.store(tmp_path / "again", clips=3).hash == store.hash
