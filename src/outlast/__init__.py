"""outlast: training runs that outlive their sessions.

    import outlast
    with outlast.open_run("my-model", total_steps=10_000) as run:
        run.track(model=model, optimizer=optimizer, data=loader)
        for step in run.steps():
            run.log(loss=train_step(model, optimizer, next(loader)))

The public names are loaded when they are first used, so `import outlast` costs nothing and imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from outlast._version import __version__

if TYPE_CHECKING:
    from outlast import sinks as sinks
    from outlast.checkpoint import Retention as Retention
    from outlast.config import Config as Config
    from outlast.config import Section as Section
    from outlast.config import SupervisedConfig as SupervisedConfig
    from outlast.config import setting as setting
    from outlast.data.loader import DataLoader as DataLoader
    from outlast.data.sampler import BatchSampler as BatchSampler
    from outlast.environment import Environment as Environment
    from outlast.environment import detect as detect
    from outlast.errors import ConfigError as ConfigError
    from outlast.errors import DataError as DataError
    from outlast.errors import OutlastError as OutlastError
    from outlast.errors import RunNotFinished as RunNotFinished
    from outlast.errors import SessionEnded as SessionEnded
    from outlast.recipe.inspect import SavedCheckpoint as SavedCheckpoint
    from outlast.recipe.inspect import open_saved as open_saved
    from outlast.recipe.recipe import Command as Command
    from outlast.recipe.recipe import Recipe as Recipe
    from outlast.recipe.recipe import Stage as Stage
    from outlast.report.shown import show as show
    from outlast.run.open import open_run as open_run
    from outlast.run.run import Run as Run
    from outlast.state.rng import seed_everything as seed_everything
    from outlast.tracking import Sink as Sink

_HOMES = {
    "BatchSampler": "outlast.data.sampler",
    "Command": "outlast.recipe.recipe",
    "Config": "outlast.config",
    "ConfigError": "outlast.errors",
    "DataError": "outlast.errors",
    "DataLoader": "outlast.data.loader",
    "Environment": "outlast.environment",
    "OutlastError": "outlast.errors",
    "Recipe": "outlast.recipe.recipe",
    "Retention": "outlast.checkpoint",
    "Run": "outlast.run.run",
    "RunNotFinished": "outlast.errors",
    "SavedCheckpoint": "outlast.recipe.inspect",
    "Section": "outlast.config",
    "SessionEnded": "outlast.errors",
    "Sink": "outlast.tracking",
    "Stage": "outlast.recipe.recipe",
    "SupervisedConfig": "outlast.config",
    "detect": "outlast.environment",
    "open_run": "outlast.run.open",
    "open_saved": "outlast.recipe.inspect",
    "seed_everything": "outlast.state.rng",
    "setting": "outlast.config",
    "show": "outlast.report.shown",
    "sinks": "outlast.sinks",
}

_OLD_NAMES = {"Saved": "SavedCheckpoint"}  # programs that use them keep working

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 - the names are texts


def __getattr__(name: str) -> Any:
    name = _OLD_NAMES.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module 'outlast' has no attribute {name!r}; it has {', '.join(__all__)}")
    home = importlib.import_module(_HOMES[name])
    return home if _HOMES[name] == f"outlast.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
