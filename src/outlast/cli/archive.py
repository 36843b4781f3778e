"""outlast archive RUN."""

from __future__ import annotations

from pathlib import Path

from outlast.cli.flags import RECIPE
from outlast.cli.named import run_of
from outlast.cli.parser import Parser, output
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED
from outlast.folder.layout import RunFolder
from outlast.recipe.lookup import part_of, step_of
from outlast.recipe.registry import find
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Write a run's results as one zip."""
    parser = Parser(
        "outlast archive", "Write a run's results as one zip: config, history, curves, final model, artifacts."
    )
    parser.add_argument("run", help="a run's name or folder")
    parser.add_runs_folder()
    parser.add_argument(
        "--step", help='checkpoint: a step, or "best" by the run\'s metric (default: the newest that verifies)'
    )
    parser.add_argument(
        "--part",
        help="tracked name of the model (default: the part that the recipe measures, or a script's only network)",
    )
    parser.add_argument("--recipe", metavar="PATH", help=RECIPE)
    parser.add_argument(
        "--all-lines",
        action="store_true",
        help="write every line of a long journal into training_history.json (default: thinned above 100,000 lines)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="output file (default: RUN_outputs.zip)")
    values = parser.parse(argv)
    from outlast.report.archive import archive

    place = RunFolder(run_of(values.run, values.checkpoint_dir))
    usual = f"{place.path.resolve().name}_outputs.zip"
    target = output(Path(usual) if values.output is None else values.output, usual)
    recipe = find(values.recipe) if values.recipe else None
    step = None if values.step is None else step_of(place, values.step, recipe)
    made = archive(
        place.path, target, part=values.part or part_of(place, recipe, step), step=step, all_lines=values.all_lines
    )
    for sentence in made.told:
        say(sentence)
    say(f"{target}: {', '.join(made.names)}, {format_bytes(target.stat().st_size)}")
    return EXIT_FINISHED
