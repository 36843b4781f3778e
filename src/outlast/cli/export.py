"""outlast export RUN."""

from __future__ import annotations

from pathlib import Path

from outlast.checkpoint import Retention, Store
from outlast.checkpoint.export import export
from outlast.cli.flags import Parser
from outlast.cli.status import folder_of
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED, UnknownName, UsageError
from outlast.files import RunFolder
from outlast.recipe import find
from outlast.report import read_run


def run(argv: list[str]) -> int:
    """Write one part of a checkpoint as a plain safetensors file."""
    parser = Parser("outlast export", "Write the model of a checkpoint as safetensors.")
    parser.add_argument("run", help="a run's name or folder")
    parser.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    parser.add_argument(
        "--step", default="latest", help='a step, "latest", or "best" by the recipe\'s metric (default: latest)'
    )
    parser.add_argument("--part", help="what to write: a tracked name (default: the part that the recipe measures)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: RUN-PART-step-STEP.safetensors here"
    )
    values = parser.parse(argv)
    folder = read_run(folder_of(values.run, values.checkpoint_dir)).folder
    step = step_of(RunFolder(folder), values.step)
    part = values.part or part_of(RunFolder(folder))
    target = values.output or Path(f"{folder.resolve().name}-{part}-step-{step}.safetensors")
    count = export(RunFolder(folder).checkpoint(step), part, target)
    print(f"{target}: the {count} tensors of {part!r} at step {step}, {format_bytes(target.stat().st_size)}")
    print(f"Load them with: model.load_state_dict(safetensors.torch.load_file({str(target)!r}))")
    return EXIT_FINISHED


def part_of(place: RunFolder) -> str:
    """The part of a run that its recipe measures; "model" for a script's."""
    recipe = read_run(place.path).about["recipe"]
    return find(recipe).part if recipe else "model"


def step_of(place: RunFolder, wanted: str) -> int:
    """The step that a user means by a number, "latest" or "best"."""
    checkpoints = Store(place).committed()
    if not checkpoints:
        raise UnknownName(f"{place.path} has no checkpoints yet.")
    if wanted == "latest":
        return checkpoints[-1].step
    if wanted == "best":
        about = read_run(place.path).about
        recipe = find(about["recipe"]) if about["recipe"] else None
        if recipe is None or recipe.metric is None:
            raise UsageError(f"--step best needs a recipe with a metric, and {place.path} has none; give a step.")
        best = Retention(best=1, metric=recipe.metric, mode=recipe.mode).best_step([c.kept for c in checkpoints])
        if best is None:
            raise UnknownName(f"No checkpoint in {place.path} logged {recipe.metric} at its own step; give a step.")
        return best
    steps = [checkpoint.step for checkpoint in checkpoints]
    if not wanted.isdigit() or int(wanted) not in steps:
        raise UnknownName(f"{place.path} has no checkpoint at step {wanted}; there are {', '.join(map(str, steps))}.")
    return int(wanted)
