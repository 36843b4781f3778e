"""A recipe for tests of launching, as it is launched from the working folder."""

from __future__ import annotations

from outlast.launch.work import RecipeWork
from outlast.recipe import prepare, registry


def work(recipe: str, **flags: str) -> RecipeWork:
    """The recipe with these values, in a run of its own name unless another is given."""
    given = {"experiment_name": recipe, **flags}
    return RecipeWork(prepare.prepare(registry.find(recipe), prepare.Request(flags=given)))
