"""outlast notebook RECIPE [flags]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outlast.cli import flags, stages
from outlast.cli.parser import output
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.recipe import prepare, registry
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Write a notebook that trains a recipe."""
    more: dict[str, dict[str, Any]] = {
        "output": {"type": Path, "metavar": "FILE", "help": "output file (default: RUN.ipynb)"},
        "resume-test": {
            "action": "store_true",
            "help": "write test_checkpoint_resume.ipynb instead: it kills a training, continues it, and compares",
        },
    }
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
    usual = "test_checkpoint_resume.ipynb" if values.resume_test else f"{name}.ipynb"
    target = output(Path(usual) if values.output is None else values.output, usual)
    write_notebook(prepared, target, test=values.resume_test)
    if values.resume_test:
        say(f"{target}: trains {name} twice, kills one of both, and compares, {format_bytes(target.stat().st_size)}")
        say("Give few steps, such as --epochs 2. Run all cells; the last one prints: All tests pass.")
        return EXIT_FINISHED
    say(f"{target}: setup, doctor, train, curves, samples and archive of {name}, {format_bytes(target.stat().st_size)}")
    say("Upload it where notebooks run (Kaggle, Colab), choose an accelerator, and run all cells.")
    return EXIT_FINISHED
