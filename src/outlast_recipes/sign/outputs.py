"""What a finished training leaves besides its checkpoints, in the run's folder for artifacts.

{ModelName}_best.safetensors    the averaged weights that were best on validation
{ModelName}_last.safetensors    those of the last step

With --smoke-test their names begin with SMOKE-TEST-.
"""

from __future__ import annotations

import json

from safetensors.torch import save
from torch import nn

from outlast import Run
from outlast_recipes.common.artifacts import is_written
from outlast_recipes.common.selection import BestByValidation

SMOKE = "SMOKE-TEST-"


def write(run: Run, last: nn.Module, best: BestByValidation, *, generated: bool) -> None:
    """Write the weights.

    Args:
        run: whose training has ended.
        last: the averaged network of the last step.
        best: the one that was best on validation.
        generated: whether it was a smoke test.
    """
    kind = (SMOKE if generated else "") + type(last).__name__
    for name, network, part in (("last", last, "ema"), ("best", best.weights if best.epoch else None, "best")):
        file = f"{kind}_{name}.safetensors"
        if network is not None and not is_written(run, file):
            about = {"model": type(last).__name__, "step": str(run.step), "generated": str(generated).lower()}
            with run.artifact(file, part=part) as target:
                tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
                target.write_bytes(_ordered(save(tensors, {"format": "pt", **about})))


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its texts in a fixed order.

    The library writes them in another order each time (safetensors 0.8.0, its issue 584), so equal weights would not be
    equal files.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return content[:8] + text.ljust(end - 8) + content[end:]
