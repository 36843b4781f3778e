"""A block of LAST on a CPU in float32, computed in pieces of few bodies with channels last.

The same function as `Block.forward`, to rounding. In training only what lies before a norm is kept, and norms, GELUs,
shifts and routings are computed again on the way back; in inference norms are folded into the convolutions before them,
and each piece goes through the whole network by itself.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from outlast_recipes.common.channels_last import (
    Moments,
    Normed,
    added,
    folded,
    image,
    in_time,
    in_time_backward,
    pieces,
    pointwise,
    pointwise_backward,
    rows,
)
from outlast_recipes.common.lanes import Lanes, Scratch
from outlast_recipes.skeleton import compiled

Way = Literal["modules", "training", "inference"]

_USUAL = (nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv2d)


def way(network: nn.Module, x: Tensor) -> Way:
    """How a network's blocks are computed for this input: by their modules, or here.

    Here only on a CPU in float32, and where nobody looks between the modules: not under autocast or several ranks, not
    exported, no hooks, no module replaced, no norm that is frozen while others train, no gradients in inference.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return "modules"
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or (torch.is_grad_enabled() and not network.training):
        return "modules"
    for module in network.modules():
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:  # noqa: SLF001
            return "modules"
        if isinstance(module, (_BatchNorm, nn.Conv2d)):
            usual = type(module) in _USUAL and module.training == network.training
            norm = isinstance(module, _BatchNorm)
            if not usual or (norm and (module.momentum is None or not module.affine or module.running_mean is None)):
                return "modules"
    return "training" if network.training else "inference"


gelu, gelu_, gelu_backward = torch.ops.aten.gelu, torch.ops.aten.gelu_, torch.ops.aten.gelu_backward


def routed(x: Tensor, routes: Tensor, scratch: Scratch) -> Tensor:
    """Mix joints: (N, T, V, C) by (N, heads, V, V)."""
    apart = _to_heads(x, routes, scratch("apart", *_by_heads(x, routes)))
    mixed = torch.bmm(routes.flatten(0, 1), apart, out=scratch("by heads", *apart.shape))
    return _from_heads(mixed, x.shape)


def _by_heads(x: Tensor, routes: Tensor) -> tuple[int, int, int]:
    """N heads, V, T C / heads."""
    heads = routes.shape[1]
    return len(x) * heads, x.shape[2], x.shape[1] * x.shape[3] // heads


def _to_heads(x: Tensor, routes: Tensor, out: Tensor) -> Tensor:
    """(N, T, V, C) -> (N heads, V, T C / heads)."""
    count, frames, joints, channels = x.shape
    heads = routes.shape[1]
    view = x.view(count, frames, joints, heads, channels // heads).permute(0, 3, 2, 1, 4)
    out.view(view.shape).copy_(view)
    return out


def _from_heads(x: Tensor, shape: torch.Size) -> Tensor:
    count, frames, joints, channels = shape
    heads = len(x) // count
    return x.view(count, heads, joints, frames, channels // heads).permute(0, 3, 2, 1, 4).reshape(shape)


def _routed_backward(gradient: Tensor, x: Tensor, routes: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor]:
    form, own = _by_heads(x, routes), routes.flatten(0, 1)
    apart = _to_heads(gradient, routes, scratch("apart", *form))
    towards = _from_heads(torch.bmm(own.transpose(1, 2), apart, out=scratch("by heads", *form)), x.shape)
    given = _to_heads(x, routes, scratch("by heads", *form))
    return towards, torch.bmm(apart, given.transpose(1, 2)).view(routes.shape)


def shifted(x: Tensor, taps: Tensor, scratch: Scratch) -> Tensor:
    """Convolve (N, T, V, C) over frames with the taps (C, 1, 2 R + 1, 1) of the shifts; ends are repeated."""
    return in_time(_with_ends(x, taps, scratch), taps, padded=False)


def _with_ends(x: Tensor, taps: Tensor, scratch: Scratch) -> Tensor:
    (count, frames, joints, channels), reach = x.shape, taps.shape[2] // 2
    out = scratch("ends", count, frames + 2 * reach, joints, channels)
    return torch.cat([x[:, :1].expand(-1, reach, -1, -1), x, x[:, -1:].expand(-1, reach, -1, -1)], 1, out=out)


def _shifted_backward(gradient: Tensor, x: Tensor, taps: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor]:
    reach, frames = taps.shape[2] // 2, x.shape[1]
    wide, of_taps = in_time_backward(gradient, _with_ends(x, taps, scratch), taps, padded=False)
    towards = wide[:, reach : reach + frames]
    towards[:, 0] += wide[:, :reach].sum(1)
    towards[:, -1] += wide[:, reach + frames :].sum(1)
    return towards, of_taps


def _attended(block: Any, x: Tensor, means: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """What follows on a block: its attention over time.

    Args:
        block: a block.
        x: what it gave so far, (N, T, V, C).
        means: of x over frames and over joints, (N, V, C) and (N, T, C), where they are known.

    Returns:
        Its end, and the end's mean over frames.
    """
    if isinstance(block.attention, nn.Identity):
        return x, means[0] if means else x.mean(1)
    more = block.attention.added(means[1] if means else x.mean(2))
    end = x + more.unsqueeze(2) if torch.is_grad_enabled() else x.add_(more.unsqueeze(2))
    return end, means[0] + more.mean(1).unsqueeze(1) if means else end.mean(1)


def pooled(x: Tensor) -> Tensor:
    """(N, C, T, V) averaged over frames: (N, V, C)."""
    return x.permute(0, 2, 3, 1).mean(1)


def trained(block: nn.Module, x: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """A block in training.

    Args:
        block: a block.
        x: (N, C, T, V), in memory with channels last.
        pooled: of x.

    Returns:
        The same two with the block's channels and frames.
    """
    lone: Any = block
    mix, after, down = lone.mix.layers, lone.after_joints, lone.down
    norms = [after[1], mix[1], mix[4], mix[7]] + ([] if isinstance(down, nn.Identity) else [down[1]])
    given = (
        norms,
        mix[3].stride[0],
        (lone.drop.kept(x), lone.drop.kept(x)),
        x,
        lone.routes(pooled),
        lone.taps(),
        lone.place,
        *(after[0].weight, mix[0].weight, mix[3].weight, mix[6].weight),
        None if isinstance(down, nn.Identity) else down[0].weight,
        *(norm.weight for norm in norms),
        *(norm.bias for norm in norms),
    )
    if compiled.usable(block):
        found, *means = compiled.Trained.apply(*given)
        end, over_frames = _attended(block, found.permute(0, 2, 3, 1), tuple(means))
    else:
        end, over_frames = _attended(block, Trained.apply(*given).permute(0, 2, 3, 1), None)
    return image(end), over_frames


def _apart(found: list[tuple[Tensor, ...]]) -> list[list[Tensor]]:
    """What each piece gave, as a list of each kind."""
    return [list(kind) for kind in zip(*found, strict=True)]


class Trained(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, norms: list[nn.BatchNorm2d], stride: int, kept: tuple[Tensor | None, ...], *tensors: Any
    ) -> Tensor:
        whole, routes, taps, place, joined, widen, along, narrow, down = tensors[:9]
        x = rows(whole)
        count, frames, joints, _ = x.shape
        cuts = pieces(count, frames * joints * widen.shape[0])
        here, lanes, numbers = rows(place), Lanes(), len(cuts)
        moments = [Moments(numbers) for _ in norms]

        def active(which: int, before: Tensor, scratch: Scratch) -> Tensor:
            return gelu_(normed[which](before, scratch("norm", *before.shape)))

        def to_the_joints(number: int, scratch: Scratch) -> tuple[Tensor, Tensor]:
            own = x[cuts[number]]
            if routes is None:
                mixed = own + here
            else:
                placed = torch.add(own, here, out=scratch("placed", *own.shape))
                mixed = routed(placed, routes[cuts[number]], scratch)
            return mixed, moments[0].of(number, pointwise(mixed, joined))

        def to_the_widening(number: int, scratch: Scratch) -> tuple[Tensor, ...]:
            cut, branch = cuts[number], active(0, first[number], scratch)
            middle = x[cut] + branch if kept[0] is None else torch.addcmul(x[cut], branch, kept[0][cut])
            moved = middle if taps is None else shifted(middle, taps, scratch)
            second = moments[1].of(number, pointwise(moved, widen))
            if down is None:
                return middle, moved, second
            return middle, moved, second, moments[4].of(number, pointwise(middle[:, ::stride].contiguous(), down))

        def in_time_of(number: int, scratch: Scratch) -> Tensor:
            return moments[2].of(number, in_time(active(1, second[number], scratch), along, stride))

        def to_the_narrowing(number: int, scratch: Scratch) -> Tensor:
            return moments[3].of(number, pointwise(active(2, third[number], scratch), narrow))

        def to_the_end(number: int, scratch: Scratch) -> None:
            cut, shape = cuts[number], fourth[number].shape
            straight = middle[number] if down is None else normed[4](side[number], scratch("straight", *shape))
            branch = normed[3](fourth[number], scratch("norm", *shape))
            if kept[1] is None:
                torch.add(straight, branch, out=out[cut])
            else:
                torch.addcmul(straight, branch, kept[1][cut], out=out[cut])

        mixed, first = _apart(lanes(to_the_joints, numbers))
        normed = [Normed.of(norms[0], moments[0])]
        middle, moved, second, *side = _apart(lanes(to_the_widening, numbers))
        side = side[0] if side else []
        normed.append(Normed.of(norms[1], moments[1]))
        third = lanes(in_time_of, numbers)
        normed.append(Normed.of(norms[2], moments[2]))
        fourth = lanes(to_the_narrowing, numbers)
        normed += [Normed.of(norm, moment) for norm, moment in zip(norms[3:], moments[3:], strict=True)]
        out = x.new_empty(count, *fourth[0].shape[1:])
        lanes(to_the_end, numbers)
        ctx.save_for_backward(x, *tensors[1:9])
        ctx.cuts, ctx.kept, ctx.stride, ctx.normed = cuts, kept, stride, normed
        ctx.before = mixed, first, middle, moved, second, third, fourth, side
        return image(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        way_back = _Back(ctx, gradient.permute(0, 2, 3, 1))
        del ctx.before  # a piece is let go as soon as it was needed for the last time
        total = way_back.run()
        order = range(len(way_back.normed))
        return (
            *(None, None, None, image(way_back.out), way_back.of_routes, total.get("taps")),
            total["place"].t().reshape(way_back.place.shape),
            *(total[name] for name in ("joined", "widen", "along", "narrow")),
            total.get("down"),
            *(way_back.sums[which][0] for which in order),
            *(way_back.sums[which][1] for which in order),
        )


class _Back:
    """The way back through a block: one pass over all pieces between two norms.

    Norms are numbered as they are given: behind the joints, the widening, the convolution in time, the narrowing, and
    on the way around.
    """

    def __init__(self, ctx: Any, given: Tensor) -> None:
        self.x, self.routes, self.taps, self.place, self.joined = ctx.saved_tensors[:5]
        self.widen, self.along, self.narrow, self.down = ctx.saved_tensors[5:]
        self.mixed, self.first, self.middle, self.moved = ctx.before[:4]
        self.second, self.third, self.fourth, self.side = ctx.before[4:]
        self.cuts, self.kept, self.stride, self.normed = ctx.cuts, ctx.kept, ctx.stride, ctx.normed
        self.given, self.lanes = given, Lanes()
        self.between: list[Any] = [None] * len(self.cuts)
        self.through: list[Any] = [None] * len(self.cuts)
        self.parts: dict[str, list[Any]] = {}
        self.sums: dict[int, tuple[Tensor, Tensor]] = {}
        self.out = torch.empty_like(self.x)
        self.of_routes = None if self.routes is None else torch.empty_like(self.routes)

    def run(self) -> dict[str, Tensor]:
        """Gradients of the weights, by name; those of the input and of the routes are left in `out` and `of_routes`."""
        for through, norms in (
            (self.norms_at_the_end, range(3, len(self.normed))),
            (self.to_the_convolution_in_time, [2]),
            (self.through_the_convolution_in_time, [1]),
            (self.to_the_joints, [0]),
            (self.through_the_joints, []),
        ):
            self.lanes(through, len(self.cuts))
            self.sums |= {which: self.normed[which].summed() for which in norms}
        return {name: added(each) for name, each in self.parts.items()}

    def norms_at_the_end(self, number: int, scratch: Scratch) -> None:
        towards = self._given(number)
        self.normed[3].add(number, self._branch(number, 1, towards, scratch), self.fourth[number])
        if self.down is not None:
            self.normed[4].add(number, towards, self.side[number])

    def to_the_convolution_in_time(self, number: int, scratch: Scratch) -> None:
        towards = self._branch(number, 1, self._given(number), scratch)
        towards = self._before_norm(3, towards, self.fourth, number, scratch)
        active = self._active(2, self.third[number], scratch)
        towards = self._part("narrow", number, pointwise_backward(towards, active, self.narrow))
        self.between[number] = self._back(2, self.third[number], towards, number, scratch)

    def through_the_convolution_in_time(self, number: int, scratch: Scratch) -> None:
        towards = self._before_norm(2, self.between[number], self.third, number, scratch)
        active = self._active(1, self.second[number], scratch)
        towards = self._part("along", number, in_time_backward(towards, active, self.along, self.stride))
        self.between[number] = self._back(1, self.second[number], towards, number, scratch)

    def to_the_joints(self, number: int, scratch: Scratch) -> None:
        towards = self._before_norm(1, self.between[number], self.second, number, scratch)
        towards = self._part("widen", number, pointwise_backward(towards, self.moved[number], self.widen))
        if self.taps is not None:
            found = _shifted_backward(towards, self.middle[number], self.taps, scratch)
            towards = self._part("taps", number, found)
        towards = self._around(number, towards, scratch)
        self.middle[number] = self.moved[number] = None
        self.through[number], mine = towards, self.kept[0]
        self._again(0, self.first[number], scratch)
        branch = towards.clone() if mine is None else towards * mine[self.cuts[number]]
        self.between[number] = self._back(0, self.first[number], branch, number, scratch)

    def through_the_joints(self, number: int, scratch: Scratch) -> None:
        cut = self.cuts[number]
        towards = self._before_norm(0, self.between[number], self.first, number, scratch)
        towards = self._part("joined", number, pointwise_backward(towards, self.mixed[number], self.joined))
        self.mixed[number] = self.between[number] = None
        if self.of_routes is not None:
            placed = torch.add(self.x[cut], rows(self.place), out=scratch("placed", *towards.shape))
            towards, self.of_routes[cut] = _routed_backward(towards, placed, self.routes[cut], scratch)
        self._keep("place", number, towards.sum((0, 1)))
        torch.add(towards, self.through[number], out=self.out[cut])
        self.through[number] = None

    def _given(self, number: int) -> Tensor:
        return self.given[self.cuts[number]].contiguous()

    def _around(self, number: int, towards: Tensor, scratch: Scratch) -> Tensor:
        """The branch's gradient and that of the way around it."""
        straight = self._given(number)
        if self.down is None:
            return towards + straight
        straight = self._before_norm(4, straight, self.side, number, scratch)
        strided = self.middle[number][:, :: self.stride].contiguous()
        straight = self._part("down", number, pointwise_backward(straight, strided, self.down))
        towards = towards.contiguous()
        towards[:, :: self.stride] += straight
        return towards

    def _part(self, name: str, number: int, found: tuple[Tensor, Tensor]) -> Tensor:
        self._keep(name, number, found[1])
        return found[0]

    def _keep(self, name: str, number: int, part: Tensor) -> None:
        self.parts.setdefault(name, [None] * len(self.cuts))[number] = part

    def _again(self, which: int, before: Tensor, scratch: Scratch) -> Tensor:
        return self.normed[which](before, scratch("norm", *before.shape))

    def _active(self, which: int, before: Tensor, scratch: Scratch) -> Tensor:
        """The norm and its GELU again; `_back` needs the norm once more."""
        return gelu.out(self._again(which, before, scratch), out=scratch("active", *before.shape))

    def _back(self, which: int, before: Tensor, towards: Tensor, number: int, scratch: Scratch) -> Tensor:
        """Through GELU, and the first pass of the norm before it, which `_again` has left; in place."""
        gelu_backward.grad_input(towards, scratch("norm", *before.shape), grad_input=towards)
        self.normed[which].add(number, towards, before)
        return towards

    def _before_norm(self, which: int, towards: Tensor, before: list[Any], number: int, scratch: Scratch) -> Tensor:
        """The norm's second pass; what came before the norm is not needed any more."""
        piece, before[number] = before[number], None
        return self.normed[which].towards(towards, piece, scratch("towards", *piece.shape))

    def _branch(self, number: int, which: int, towards: Tensor, scratch: Scratch) -> Tensor:
        mine = self.kept[which]
        if mine is None:
            return towards
        return torch.mul(towards, mine[self.cuts[number]], out=scratch("branch", *towards.shape))


class Folded:
    """A block in inference, its norms folded into its convolutions."""

    def __init__(self, block: nn.Module, frames: int) -> None:
        self.block: Any = block
        mix, after, down = self.block.mix.layers, self.block.after_joints, self.block.down
        self.joined = folded(after[0].weight, after[1])
        self.widen = folded(mix[0].weight, mix[1])
        self.along = folded(mix[3].weight, mix[4])
        self.narrow = folded(mix[6].weight, mix[7])
        self.down = None if isinstance(down, nn.Identity) else folded(down[0].weight, down[1])
        self.stride = mix[3].stride[0]
        self.frames = -(-frames // self.stride)
        self.taps = self.block.taps()
        self.place = rows(self.block.place)

    def __call__(self, x: Tensor, pooled: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor]:
        """(N, T, V, C) and its mean over frames -> the same two with the block's channels and frames."""
        routes, placed = self.block.routes(pooled), torch.add(x, self.place, out=scratch("placed", *x.shape))
        x = gelu_(pointwise(placed if routes is None else routed(placed, routes, scratch), *self.joined)).add_(x)
        moved = x if self.taps is None else shifted(x, self.taps, scratch)
        branch = gelu_(pointwise(moved, *self.widen))
        branch = gelu_(in_time(branch, self.along[0], self.stride, self.along[1]))
        branch = pointwise(branch, *self.narrow)
        branch += x if self.down is None else pointwise(x[:, :: self.stride].contiguous(), *self.down)
        return _attended(self.block, branch, None)


def inferred(network: nn.Module, x: Tensor) -> Tensor:
    """The features of bodies: (N, channels, T, V) -> (N, C, T/4, V), in memory with channels last.

    Args:
        network: a Last in evaluation mode.
        x: its input features.
    """
    lone: Any = network
    count, channels, frames, places = x.shape
    before, first = lone.before, folded(lone.stem[0].weight, lone.stem[1])
    scale = before.weight * (before.running_var + before.eps).rsqrt()
    shift = (before.bias - before.running_mean * scale).view(channels, places).t().contiguous()
    scale = scale.view(channels, places).t().contiguous()
    blocks: list[Folded | compiled.Folded] = []
    for block in lone.blocks:
        left = blocks[-1].frames if blocks else frames
        blocks.append(compiled.Folded(block, left) if compiled.usable(block) else Folded(block, left))
    widest = max(block.mix.layers[0].out_channels for block in lone.blocks[:1])
    cuts = pieces(count, frames * places * widest)

    stem = compiled.Stem(*first) if compiled.usable(lone.blocks[0]) else lambda x: gelu_(pointwise(x, *first))

    def through(number: int, scratch: Scratch) -> Tensor:
        piece = stem(torch.addcmul(shift, rows(x[cuts[number]]), scale))
        over_frames = piece.mean(1)
        for block in blocks:
            piece, over_frames = block(piece, over_frames, scratch)
        return piece

    return image(torch.cat(Lanes()(through, len(cuts))))
