"""outlast copy RECIPE FOLDER."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from outlast.cli.parser import Parser
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder.layout import check_run_id
from outlast.recipe import registry
from outlast.terminal import command, say


def run(argv: list[str]) -> int:
    """Copy a recipe's folder. The copy has its own name, so its runs are separate from the original's."""
    parser = Parser("outlast copy", "Copy a recipe to make it your own.")
    parser.add_argument("recipe", help="a recipe's name or folder")
    parser.add_argument("folder", type=Path, help="target folder; must not exist yet")
    values = parser.parse(argv)
    target = copy(values.recipe, values.folder)
    say(f"Copied to {target}. Change {target / 'recipe.py'} and train it with: {command('outlast', 'train', target)}")
    return EXIT_FINISHED


def copy(name: str, target: Path) -> Path:
    """Copy a recipe's folder to a new folder and give it that folder's name."""
    own, source = registry.source_of(name)
    check_run_id(target.name)
    if target.exists():
        raise UsageError(
            f"{target} exists already; choose a folder that does not, so that nothing of yours is overwritten."
        )
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
    script = target / "recipe.py"
    text = script.read_text(encoding="utf-8")
    renamed = re.sub(rf'name="{re.escape(own)}"', f'name="{target.name}"', text)
    script.write_text(renamed, encoding="utf-8")
    for module in target.glob("*.py"):  # siblings are imported from the copy
        words = module.read_text(encoding="utf-8").replace(f"from outlast_recipes.{source.name}.", "from .")
        module.write_text(words.replace(f"from outlast_recipes.{source.name} ", "from . "), encoding="utf-8")
    readme = target / "README.md"
    if readme.exists():
        lines = readme.read_text(encoding="utf-8").splitlines(keepends=True)
        words = "".join(line for line in lines if f"outlast copy {own} " not in line)  # it is the copy
        words = words.replace(f"outlast train {own}", command("outlast", "train", target))
        readme.write_text(words.replace(f"# {own}\n", f"# {target.name}\n", 1), encoding="utf-8")
    return target
