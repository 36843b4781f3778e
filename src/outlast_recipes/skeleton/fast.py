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
    Scratch,
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


def _attended(block: Any, x: Tensor) -> Tensor:
    attention = block.attention
    return x if isinstance(attention, nn.Identity) else x + attention.added(x.mean(2)).unsqueeze(2)


def trained(block: nn.Module, x: Tensor) -> Tensor:
    """A block in training: (N, C, T, V), in memory with channels last, -> the same with its channels and frames."""
    lone: Any = block
    mix, after, down = lone.mix.layers, lone.after_joints, lone.down
    norms = [after[1], mix[1], mix[4], mix[7]] + ([] if isinstance(down, nn.Identity) else [down[1]])
    weights = [after[0].weight, mix[0].weight, mix[3].weight, mix[6].weight]
    found: Tensor = _Trained.apply(
        norms,
        mix[3].stride[0],
        (lone.drop.kept(x), lone.drop.kept(x)),
        x,
        lone.routes(x.permute(0, 2, 3, 1).mean(1)),
        lone.taps(),
        lone.place,
        *weights,
        None if isinstance(down, nn.Identity) else down[0].weight,
        *(norm.weight for norm in norms),
        *(norm.bias for norm in norms),
    )
    return image(_attended(block, found.permute(0, 2, 3, 1)))


class _Trained(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, norms: list[nn.BatchNorm2d], stride: int, kept: tuple[Tensor | None, ...], *tensors: Any
    ) -> Tensor:
        whole, routes, taps, place, joined, widen, along, narrow, down = tensors[:9]
        x = rows(whole)
        count, frames, joints, _ = x.shape
        cuts = pieces(count, frames * joints * widen.shape[0])
        here, scratch = rows(place), Scratch()
        moments = [Moments() for _ in norms]

        def keep(which: int, piece: Tensor) -> Tensor:
            moments[which].add(piece)
            return piece

        def active(through: Normed, before: Tensor) -> Tensor:
            return gelu_(through(before, scratch("norm", *before.shape)))

        mixed, first = [], []
        for cut in cuts:
            own = x[cut]
            if routes is None:
                mixed.append(own + here)
            else:
                placed = torch.add(own, here, out=scratch("placed", *own.shape))
                mixed.append(routed(placed, routes[cut], scratch))
            first.append(keep(0, pointwise(mixed[-1], joined)))
        normed = [Normed.of(norms[0], moments[0])]
        middle, moved, second, side = [], [], [], []
        for cut, one in zip(cuts, first, strict=True):
            branch = active(normed[0], one)
            middle.append(x[cut] + branch if kept[0] is None else torch.addcmul(x[cut], branch, kept[0][cut]))
            moved.append(middle[-1] if taps is None else shifted(middle[-1], taps, scratch))
            second.append(keep(1, pointwise(moved[-1], widen)))
            if down is not None:
                side.append(keep(4, pointwise(middle[-1][:, ::stride].contiguous(), down)))
        normed.append(Normed.of(norms[1], moments[1]))
        third = [keep(2, in_time(active(normed[1], two), along, stride)) for two in second]
        normed.append(Normed.of(norms[2], moments[2]))
        fourth = [keep(3, pointwise(active(normed[2], three), narrow)) for three in third]
        normed.append(Normed.of(norms[3], moments[3]))
        if down is not None:
            normed.append(Normed.of(norms[4], moments[4]))
        out = x.new_empty(count, *fourth[0].shape[1:])
        for number, cut in enumerate(cuts):
            shape = fourth[number].shape
            straight = middle[number] if down is None else normed[4](side[number], scratch("straight", *shape))
            branch = normed[3](fourth[number], scratch("norm", *shape))
            if kept[1] is None:
                torch.add(straight, branch, out=out[cut])
            else:
                torch.addcmul(straight, branch, kept[1][cut], out=out[cut])
        ctx.save_for_backward(x, *tensors[1:9])
        ctx.cuts, ctx.kept, ctx.stride, ctx.normed = cuts, kept, stride, normed
        ctx.before = mixed, first, middle, moved, second, third, fourth, side
        return image(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        way_back = _Back(ctx, gradient.permute(0, 2, 3, 1))
        del ctx.before  # a piece is let go as soon as it was needed for the last time
        way_back.norms_at_the_end()
        way_back.to_the_convolution_in_time()
        way_back.through_the_convolution_in_time()
        way_back.to_the_joints()
        of_x, of_routes = way_back.through_the_joints()
        total = {name: added(each) for name, each in way_back.parts.items()}
        order = range(len(way_back.normed))
        return (
            *(None, None, None, image(of_x), of_routes, total.get("taps")),
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
        self.given, self.scratch = given, Scratch()
        self.numbers = range(len(self.cuts))
        self.between: list[Any] = [None] * len(self.cuts)
        self.through: list[Any] = [None] * len(self.cuts)
        self.parts: dict[str, list[Tensor]] = {}
        self.sums: dict[int, tuple[Tensor, Tensor]] = {}

    def norms_at_the_end(self) -> None:
        for number in self.numbers:
            towards = self._given(number)
            self.normed[3].add(self._branch(number, 1, towards), self.fourth[number])
            if self.down is not None:
                self.normed[4].add(towards, self.side[number])
        for which in range(3, len(self.normed)):
            self.sums[which] = self.normed[which].summed()

    def to_the_convolution_in_time(self) -> None:
        for number in self.numbers:
            towards = self._before_norm(3, self._branch(number, 1, self._given(number)), self.fourth, number)
            towards = self._part(
                "narrow", pointwise_backward(towards, self._active(2, self.third[number]), self.narrow)
            )
            self.between[number] = self._back(2, self.third[number], towards)
        self.sums[2] = self.normed[2].summed()

    def through_the_convolution_in_time(self) -> None:
        for number in self.numbers:
            towards = self._before_norm(2, self.between[number], self.third, number)
            active = self._active(1, self.second[number])
            towards = self._part("along", in_time_backward(towards, active, self.along, self.stride))
            self.between[number] = self._back(1, self.second[number], towards)
        self.sums[1] = self.normed[1].summed()

    def to_the_joints(self) -> None:
        for number in self.numbers:
            towards = self._before_norm(1, self.between[number], self.second, number)
            towards = self._part("widen", pointwise_backward(towards, self.moved[number], self.widen))
            if self.taps is not None:
                found = _shifted_backward(towards, self.middle[number], self.taps, self.scratch)
                towards = self._part("taps", found)
            towards = self._around(number, towards)
            self.middle[number] = self.moved[number] = None
            self.through[number], mine = towards, self.kept[0]
            self._again(0, self.first[number])
            branch = towards.clone() if mine is None else towards * mine[self.cuts[number]]
            self.between[number] = self._back(0, self.first[number], branch)
        self.sums[0] = self.normed[0].summed()

    def through_the_joints(self) -> tuple[Tensor, Tensor | None]:
        """Gradients of the block's input and of its routes."""
        out, here = torch.empty_like(self.x), rows(self.place)
        of_routes = None if self.routes is None else torch.empty_like(self.routes)
        for number, cut in enumerate(self.cuts):
            towards = self._before_norm(0, self.between[number], self.first, number)
            towards = self._part("joined", pointwise_backward(towards, self.mixed[number], self.joined))
            self.mixed[number] = self.between[number] = None
            if of_routes is not None:
                placed = torch.add(self.x[cut], here, out=self.scratch("placed", *towards.shape))
                towards, of_routes[cut] = _routed_backward(towards, placed, self.routes[cut], self.scratch)
            self.parts.setdefault("place", []).append(towards.sum((0, 1)))
            torch.add(towards, self.through[number], out=out[cut])
            self.through[number] = None
        return out, of_routes

    def _given(self, number: int) -> Tensor:
        return self.given[self.cuts[number]].contiguous()

    def _around(self, number: int, towards: Tensor) -> Tensor:
        """The branch's gradient and that of the way around it."""
        straight = self._given(number)
        if self.down is None:
            return towards + straight
        straight = self._before_norm(4, straight, self.side, number)
        strided = self.middle[number][:, :: self.stride].contiguous()
        straight = self._part("down", pointwise_backward(straight, strided, self.down))
        towards = towards.contiguous()
        towards[:, :: self.stride] += straight
        return towards

    def _part(self, name: str, found: tuple[Tensor, Tensor]) -> Tensor:
        self.parts.setdefault(name, []).append(found[1])
        return found[0]

    def _again(self, which: int, before: Tensor) -> Tensor:
        return self.normed[which](before, self.scratch("norm", *before.shape))

    def _active(self, which: int, before: Tensor) -> Tensor:
        """The norm and its GELU again; `_back` needs the norm once more."""
        return gelu.out(self._again(which, before), out=self.scratch("active", *before.shape))

    def _back(self, which: int, before: Tensor, towards: Tensor) -> Tensor:
        """Through GELU, and the first pass of the norm before it, which `_again` has left; in place."""
        gelu_backward.grad_input(towards, self.scratch("norm", *before.shape), grad_input=towards)
        self.normed[which].add(towards, before)
        return towards

    def _before_norm(self, which: int, towards: Tensor, before: list[Any], number: int) -> Tensor:
        """The norm's second pass; what came before the norm is not needed any more."""
        piece, before[number] = before[number], None
        return self.normed[which].towards(towards, piece, self.scratch("towards", *piece.shape))

    def _branch(self, number: int, which: int, towards: Tensor) -> Tensor:
        mine = self.kept[which]
        if mine is None:
            return towards
        return torch.mul(towards, mine[self.cuts[number]], out=self.scratch("branch", *towards.shape))


class _Folded:
    """A block in inference, its norms folded into its convolutions."""

    def __init__(self, block: nn.Module) -> None:
        self.block: Any = block
        mix, after, down = self.block.mix.layers, self.block.after_joints, self.block.down
        self.joined = folded(after[0].weight, after[1])
        self.widen = folded(mix[0].weight, mix[1])
        self.along = folded(mix[3].weight, mix[4])
        self.narrow = folded(mix[6].weight, mix[7])
        self.down = None if isinstance(down, nn.Identity) else folded(down[0].weight, down[1])
        self.stride = mix[3].stride[0]
        self.taps = self.block.taps()
        self.place = rows(self.block.place)

    def __call__(self, x: Tensor, scratch: Scratch) -> Tensor:
        """(N, T, V, C) -> the same with this block's channels and frames."""
        routes, placed = self.block.routes(x.mean(1)), torch.add(x, self.place, out=scratch("placed", *x.shape))
        x = gelu_(pointwise(placed if routes is None else routed(placed, routes, scratch), *self.joined)).add_(x)
        moved = x if self.taps is None else shifted(x, self.taps, scratch)
        branch = gelu_(pointwise(moved, *self.widen))
        branch = gelu_(in_time(branch, self.along[0], self.stride, self.along[1]))
        branch = pointwise(branch, *self.narrow)
        branch += x if self.down is None else pointwise(x[:, :: self.stride].contiguous(), *self.down)
        return _attended(self.block, branch)


def inferred(network: nn.Module, x: Tensor) -> Tensor:
    """The features of bodies: (N, channels, T, V) -> (N, C, T/4, V), in memory with channels last.

    Args:
        network: a Last in evaluation mode.
        x: its input features.
    """
    lone: Any = network
    count, channels, frames, places = x.shape
    before, stem = lone.before, folded(lone.stem[0].weight, lone.stem[1])
    scale = before.weight * (before.running_var + before.eps).rsqrt()
    shift = (before.bias - before.running_mean * scale).view(channels, places).t()
    scale = scale.view(channels, places).t()
    blocks = [_Folded(block) for block in lone.blocks]
    widest = max(block.mix.layers[0].out_channels for block in lone.blocks[:1])
    found, scratch = [], Scratch()
    for cut in pieces(count, frames * places * widest):
        piece = gelu_(pointwise(torch.addcmul(shift, rows(x[cut]), scale), *stem))
        for block in blocks:
            piece = block(piece, scratch)
        found.append(piece)
    return image(torch.cat(found))
