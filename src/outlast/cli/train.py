"""outlast train RECIPE [flags]."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from outlast.cli import flags, show, stages
from outlast.distributed import ranks
from outlast.errors import EXIT_FINISHED, SessionEnded, UsageError
from outlast.launch.records import check_closed
from outlast.recipe import prepare, publishing, registry
from outlast.recipe.recipe import Recipe
from outlast.terminal import command, say


def run(argv: list[str], *, prog: str = "outlast train", recipe: Recipe | None = None) -> int:
    """Train, or with --dry-run print what would be trained."""
    found, request, values = flags.read(prog, "Train a recipe, or continue its run.", argv, recipe)
    if found is None:
        raise UsageError(
            f"{prog} needs a recipe, as in `{prog} RECIPE`; the recipes are {', '.join(registry.names())}."
        )
    progress = "json" if values.json else "auto"
    speaks = not values.json and ranks.is_main_process()
    if found.stages and not values.dry_run:
        code = stages.train(found, request, functools.partial(train, progress=progress), speaks=speaks)
        return code or _publish(stages.trained(found, request), speaks=speaks)
    with flags.looked_up():
        prepared = stages.dry(found, request) if found.stages else prepare.prepare(found, request)
    if values.dry_run:
        publishing.check(prepared)
        check_closed(prepared.folder)
        show.prepared(prepared)
        show.warnings(prepared)
        check = registry.loaded(found).check
        say(f"data: {check(prepared.resolved.config)}" if check else "data: this recipe has no check")
        say("Dry run: everything above is valid; nothing was trained or written.")
        return EXIT_FINISHED
    return train(prepared, progress=progress) or _publish([prepared], speaks=speaks)


def _publish(finished: Iterable[prepare.PreparedRun], *, speaks: bool) -> int:
    """Publish finished runs as their configuration states; raises PublishFailed."""
    for prepared in finished if ranks.is_main_process() else ():
        for line in publishing.publish(prepared):
            if speaks:
                say(line)
    return EXIT_FINISHED


def train(prepared: prepare.PreparedRun, *, progress: str) -> int:
    """Train a prepared run. If the session ends before the run, prints the command that continues it, and returns 75.

    Raises:
        RunBusy: the run was launched elsewhere and was not fetched.
        ConfigError: it could not be published as its configuration states.
    """
    check_closed(prepared.folder)
    publishing.check(prepared)
    speaks = progress != "json" and ranks.is_main_process()
    if speaks:
        stages.heading(prepared)
    try:
        run = prepare.start(prepared, progress=progress)
    except SessionEnded as ended:
        if speaks:
            again = command(
                "outlast",
                "resume",
                _name(prepared),
                *_recipe(prepared.recipe),
                *_root(prepared),
                *_budget(prepared),
                *_remote(prepared),
                *_publication(prepared),
            )
            say(f"Go on with: {again}")
        return int(ended.code or 0)
    if speaks:
        say(f"Look at it with: {command('outlast', 'status', run.id, *_root(prepared))}")
    return EXIT_FINISHED


def _name(prepared: prepare.PreparedRun) -> str:
    """The name under which all that is left is resumed: that of the chain, or of a run that is no link of one."""
    stage = prepared.recipe.stage
    return prepared.run_id if prepared.chain is None or (stage and stage.instead) else prepared.chain


def _recipe(found: Recipe) -> Iterator[str]:
    """The --recipe flag of the next command: a file is imported only if the user names it."""
    if not registry.is_installed(found.source):
        yield from ("--recipe", found.source)


def _budget(prepared: prepare.PreparedRun) -> Iterator[str]:
    """The --budget flag of the next command: a budget is valid for one session."""
    if "budget" in prepared.given:
        yield from ("--budget", str(prepared.given["budget"]))


def _remote(prepared: prepare.PreparedRun) -> Iterator[str]:
    """The --remote flag of the next command, if it was given."""
    if "remote" in prepared.given:
        yield from ("--remote", str(prepared.given["remote"]))


def _publication(prepared: prepare.PreparedRun) -> Iterator[str]:
    """The --publish flags of the next command, if they were given."""
    for key, value in prepared.given.items():
        if key.startswith("publish."):
            yield from (f"--{key}", str(value))


def _root(prepared: prepare.PreparedRun) -> Iterator[str]:
    root = prepared.resolved.config.checkpoint_dir
    if str(root) != "runs":
        yield from ("--checkpoint-dir", str(root))
