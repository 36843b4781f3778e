"""Networks in forms that run without this project: torch.export and ONNX, each compared with the network before it is
kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import outlast

NEAR = 1e-4  # the most by which a logit may differ


def to_torch_export(network: nn.Module, inputs: Sequence[Tensor], target: Path) -> Iterable[str]:
    """Write a program that `torch.export.load` reads without the recipe's code; the first dimension of every input is
    free.

    Raises:
        outlast.OutlastError: it computes something else than the network.
    """
    free = tuple({0: torch.export.Dim("batch", min=1)} for _ in inputs)
    with torch.no_grad():
        program = torch.export.export(network, tuple(inputs), dynamic_shapes=free)
    torch.export.save(program, target)
    loaded = torch.export.load(target).module()
    worst = _compare(network, inputs, lambda given: loaded(*given), target)
    yield f"{target}: differs from the network by at most {worst:.1e}"
    yield f"Load it with: torch.export.load({str(target)!r}).module()"


def to_onnx(
    network: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], outputs: Sequence[str], target: Path
) -> Iterable[str]:
    """Write ONNX with a free first dimension, and run it once with ONNX Runtime.

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
    free = tuple({0: torch.export.Dim("batch", min=1)} for _ in inputs)
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
            dynamic_shapes=free,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    log.setLevel(level)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])

    def computed(given: Sequence[Tensor]) -> Tensor:
        feed = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    worst = _compare(network, inputs, computed, target)
    shapes = ", ".join(f"{name} {tuple(tensor.shape[1:])}" for name, tensor in zip(names, inputs, strict=True))
    yield f"{target}: differs from the network by at most {worst:.1e} under ONNX Runtime {onnxruntime.__version__}"
    yield f"Its input is {shapes}, in batches of any size."


@torch.no_grad()
def _compare(
    network: nn.Module, inputs: Sequence[Tensor], computed: Callable[[Sequence[Tensor]], Tensor], target: Path
) -> float:
    """The largest difference, on the traced inputs and on other numbers of them."""
    worst = 0.0
    for count in (len(inputs[0]), 1, 3):
        given = [tensor[[row % len(tensor) for row in range(count)]] for tensor in inputs]
        worst = max(worst, float((computed(given) - network(*given)).abs().max()))
    if not worst <= NEAR:
        target.unlink(missing_ok=True)
        raise outlast.OutlastError(
            f"The export {target} differs from the network by {worst:.1e}; expected at most {NEAR:.0e}. It was "
            "removed. Try another --format."
        )
    return worst
