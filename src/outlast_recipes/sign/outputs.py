"""What a finished training leaves besides its checkpoints, in the run's folder for artifacts.

{ModelName}_best.safetensors    the averaged weights that were best on validation
{ModelName}_last.safetensors    those of the last step

With --smoke-test their names begin with SMOKE-TEST-.
"""

from __future__ import annotations

from safetensors.torch import save_file
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
                save_file(tensors, target, {"format": "pt", **about})
                target.chmod(0o644)  # save_file makes it private
