"""A block of LAST on a CPU in float32 by `last.c`, where a C compiler is at hand.

The same function as in `fast`, to rounding, which computes it with torch's operations where there is none. What is kept
for the way back is what lies before each norm, and the block's input.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from outlast_recipes.common import native
from outlast_recipes.common.channels_last import Moments, Normed, folded, image, pieces, rows
from outlast_recipes.common.lanes import Lanes, Scratch

_SOURCE = Path(__file__).with_name("last.c")
_NORMS = 5  # behind the joints, the widening, the convolution in time, the narrowing, and on the way around
_MULTIPLE = 16  # of channels
_NORM = "scale shift mean inverse level slope means variances of_weight of_bias"
_SIZES = "frames after stride joints channels out_channels heads"
_ALONG = (
    "x place routes taps along joined widen narrow down joined_back widen_back narrow_back down_back "
    "kept_joints kept_time"
)
_FOUND = (
    "first second third fourth side out over_frames over_joints gradient of_frames of_joints given "
    "before_third before_second before_first through towards "
    "of_joined of_widen of_narrow of_down of_along of_taps of_place of_routes"
)
_OF_INFERENCE = "matrices strength pooled queries queries_shift inside inside_shift apart outside outside_shift eps"


def _fields(names: str, kind: type[ctypes.c_long | ctypes.c_void_p]) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class _Norm(ctypes.Structure):
    _fields_ = _fields(_NORM, ctypes.c_void_p)


class _Block(ctypes.Structure):
    """`struct block` of the source."""

    _fields_ = [
        *_fields(_SIZES, ctypes.c_long),
        *_fields(_ALONG, ctypes.c_void_p),
        ("norms", _Norm * _NORMS),
        *_fields(_FOUND, ctypes.c_void_p),
        *_fields(_OF_INFERENCE, ctypes.c_void_p),
    ]


_PASSES = (
    *("to_the_joints", "to_the_widening", "in_time", "to_the_narrowing", "to_the_end", "norms_at_the_end"),
    *("back_to_time", "back_through_time", "back_to_the_joints", "back_through_the_joints", "inferred"),
)


@functools.cache
def library() -> ctypes.CDLL | str:
    """The compiled passes, or in words why there are none."""
    found = native.library(_SOURCE)
    if isinstance(found, str):
        return found
    found.panel.restype = found.work_numbers.restype = ctypes.c_long
    found.work_numbers.argtypes = [ctypes.c_void_p]
    found.bent.restype, found.bent.argtypes = None, [ctypes.c_long] * 3 + [ctypes.c_void_p] * 4
    for name in _PASSES:
        one = getattr(found, name)
        one.restype = None
        one.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_void_p]
    return found


def how() -> str:
    """How LAST's blocks are computed on a CPU: resumed in another way, a run goes on with other last bits."""
    return native.how(_SOURCE)


def usable(block: nn.Module) -> bool:
    """Whether this block of LAST can be computed here."""
    lone: Any = block
    channels, out = lone.mix.layers[0].in_channels, lone.mix.layers[6].out_channels
    return channels % _MULTIPLE == out % _MULTIPLE == 0 and out <= 2 * channels and not isinstance(library(), str)


def _panels(matrix: Tensor) -> Tensor:
    """A right factor (depth, width) of `product`."""
    return torch.cat([part.flatten() for part in matrix.split(_loaded().panel(), 1)])


def _loaded() -> Any:
    found = library()
    if isinstance(found, str):
        raise RuntimeError(f"LAST's blocks are not compiled: {found}.")  # noqa: TRY004 (`usable` was not asked)
    return found


class _Call:
    """The argument of the passes: sizes and tensors, which live as long as this has them."""

    def __init__(self, **sizes: int) -> None:
        self._block = _Block(**sizes)
        self._tensors: dict[str, Tensor] = {}

    def give(self, **tensors: Tensor | None) -> None:
        for name, tensor in tensors.items():
            if tensor is not None:
                self._tensors[name] = _readable(name, tensor)
                setattr(self._block, name, tensor.data_ptr())

    def norm(self, which: int, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            self._tensors[f"{name} of norm {which}"] = _readable(name, tensor)
            setattr(self._block.norms[which], name, tensor.data_ptr())

    def take(self, *names: str) -> None:
        """Let tensors go that no pass needs any more."""
        for name in names:
            self._tensors.pop(name, None)
            setattr(self._block, name, None)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def copy(self) -> _Call:
        found = object.__new__(_Call)
        found._block, found._tensors = _Block.from_buffer_copy(self._block), dict(self._tensors)
        return found

    def run(self, name: str, bodies: slice, number: int, scratch: Scratch) -> None:
        """One pass over a piece."""
        address = ctypes.addressof(self._block)
        work = scratch("work", _loaded().work_numbers(address))
        getattr(_loaded(), name)(address, bodies.start, bodies.stop, number, work.data_ptr())

    def over(self, name: str, cuts: list[slice]) -> None:
        """One pass over all pieces."""
        Lanes()(lambda number, scratch: self.run(name, cuts[number], number, scratch), len(cuts))


def _readable(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise TypeError(
            f"{name} is {tensor.dtype} on {tensor.device} with strides {tensor.stride()}, not rows of floats."
        )
    return tensor


class Trained(torch.autograd.Function):
    """As `fast.Trained`, with the same arguments; gives the mean over frames (N, V, C) and joints (N, T, C), too."""

    @staticmethod
    def forward(
        ctx: Any, norms: list[nn.BatchNorm2d], stride: int, kept: tuple[Tensor | None, ...], *tensors: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        whole, routes, taps, place, joined, widen, along, narrow, down = tensors[:9]
        x = rows(whole)
        count, frames, joints, channels = x.shape
        wide, out, after = widen.shape[0], narrow.shape[0], -(-frames // stride)
        cuts = pieces(count, frames * joints * wide)
        call = _Call(frames=frames, after=after, stride=stride, joints=joints, channels=channels, out_channels=out,
                     heads=1 if routes is None else routes.shape[1])  # fmt: skip
        call.give(
            x=x, place=rows(place), routes=None if routes is None else routes.contiguous(), taps=_by_tap(taps),
            along=_by_tap(along), joined=_across(joined), widen=_across(widen), narrow=_across(narrow),
            down=_across(down), kept_joints=kept[0], kept_time=kept[1],
        )  # fmt: skip
        normed: dict[int, Normed] = {}

        def through(name: str, behind: dict[int, tuple[str, int, int]]) -> None:
            for which, (tensor, length, width) in behind.items():
                call.give(**{tensor: x.new_empty(count, length, joints, width)})
                call.norm(which, means=x.new_empty(len(cuts), width), variances=x.new_empty(len(cuts), width))
            call.over(name, cuts)
            for which, (_, length, _) in behind.items():
                counts = [(cut.stop - cut.start) * length * joints for cut in cuts]
                means, variances = (call[f"{kind} of norm {which}"] for kind in ("means", "variances"))
                normed[which] = own = Normed.of(norms[which], Moments.found(counts, means, variances))
                call.norm(which, scale=own.scale, shift=own.shift, mean=own.mean, inverse=own.inverse)

        around = {} if down is None else {4: ("side", after, out)}
        through("to_the_joints", {0: ("first", frames, channels)})
        through("to_the_widening", {1: ("second", frames, wide)} | around)
        through("in_time", {2: ("third", after, wide)})
        through("to_the_narrowing", {3: ("fourth", after, out)})
        found = x.new_empty(count, after, joints, out)
        over_frames, over_joints = x.new_empty(count, joints, out), x.new_empty(count, after, out)
        call.give(out=found, over_frames=over_frames, over_joints=over_joints)
        call.over("to_the_end", cuts)
        call.take("out", "over_frames", "over_joints")
        ctx.save_for_backward(*tensors[:9])  # for autograd's check that nobody has changed them since
        ctx.call, ctx.cuts, ctx.normed = call, cuts, normed
        ctx.set_materialize_grads(False)
        return image(found), over_frames, over_joints

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, of_frames: Tensor | None, of_joints: Tensor | None) -> tuple[Any, ...]:
        _, routes, taps, place, joined, widen, along, narrow, down = ctx.saved_tensors
        call, cuts, normed, x = ctx.call, ctx.cuts, ctx.normed, ctx.call["x"]
        del ctx.call
        gradient = rows(gradient)
        weights = {"joined": joined, "widen": widen, "narrow": narrow, "down": down, "along": along, "taps": taps}
        call.give(
            gradient=gradient, of_frames=None if of_frames is None else of_frames.contiguous(),
            of_joints=None if of_joints is None else of_joints.contiguous(), given=torch.empty_like(gradient),
        )  # fmt: skip
        call.give(**{f"{name}_back": _along(weights[name]) for name in ("joined", "widen", "narrow", "down")})
        for name, weight in weights.items():
            if weight is not None:
                shape = (weight.shape[2], weight.shape[0]) if name in ("along", "taps") else weight.shape[:2]
                call.give(**{f"of_{name}": x.new_zeros(len(cuts), *shape)})
        call.give(
            of_place=x.new_zeros(len(cuts), *x.shape[2:]),
            of_routes=None if routes is None else x.new_empty(routes.shape),
        )
        sums: dict[int, tuple[Tensor, Tensor]] = {}

        def back(name: str, norms: list[int], *needed: str) -> None:
            for which in norms:
                width = len(normed[which].weight)
                call.norm(which, of_weight=x.new_empty(len(cuts), width), of_bias=x.new_empty(len(cuts), width))
            call.over(name, cuts)
            for which in norms:
                of_weight, of_bias = (call[f"{kind} of norm {which}"] for kind in ("of_weight", "of_bias"))
                sums[which] = normed[which].given(of_weight.sum(0), of_bias.sum(0))
                call.norm(which, level=normed[which].level, slope=normed[which].slope)
            call.take(*needed)

        back("norms_at_the_end", [3] if down is None else [3, 4], "gradient", "of_frames", "of_joints")
        call.give(before_third=torch.empty_like(call["third"]))
        back("back_to_time", [2], "fourth")
        call.give(before_second=torch.empty_like(call["second"]))
        back("back_through_time", [1], "third", "before_third")
        call.give(before_first=torch.empty_like(x), through=torch.empty_like(x))
        back("back_to_the_joints", [0], "second", "before_second", "side", "given")
        call.give(towards=torch.empty_like(x))
        back("back_through_the_joints", [])
        there = [name for name, weight in weights.items() if weight is not None]
        found = {name: call[f"of_{name}"].sum(0) for name in (*there, "place")}
        return (
            None, None, None, image(call["towards"]), None if routes is None else call["of_routes"],
            None if taps is None else found["taps"].t().reshape(taps.shape),
            found["place"].t().reshape(place.shape), found["joined"].view_as(joined), found["widen"].view_as(widen),
            found["along"].t().reshape(along.shape), found["narrow"].view_as(narrow),
            None if down is None else found["down"].view_as(down),
            *(sums[which][0] for which in range(len(normed))),
            *(sums[which][1] for which in range(len(normed))),
        )  # fmt: skip


def _by_tap(weight: Tensor | None) -> Tensor | None:
    """(C, 1, K, 1) -> (K, C)."""
    return None if weight is None else weight.flatten(1).t().contiguous()


def _across(weight: Tensor | None) -> Tensor | None:
    """A 1x1 convolution (D, C, 1, 1) as the factor of its inputs."""
    return None if weight is None else _panels(weight.flatten(1).t())


def _along(weight: Tensor | None) -> Tensor | None:
    """The factor of its outputs' gradients."""
    return None if weight is None else _panels(weight.flatten(1))


class Folded:
    """As `fast.Folded`: a block in inference, its norms folded into its convolutions and its attention."""

    def __init__(self, block: nn.Module, frames: int) -> None:
        lone: Any = block
        mix, after, down, place = lone.mix.layers, lone.after_joints, lone.down, rows(lone.place)
        channels, out, self._stride = mix[0].in_channels, mix[6].out_channels, mix[3].stride[0]
        self.frames = -(-frames // self._stride)
        folds = [
            folded(*pair)
            for pair in ((after[0].weight, after[1]), *((mix[at].weight, mix[at + 1]) for at in (0, 3, 6)))
        ]
        if not isinstance(down, nn.Identity):
            folds.append(folded(down[0].weight, down[1]))
        routing = None if isinstance(lone.joints, nn.Identity) else lone.joints
        heads = 1 if routing is None else routing.heads
        self._call = _Call(frames=frames, after=self.frames, stride=self._stride, joints=place.shape[2],
                           channels=channels, out_channels=out, heads=heads)  # fmt: skip
        for which, (_, shift) in enumerate(folds):
            self._call.norm(which, shift=shift)
        joined, widen, along, narrow, *around = (weight for weight, _ in folds)
        self._call.give(
            place=place, taps=_by_tap(lone.taps()), along=_by_tap(along), joined=_across(joined), widen=_across(widen),
            narrow=_across(narrow), down=_across(around[0]) if around else None,
        )  # fmt: skip
        self._out, self._attends = out, not isinstance(lone.attention, nn.Identity)
        if routing is not None:
            self._call.give(**_routing(routing, lone.place))
        if self._attends:
            self._call.give(**_attention(lone.attention, self.frames))

    def __call__(self, x: Tensor, pooled: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor]:
        """As `fast.Folded`."""
        call, (count, _, joints, _) = self._call.copy(), x.shape
        found, over_frames = x.new_empty(count, self.frames, joints, self._out), x.new_empty(count, joints, self._out)
        call.give(x=x.contiguous(), pooled=pooled.contiguous(), out=found, over_frames=over_frames)
        if self._attends:
            call.give(over_joints=x.new_empty(count, self.frames, self._out))
        call.run("inferred", slice(0, count), 0, scratch)
        return found, over_frames


def _routing(joints: Any, place: Tensor) -> dict[str, Tensor]:
    """A JointRouting of x + E, as `routes_of` takes it."""
    found = {"matrices": joints.routes.contiguous()}
    if not joints.adaptive:
        return found
    weight, bias = joints.queries.weight[:, :, 0].clone(), joints.queries.bias.clone()
    key = len(weight) // (2 * joints.heads)
    for queries in (weight[: len(weight) // 2], bias[: len(weight) // 2]):
        queries /= key**0.5
    found["strength"] = joints.strength.flatten()
    return found | {"queries": _panels(weight.t()), "queries_shift": F.linear(place[0, :, 0].t(), weight, bias)}


def _attention(attention: Any, frames: int) -> dict[str, Tensor]:
    """A TimeAttention over so many frames, as `attend` takes it."""
    norm, bias = attention.norm, attention.biases(frames)
    weight, shift = attention.inside.weight * norm.weight, attention.inside(norm.bias)
    inner, heads = attention.outside.in_features, len(bias)
    for queries in (weight[:inner], shift[:inner]):
        queries /= (inner // heads) ** 0.5
    return {
        "inside": _panels(weight.t()),
        "inside_shift": shift,
        "apart": F.pad(bias, (0, -frames % _MULTIPLE), value=-1e30),
        "outside": _panels((attention.outside.weight * attention.scale.unsqueeze(1)).t()),
        "outside_shift": attention.outside.bias * attention.scale,
        "eps": bias.new_tensor([norm.eps]),
    }


class Stem:
    """The network's first convolution in inference: GELU of a folded 1x1 convolution."""

    def __init__(self, weight: Tensor, shift: Tensor) -> None:
        self._width, self._weight, self._shift = len(weight), _panels(weight.flatten(1).t()), shift.contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """(N, T, V, C) -> (N, T, V, D)."""
        x = x.contiguous()
        found = x.new_empty(*x.shape[:3], self._width)
        addresses = [tensor.data_ptr() for tensor in (x, self._weight, self._shift, found)]
        _loaded().bent(x.numel() // x.shape[3], x.shape[3], self._width, *addresses)
        return found
