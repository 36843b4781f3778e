"""outlast train RECIPE [flags]."""

from __future__ import annotations

from outlast import ranks
from outlast import recipe as recipes
from outlast.cli import flags, show
from outlast.errors import EXIT_FINISHED, SessionEnded, UsageError
from outlast.terminal import say


def run(argv: list[str], *, prog: str = "outlast train", recipe: str | None = None) -> int:
    """Train, or with --dry-run say what would be trained."""
    found, request, values = flags.read(prog, "Train a recipe, or continue its run.", argv, recipe)
    if found is None:
        raise UsageError(
            f"{prog} needs a recipe, such as `{prog} digits`: the recipes are: {', '.join(recipes.names())}."
        )
    prepared = recipes.prepare(found, request)
    if values.dry_run:
        show.prepared(prepared)
        show.warnings(prepared)
        say(f"data: {found.check(prepared.resolved.config)}" if found.check else "data: this recipe has no check")
        say("Dry run: everything above is valid; nothing was trained or written.")
        return EXIT_FINISHED
    return train(prepared, progress="json" if values.json else "auto")


def train(prepared: recipes.Prepared, *, progress: str) -> int:
    """Train what was prepared; exit code 75 and words on how to go on when the session ended first."""
    speaks = progress != "json" and ranks.first()
    if speaks:
        show.heading(prepared)
    try:
        run = recipes.start(prepared, progress=progress)
    except SessionEnded as ended:
        if speaks:
            say(f"Go on with: outlast resume {prepared.run_id}{_root(prepared)}{_budget(prepared)}")
        return int(ended.code or 0)
    if speaks:
        say(f"Look at it with: outlast status {run.id}{_root(prepared)}")
    return EXIT_FINISHED


def _budget(prepared: recipes.Prepared) -> str:
    """A budget belongs to a session, so the next one has to be given it again."""
    return f" --budget {prepared.given['budget']}" if "budget" in prepared.given else ""


def _root(prepared: recipes.Prepared) -> str:
    root = prepared.resolved.config.checkpoint_dir
    return "" if str(root) == "runs" else f" --checkpoint-dir {root}"
