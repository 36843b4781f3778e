"""outlast resume RUN [flags]."""

from __future__ import annotations

import contextlib
from pathlib import Path

from outlast.cli import train
from outlast.cli.flags import looked_up, pull
from outlast.config.words import nearest
from outlast.environment import detect
from outlast.errors import UnknownName, UsageError
from outlast.folder import layout, reading
from outlast.folder.layout import RunFolder
from outlast.recipe import prepare, recipe, registry
from outlast.report.chain import chain_at, under_way
from outlast.run.arguments import remote_address
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Resume a run: `train` with the recipe that the run has recorded."""
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            say(
                "usage: outlast resume RUN [--recipe PATH] [flags of the run's recipe]",
                "",
                "Continue a run by its name, with the values it had. Flags given here win.",
                "A recipe that is a file is run only when --recipe names it.",
                "`outlast train RECIPE --help` lists the flags.",
                "--checkpoint-dir names the folder of the runs (default: OUTLAST_ROOT, or ./runs).",
            )
            return 0
        raise UsageError("outlast resume needs a run's name or folder; `outlast runs` lists those there are.")
    name = argv[0]
    own, rest = pull(argv[1:], "--recipe")
    root, _ = pull(rest, "--checkpoint-dir")
    remote, _ = pull(rest, "--remote")
    with looked_up():
        _bring_home(name, layout.runs_root(root), remote)
        found = recipe_of(name, layout.runs_root(root), own)
    return train.run([*rest, "--resume", name], prog="outlast resume", recipe=found)


def _bring_home(name: str, root: Path, remote: str | None) -> None:
    """Copy a run that is not on this machine from its remote, if the remote is known."""
    address = remote_address(remote)
    if address and "/" not in name and prepare.locate(name, root, detect().inputs) is None:
        from outlast.remote import carry  # a run is seldom elsewhere
        from outlast.remote.address import open_remote

        with contextlib.closing(open_remote(address, writes=False)) as there:
            for sentence in carry.pull(RunFolder(root / layout.check_run_id(name)), there):
                say(sentence)


def recipe_of(name: str, root: Path, own: str | None) -> recipe.Recipe:
    """The recipe that the user names, or else the one that the run has recorded.

    Raises:
        UnknownName: there is no such run.
        UsageError: the run was begun by a script, or by a file, which the user must name.
    """
    path = Path(name)
    checkpoint_of = path.resolve().parents[1] if layout.step_of(path) is not None else None
    folder = prepare.locate(str(checkpoint_of or name), root, detect().inputs)
    if folder is None and (links := chain_at(name, root)):
        folder = under_way(links).folder
    if folder is None:
        there = sorted(path.parent.name for path in root.glob("*/run.json"))
        raise UnknownName(
            f"There is no run {name!r}: {root} holds {', '.join(there) or 'no runs yet'}.{nearest(name, there)}"
        )
    if own:
        return registry.find(own)
    recipe = reading.read_json(folder / "run.json").get("recipe")
    if recipe is None:
        raise UsageError(
            f"The run {folder} was begun by a script, not by a recipe: start that script again and it continues."
        )
    return registry.stored(recipe, folder / "run.json")
