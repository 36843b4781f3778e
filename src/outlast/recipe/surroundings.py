"""The environment of a recipe: what is measured, within what the environment file states about the machine."""

from __future__ import annotations

from pathlib import Path

from outlast.config import find_file
from outlast.config.machine import read_machine
from outlast.environment import Environment, detect


def surroundings(name: str = "auto") -> tuple[Environment, Path | None]:
    """The environment of this session, and its file in configs/, if there is one.

    Args:
        name: as that of `detect`.

    Raises:
        UsageError: the environment is unknown.
        ConfigError: the file cannot be read, or states a bound that is none.
    """
    environment = detect(name)
    file = find_file(f"environment/{environment.name}.yaml")
    stated = read_machine(file)
    limits = environment.limits.within(stated.bounds, stated.places, environment.age)
    inputs = environment.inputs
    if stated.inputs is not None and stated.inputs not in inputs:
        inputs = (*inputs, stated.inputs)
    return environment._replace(limits=limits, inputs=inputs), file
