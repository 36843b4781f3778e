"""outlast export RUN."""

from __future__ import annotations

from pathlib import Path

from outlast.checkpoint.export import describe, export
from outlast.checkpoint.manifest import read_manifest
from outlast.cli.flags import RECIPE
from outlast.cli.named import run_of
from outlast.cli.parser import Parser, output
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder.artifact import manifest_of
from outlast.folder.durable import make_folder, remove_file
from outlast.folder.layout import RunFolder
from outlast.recipe.inspect import SavedCheckpoint, open_saved
from outlast.recipe.lookup import part_of, step_of
from outlast.recipe.registry import find, loaded
from outlast.report import read_run
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Write one part of a checkpoint as safetensors, or in a format of the recipe."""
    parser = Parser("outlast export", "Write the model of a checkpoint for use elsewhere.")
    parser.add_argument("run", help="a run's name or folder")
    parser.add_runs_folder()
    parser.add_argument(
        "--step",
        default="latest",
        help='checkpoint: a step, "latest", or "best" by the run\'s metric (default: latest)',
    )
    parser.add_argument(
        "--part",
        help="tracked name to write (default: the part that the recipe measures, or a script's only network)",
    )
    parser.add_argument(
        "--format", default="safetensors", help="file format: safetensors, or one that the recipe offers, such as onnx"
    )
    parser.add_argument("--recipe", metavar="PATH", help=RECIPE)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="output file (default: RUN-PART-step-STEP.FORMAT)"
    )
    values = parser.parse(argv)
    folder = read_run(run_of(values.run, values.checkpoint_dir)).folder
    recipe = find(values.recipe) if values.recipe else None
    step = step_of(RunFolder(folder), values.step, recipe)
    part = values.part or part_of(RunFolder(folder), recipe, step)
    if values.format != "safetensors":
        target = _other(open_saved(folder, step=step, recipe=recipe), part, values.format, values.output)
        say(f"Its manifest is {_describe(RunFolder(folder), step, part, target)}")
        return EXIT_FINISHED
    usual = f"{folder.resolve().name}-{part}-step-{step}.safetensors"
    target = output(Path(usual) if values.output is None else values.output, usual)
    remove_file(manifest_of(target))
    count = export(RunFolder(folder).checkpoint(step), part, target)
    manifest = _describe(RunFolder(folder), step, part, target)
    say(f"{target}: the {count} tensors of {part!r} at step {step}, {format_bytes(target.stat().st_size)}")
    say(f"Its manifest is {manifest}")
    say(f"Load them with: model.load_state_dict(safetensors.torch.load_file({str(target)!r}))")
    return EXIT_FINISHED


def _describe(folder: RunFolder, step: int, part: str, target: Path) -> Path:
    return describe(folder, read_manifest(folder.checkpoint(step)), part, target)


def _other(opened: SavedCheckpoint, part: str, form: str, given: Path | None) -> Path:
    forms = loaded(opened.recipe).exports
    if form not in forms:
        known = ", ".join(["safetensors", *sorted(forms)])
        raise UsageError(f"--format is {form!r}; runs of {opened.recipe.name} are exported as: {known}.")
    usual = f"{opened.run_id}-{part}-step-{opened.step}.{form}"
    target = output(Path(usual) if given is None else given, usual)
    make_folder(target.parent)
    remove_file(manifest_of(target))
    for line in forms[form](opened, part, target):
        say(line)
    return target
