"""Networks in forms that run without this project: torch.export and ONNX, each compared with the network before it is
kept."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import outlast

NEAR = 1e-4  # the most by which a logit may differ


Free = Sequence[Mapping[int, str]]
"""For each input the dimensions that are free, and their names; the same name is the same size."""


def to_torch_export(
    network: nn.Module,
    inputs: Sequence[Tensor],
    target: Path,
    *,
    free: Free | None = None,
    others: Sequence[Sequence[Tensor]] = (),
) -> Iterable[str]:
    """Write a program that `torch.export.load` reads without the recipe's code.

    Args:
        network: in evaluation mode; gives a tensor or a tuple of them.
        inputs: that the program is traced with.
        target: file to write.
        free: by default the first dimension of every input.
        others: more inputs on which the program is compared with the network.

    Raises:
        outlast.OutlastError: it computes something else than the network.
    """
    with torch.no_grad():
        program = torch.export.export(network, tuple(inputs), dynamic_shapes=_dimensions(network, inputs, free))
    torch.export.save(program, target)
    loaded = torch.export.load(target).module()
    worst = _compare(network, [*_batches(inputs), *others], lambda given: _tuple(loaded(*given)), target)
    yield f"{target}: differs from the network by at most {worst:.1e}"
    yield f"Load it with: torch.export.load({str(target)!r}).module()"


def to_onnx(
    network: nn.Module,
    inputs: Sequence[Tensor],
    names: Sequence[str],
    outputs: Sequence[str],
    target: Path,
    *,
    free: Free | None = None,
    others: Sequence[Sequence[Tensor]] = (),
) -> Iterable[str]:
    """Write ONNX, and run it with ONNX Runtime.

    Args:
        network, inputs, target, free, others: as of `to_torch_export`.
        names: of the inputs.
        outputs: names of the outputs.

    Raises:
        outlast.OutlastError: a package is missing, or it computes something else than the network.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch asks for it later and says less
    except ModuleNotFoundError as error:
        raise outlast.OutlastError(
            f"Writing ONNX needs {error.name}, which is not installed: pip install 'outlast[export]'"
        ) from error
    log = logging.getLogger("torch.onnx")
    level = log.level
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of the exporter's own parts about each other, and of torchvision, which nobody needs here
        log.setLevel(logging.ERROR)
        torch.onnx.export(
            network,
            tuple(inputs),
            target,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=_dimensions(network, inputs, free),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    log.setLevel(level)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])

    def computed(given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        feed = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        return tuple(torch.from_numpy(each) for each in session.run(None, feed))

    worst = _compare(network, [*_batches(inputs), *others], computed, target)
    shapes = ", ".join(
        f"{name} {_shape(tensor, dims)}"
        for name, tensor, dims in zip(names, inputs, free or [{0: "batch"}] * len(inputs), strict=True)
    )
    yield f"{target}: differs from the network by at most {worst:.1e} under ONNX Runtime {onnxruntime.__version__}"
    yield f"Its input is {shapes}, in batches of any size."


def _shape(tensor: Tensor, free: Mapping[int, str]) -> str:
    """The shape without the first dimension, free dimensions by name: (T, 78, 2)."""
    sizes = [str(free.get(place, size)) for place, size in enumerate(tensor.shape)][1:]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _dimensions(network: nn.Module, inputs: Sequence[Tensor], free: Free | None) -> tuple[Any, ...]:
    free = free or [{0: "batch"}] * len(inputs)
    made = {name: torch.export.Dim(name, min=1) for dims in free for name in dims.values()}
    found = tuple({place: made[name] for place, name in dims.items()} for dims in free)
    kinds = {parameter.kind for parameter in inspect.signature(network.forward).parameters.values()}
    return (found,) if inspect.Parameter.VAR_POSITIONAL in kinds else found  # torch takes *inputs for one


def _tuple(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def _batches(inputs: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """The traced inputs, and other numbers of them."""
    return [
        [tensor[[row % len(tensor) for row in range(count)]] for tensor in inputs] for count in (len(inputs[0]), 1, 3)
    ]


@torch.no_grad()
def _compare(
    network: nn.Module,
    given: Sequence[Sequence[Tensor]],
    computed: Callable[[Sequence[Tensor]], tuple[Tensor, ...]],
    target: Path,
) -> float:
    """The largest difference of an output on any of the given inputs."""
    worst = 0.0
    for inputs in given:
        for found, expected in zip(computed(inputs), _tuple(network(*inputs)), strict=True):
            worst = max(worst, float((found - expected).abs().max()))
    if not worst <= NEAR:
        target.unlink(missing_ok=True)
        raise outlast.OutlastError(
            f"The export {target} differs from the network by {worst:.1e}; expected at most {NEAR:.0e}. It was "
            "removed. Try another --format."
        )
    return worst
