"""outlast notebook RECIPE [flags]."""

from __future__ import annotations

from pathlib import Path

from outlast.cli import flags, stages
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.recipe import prepare, registry
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Write a notebook that trains a recipe."""
    more = {"output": {"type": Path, "metavar": "FILE", "help": "output file (default: RUN.ipynb)"}}
    found, request, values = flags.read(
        "outlast notebook",
        "Write a notebook that trains a recipe, for the browser.",
        argv,
        more=more,
        leave_out=("dry-run", "json"),
    )
    if found is None:
        raise UsageError(
            "outlast notebook needs a recipe, as in `outlast notebook RECIPE`; the recipes are "
            f"{', '.join(registry.names())}."
        )
    from outlast.launch.notebook import write_notebook

    prepared = prepare.prepare(found, stages.chosen(found, request))
    name = prepared.chain or prepared.run_id
    usual = f"{name}.ipynb"
    target = flags.output(Path(usual) if values.output is None else values.output, usual)
    write_notebook(prepared, target)
    say(f"{target}: setup, doctor, train, curves, samples and archive of {name}, {format_bytes(target.stat().st_size)}")
    say("Upload it where notebooks run (Kaggle, Colab), choose an accelerator, and run all cells.")
    return EXIT_FINISHED
