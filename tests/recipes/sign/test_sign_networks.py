"""The networks of sign: padding changes nothing, category follows from gloss, every option does something."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, pad

import outlast
from outlast_recipes.common.complexity import parameters
from outlast_recipes.sign.batch import FACE, LEFT, RIGHT, FeatureBatch, KeypointBatch
from outlast_recipes.sign.bones import OF_HAND, bends, directions, in_palm
from outlast_recipes.sign.build import build
from outlast_recipes.sign.config import Network, SignConfig
from outlast_recipes.sign.export import example
from outlast_recipes.sign.heads import Head
from outlast_recipes.sign.layers import SelfAttention, inside
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.part_conv import ConvBlock, values
from outlast_recipes.sign.training import add_gradients
from tests import messages

CATEGORY_OF = tuple(gloss % 3 for gloss in range(12))
SEED_GRU = {
    "name": "iv3_gru", "hidden1": 16, "hidden2": 12, "bidirectional": False, "summary": "last", "input_norm": False,
    "category": "independent",
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "part_conv": {"width": 32},
    "transformer": {"name": "transformer", "width": 32, "feedforward": 64},
    "transformer-max": {"name": "transformer", "width": 32, "layers": 1, "pooling": "max", "seen": False},
    "transformer-cls": {"name": "transformer", "width": 32, "layers": 1, "pooling": "cls", "category": "independent"},
    "iv3_gru": {"name": "iv3_gru", "hidden1": 16, "hidden2": 8},
    "iv3_gru-last": {"name": "iv3_gru", "hidden1": 16, "hidden2": 8, "summary": "last"},
    "iv3_gru-original": SEED_GRU,
}


def built(glosses: tuple[int, ...] = CATEGORY_OF, **options: Any) -> SignNetwork:
    torch.manual_seed(0)
    network = build(Network(**options), glosses, 3).eval()
    with torch.no_grad():  # weights whose outputs are large, so that 1e-5 is a small difference
        for layer in (network.head.gloss[-1], *([network.head.category[-1]] if network.head.category else [])):
            layer.weight.mul_(10)
    return network


def logits(network: SignNetwork, *inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(network(*inputs), 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_clip_alone_and_padded_in_a_batch_give_the_same(name: str) -> None:
    network, lengths = built(**NETWORKS[name]), (20, 7, 1, 0, 33)
    inputs = example(network, lengths)
    together = logits(network, *inputs)
    assert together.isfinite().all()
    assert together.std() > 0.3
    longer = [pad(x, (0, 0) * (x.dim() - 2) + (0, 9)) for x in inputs[:-1]]
    assert (logits(network, *longer, inputs[-1]) - together).abs().max() <= 1e-5
    after = ~inside(inputs[-1], inputs[0].shape[1])
    rubbish = [x.masked_fill(after.view(*after.shape, *[1] * (x.dim() - 2)), 7) for x in inputs[:-1]]
    assert (logits(network, *rubbish, inputs[-1]) - together).abs().max() <= 1e-5
    for row, length in enumerate(lengths):
        alone = [x[row : row + 1, : max(1, length)] for x in inputs[:-1]]
        assert (logits(network, *alone, inputs[-1][row : row + 1])[0] - together[row]).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["part_conv", "transformer", "transformer-max"])
def test_a_clip_in_which_nothing_is_seen_is_finite_and_as_long_as_it_is(name: str) -> None:
    network = built(**NETWORKS[name])
    nothing = torch.zeros(2, 9, 78, 2), torch.zeros(2, 9, 78, dtype=torch.bool), torch.tensor([9, 4])
    given = logits(network, *nothing)
    assert given.isfinite().all()
    shorter = logits(network, *(x[1:, :4] if x.dim() > 1 else x[1:] for x in nothing))
    assert (shorter - given[1:]).abs().max() <= 1e-5


def test_the_originals_dimensions_and_the_budget() -> None:
    glosses = tuple(gloss % 10 for gloss in range(105))
    original = {"name": "transformer", "seen": False, "category": "independent", "dropout": 0.1}
    sizes = {
        name: parameters(build(Network(**options), glosses, 10))
        for name, options in {"transformer": original, "gru": SEED_GRU, "part_conv": {}}.items()
    }
    encoder = 4 * (4 * 256 * 257 + 256 * 1025 + 1024 + 1024 * 256 + 4 * 256)
    heads = 2 * (256 * 128 + 128) + 129 * (105 + 10)
    assert sizes["transformer"] == 156 * 256 + 256 + 512 + encoder + heads == 3_280_371
    assert sizes["gru"] == 3 * (2048 * 16 + 16 * 16 + 32) + 3 * (16 * 12 + 12 * 12 + 24) + 13 * 115
    assert sizes["part_conv"] < sizes["transformer"]
    wide = build(Network(width=256), glosses, 10)
    assert sizes["part_conv"] == parameters(build(Network(width=128), glosses, 10)) < parameters(wide) / 3


def test_a_categorys_probability_is_the_sum_of_its_glosses() -> None:
    torch.manual_seed(0)
    head = Head(8, (0, 0, 2, 2, -1), 4, 0.0).eval()
    x = 5 * torch.randn(6, 8)
    gloss, category = head(x)
    assert category[:, 1].exp().max() == 0, "no gloss, no probability"
    assert category.isfinite().all()
    known = gloss[:, :4].softmax(1)
    torch.testing.assert_close(category.softmax(1)[:, [0, 2]], known.view(6, 2, 2).sum(2))
    cross_entropy(category, torch.full((6,), 2)).backward()
    assert head.gloss[-1].weight.grad.abs().sum() > 0, "the category's loss trains the glosses"
    apart = Head(8, (0, 0, 2, 2, -1), 4, 0.0, apart=True)
    assert apart(x)[1].shape == (6, 4)
    assert not torch.equal(apart(x)[1], category)


def test_values_of_keypoints_that_were_not_seen_are_zero() -> None:
    chance = torch.Generator().manual_seed(0)
    points, seen = torch.randn(1, 6, 21, 2, generator=chance), torch.ones(1, 6, 21, dtype=torch.bool)
    whole = values(points, seen, (0,) * 21)
    seen[0, 3, 5] = False
    hidden = values(torch.where(seen[..., None], points, 0.0), seen, (0,) * 21)
    assert hidden[0, 3, 5].abs().sum() == 0
    assert hidden[0, 4, 5, 4:6].abs().sum() == 0, "no speed from where it was not seen"
    assert torch.equal(hidden[0, 4, 5, 6:8], whole[0, 4, 5, 6:8]), "two frames ago it was seen"
    torch.testing.assert_close(whole[0, 2, 3, 4:8], torch.cat([points[0, 2, 3] - points[0, at, 3] for at in (1, 0)]))
    doubled = values(2 * points + 1, torch.ones_like(seen), (0,) * 21)
    torch.testing.assert_close(doubled[..., 2:4], whole[..., 2:4])  # the place in the hand has no size


def test_directions_do_not_depend_on_lengths_nor_the_palms_frame_on_how_a_hand_is_held() -> None:
    chance = torch.Generator().manual_seed(0)
    hand, seen = torch.randn(2, 6, 21, 2, generator=chance), torch.ones(2, 6, 21, dtype=torch.bool)
    hand = hand - hand[:, :, :1]
    bones = directions(hand, seen, OF_HAND)
    torch.testing.assert_close(directions(3 * hand + 1, seen, OF_HAND), bones, atol=0.02, rtol=0)
    expected = torch.nn.functional.normalize(hand[0, 2, 7] - hand[0, 2, 6], dim=-1)
    torch.testing.assert_close(bones[0, 2, 7], expected, atol=0.02, rtol=0)
    cos, sin = math.cos(0.7), math.sin(0.7)
    turned = hand @ torch.tensor([[cos, sin], [-sin, cos]])
    frame = in_palm(hand, seen)
    torch.testing.assert_close(in_palm(turned, seen), frame, atol=1e-5, rtol=0)
    assert not torch.allclose(directions(turned, seen, OF_HAND), bones, atol=0.1)
    angles = bends(bones, OF_HAND)
    torch.testing.assert_close(bends(directions(turned, seen, OF_HAND), OF_HAND), angles, atol=1e-5, rtol=0)
    straight = hand.clone()
    straight[:, :, 7] = 2 * hand[:, :, 6] - hand[:, :, 5]
    along = bends(directions(straight, seen, OF_HAND), OF_HAND)[:, :, 7]
    torch.testing.assert_close(along, torch.tensor([1.0, 0.0]).expand(2, 6, 2), atol=0.05, rtol=0)
    assert not angles[:, :, [0, 1, 5, 9, 13, 17]].any(), "the bone of a first joint begins where no bone ends"
    torch.testing.assert_close(frame[:, :, 9, 1], torch.zeros(2, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(frame.norm(dim=-1), hand.norm(dim=-1), atol=0.02, rtol=0.02)
    hidden = seen.clone()
    hidden[0, 1, 5], hidden[0, 2, 9], hidden[0, 3, 0] = False, False, False
    shown = torch.where(hidden[..., None], hand, 0.0)
    found, bones = in_palm(shown, hidden), directions(shown, hidden, OF_HAND)
    assert not found[0, 1, 5].any()
    assert not found[0, 2:4].any(), "no palm, no frame"
    assert not bones[0, 1, 5:7].any(), "both ends of a bone are needed"
    assert not bones[0, 3, [1, 5, 9, 13, 17]].any()
    assert torch.equal(bones[1], directions(hand, seen, OF_HAND)[1])


def test_left_and_right_hand_share_an_encoder_and_stay_apart() -> None:
    network = built(**NETWORKS["part_conv"])
    points, seen, lengths = example(network, (12,))
    seen[:, :, LEFT] = seen[:, :, RIGHT] = True
    swapped = points.clone()
    flip = points.new_tensor([-1.0, 1.0])
    swapped[:, :, LEFT], swapped[:, :, RIGHT] = points[:, :, RIGHT] * flip, points[:, :, LEFT] * flip
    assert (logits(network, swapped, seen, lengths) - logits(network, points, seen, lengths)).abs().max() > 0.01
    with torch.no_grad():
        network.side[1] = network.side[0]
        network.before[0].weight[:, 16:24] = network.before[0].weight[:, 8:16]
    same = (logits(network, swapped, seen, lengths) - logits(network, points, seen, lengths)).abs().max()
    assert same <= 1e-4


@pytest.mark.parametrize("part", [LEFT, RIGHT, FACE])
def test_part_conv_reads_every_part(part: slice) -> None:
    network = built(**NETWORKS["part_conv"])
    points, seen, lengths = example(network, (12,))
    usual = logits(network, points, seen, lengths)
    seen[:, :, part] = False
    assert (logits(network, points * seen[..., None], seen, lengths) - usual).abs().max() > 0.01


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "part_conv": [{"width": 64}, {"category": "independent"}, {"shapes": False}],
    "transformer": [
        {"width": 64}, {"layers": 1}, {"heads": 4}, {"feedforward": 32}, {"pooling": "max"}, {"pooling": "cls"},
        {"seen": False}, {"category": "independent"},
    ],
    "iv3_gru": [
        {"hidden1": 8}, {"hidden2": 4}, {"bidirectional": False}, {"summary": "last"}, {"input_norm": False},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_a_network_changes_its_output(name: str) -> None:
    usual = built(**NETWORKS[name])
    inputs = example(usual, (12, 5))
    for option in OPTIONS[name]:
        changed = built(**(NETWORKS[name] | option))
        assert not torch.allclose(logits(changed, *inputs), logits(usual, *inputs), atol=1e-3), option
    for rate in ("dropout", *(["drop_path"] if name == "part_conv" else [])):
        none = {"dropout": 0.0, "drop_path": 0.0} | {rate: 0.5}
        changed = built(**(NETWORKS[name] | none)).train()
        assert not torch.allclose(logits(changed, *inputs), logits(changed, *inputs), atol=1e-3), rate


@pytest.mark.parametrize("rotary", [True, False])
def test_attention_gives_the_same_in_training(rotary: bool) -> None:
    torch.manual_seed(0)
    layer, lengths = SelfAttention(32, 4, 0.0, rotary=rotary), torch.tensor([9, 4, 0])
    given = []
    for training in (True, False):
        x = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
        mixed = layer.train(training)(x, lengths)
        (mixed * inside(lengths.clamp(min=1), 9)[..., None]).square().sum().backward()
        given.append((mixed[0], mixed[1, :4], mixed[2, :1], x.grad))
    for one, other in zip(*given, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 9, 33])
def test_the_convolution_in_training_is_that_of_its_layer(frames: int) -> None:
    block = ConvBlock(16, 17, 0.0, 0.0)
    x = torch.randn(6, frames, 16)
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            given = block.train()._convolved(x)
        torch.testing.assert_close(given, block.eval()._convolved(x), atol=1e-6, rtol=0)


def test_every_parameter_has_a_gradient() -> None:
    for name in ("part_conv", "transformer", "transformer-cls", "iv3_gru", "iv3_gru-original"):
        network = built(**NETWORKS[name])
        gloss, category = network(*example(network, (12, 5, 9)))
        (gloss.square().sum() + category.square().sum()).backward()
        # The embedding of an unseen part is used where a part is unseen.
        dead = [key for key, each in network.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
        assert [key for key in dead if "missing" not in key] == [], name


def test_widths_that_no_head_divides() -> None:
    with messages.raises(outlast.ConfigError, "sign/width-and-heads", width=80, heads=7):
        build(Network(name="transformer", width=80, heads=7), CATEGORY_OF, 3)


@pytest.mark.parametrize("name", ["part_conv", "transformer", "iv3_gru"])
def test_the_gradients_of_a_batch_in_pieces_are_those_of_the_batch(name: str) -> None:
    network = built(**NETWORKS[name])  # in evaluation mode: nothing is dropped out
    *values, lengths = example(network, (20, 7, 1, 0, 33, 7))
    labels = torch.arange(6) % 3
    given = (lengths, labels, labels, labels > 9, labels)
    batch = FeatureBatch(*given, *values) if len(values) == 1 else KeypointBatch(*given, *values)
    pieces = list(batch.pieces(40))
    assert [each.lengths.tolist() for each in pieces] == [[0, 1, 7, 7], [20], [33]]
    assert [each.inputs[0].shape[1] for each in pieces] == [7, 20, 33], "padded to their own longest"
    assert torch.cat([each.numbers for each in pieces]).tolist() == [0, 2, 1, 2, 0, 1]
    scaler, found = torch.amp.GradScaler("cpu", enabled=False), []
    calls: list[int] = []
    network.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    for frames in (40, 0):
        losses = add_gradients(network, batch, SignConfig(frames_at_once=frames), scaler, contextlib.nullcontext())
        found.append([losses["loss"], *(parameter.grad.clone() for parameter in network.parameters())])
        network.zero_grad()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert calls == ([6, 6] if name == "iv3_gru" else [4, 1, 1, 6])
