"""A population that forages, reproduces, evolves and learns. `training` trains it.

Nothing here needs a framework, so that a machine without one can launch a training elsewhere.
"""

from __future__ import annotations

import outlast
from outlast_recipes.emergence.config import RENAMED, Config

recipe = outlast.Recipe(
    name="emergence",
    summary="a population that forages, reproduces, evolves and learns by PPO (JAX)",
    Config=Config,
    code=".training",
    part="state",
    renamed=RENAMED,
)
