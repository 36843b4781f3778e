"""outlast resume RUN [flags]."""

from __future__ import annotations

from pathlib import Path

from outlast import files
from outlast import recipe as recipes
from outlast.cli import train
from outlast.config.yamlfile import nearest
from outlast.environment import detect
from outlast.errors import UnknownName, UsageError
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Continue a run: `train` with the recipe that the run remembers."""
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            say(
                "usage: outlast resume RUN [flags of the run's recipe]",
                "",
                "Continue a run by its name, with the values it had. Flags given here win.",
                "`outlast train RECIPE --help` lists them; --checkpoint-dir says where the runs are, when not in ./runs.",
            )
            return 0
        raise UsageError("outlast resume needs a run's name or folder; `outlast runs` lists those there are.")
    name, rest = argv[0], argv[1:]
    return train.run([*rest, "--resume", name], prog="outlast resume", recipe=recipe_of(name, rest))


def recipe_of(name: str, rest: list[str]) -> str:
    """The recipe that a run remembers; raises UnknownName or UsageError when there is none."""
    root = Path("runs")
    for index, word in enumerate(rest):
        flag, _, value = word.partition("=")
        if flag.replace("_", "-") == "--checkpoint-dir":
            root = Path(value or (rest[index + 1] if index + 1 < len(rest) else "runs"))
    path = Path(name)
    checkpoint_of = path.resolve().parents[1] if files.step_of(path) is not None else None
    folder = recipes.locate(str(checkpoint_of or name), root, detect().inputs)
    if folder is None:
        there = sorted(path.parent.name for path in root.glob("*/run.json"))
        raise UnknownName(
            f"There is no run {name!r}: {root} holds {', '.join(there) or 'no runs yet'}.{nearest(name, there)}"
        )
    recipe = files.read_json(folder / "run.json").get("recipe")
    if not recipe:
        raise UsageError(
            f"The run {folder} was begun by a script, not by a recipe: start that script again and it continues."
        )
    return str(recipe)
