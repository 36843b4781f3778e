"""Finds the largest batch that fits: powers of two, each tried in a process of its own.

Upwards by doubling, because a batch of twice the size needs about twice the memory, so that no try is far beyond what
fits; downwards by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from outlast.config import Config, leaves
from outlast.config.units import format_bytes
from outlast.errors import UsageError
from outlast.recipe.measuring import Measured
from outlast.recipe.recipe import Recipe

LARGEST = 2**20
FIRST = 16
"""Tried first where a recipe chooses the batch size itself."""


@dataclass(frozen=True)
class Found:
    """The largest batch that fits.

    Attributes:
        batch: its size.
        measured: what was measured with it.
        above: what became of the next larger one.
    """

    batch: int
    measured: Measured
    above: str


def key_of(recipe: Recipe) -> str:
    """The key of the batch size of a recipe: the value that has the flag -b.

    Raises:
        UsageError: it has none.
    """
    found = next((leaf.key for leaf in leaves(recipe.Config) if "-b" in leaf.extra["flags"]), None)
    if found is None:
        raise UsageError(
            f"--find-batch looks for the value with the flag -b, and the recipe {recipe.name!r} has none. Measure one "
            "size at a time instead: leave --find-batch out and give --on."
        )
    return found


def meaning(recipe: Recipe, key: str) -> str:
    """What the value of a key is, in the words of its help."""
    found = next((leaf.info.description for leaf in leaves(recipe.Config) if leaf.key == key), None)
    return found or key


def search(first: int, attempt: Callable[[int], Measured], tell: Callable[[str], None]) -> Found:
    """The largest power of two that fits.

    Args:
        first: the size to begin with; the power of two below it is taken.
        attempt: measures a training with a batch size.
        tell: hears of each try.

    Raises:
        UsageError: none fits, or the training fails for another reason than memory.
    """
    size = 1 << (max(1, first).bit_length() - 1)
    tried: dict[int, Measured] = {}

    def fits(batch: int) -> bool:
        tried[batch] = found = attempt(batch)
        tell(_line(batch, found))
        if found.why not in ("memory", "ok") and not any(each.why == "ok" for each in tried.values()):
            raise UsageError(f"No batch can be found, because the training itself fails with {batch}: {found.words}")
        return found.why == "ok"

    if fits(size):
        while size < LARGEST and fits(2 * size):
            size *= 2
        above = tried.get(2 * size)
        return Found(size, tried[size], "not tried" if above is None else f"{2 * size}: {above.words}")
    low, high = -1, size.bit_length() - 1  # exponents: fits, does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(1 << middle) else (low, middle)
    if low < 0:
        raise UsageError(f"No batch fits, not even 1: {tried[1].words if 1 in tried else tried[size].words}")
    return Found(1 << low, tried[1 << low], f"{1 << high}: {tried[1 << high].words}")


def depends(recipe: Recipe, config: Config, key: str, batch: int) -> Iterator[str]:
    """Sentences about what else depends on the batch size.

    Args:
        recipe: the recipe.
        config: its values, before.
        key: of the batch size.
        batch: the one that was found.
    """
    known: dict[str, Any] = {leaf.key: _value(config, leaf.key) for leaf in leaves(recipe.Config)}
    before, flag = known[key], f"--{key.replace('_', '-')}"
    if before is None:
        yield f"{flag} was not given, so the recipe chooses it by the data; give it to train with this one."
        return
    if batch == before:
        yield f"{flag} is {before} already."
        return
    times = batch / before
    rate = known.get("learning_rate")
    if isinstance(rate, float):
        yield (
            f"learning_rate is {rate:g}, chosen for a batch of {before}. With {times:g} times the batch it is usually "
            f"scaled too: {rate * times**0.5:.3g} (square root, for Adam) or {rate * times:.3g} (linear, for SGD). "
            "Neither was tried here."
        )
    if "epochs" in known:
        yield f"An epoch has {1 / times:.3g} times as many steps, so schedules and --save-every in steps end elsewhere."
    if "accumulate" in known:
        yield (
            f"--accumulate N cuts a batch into N parts, one after the other: {flag} {batch * 2} --accumulate "
            f"{2 * known['accumulate']} needs about the memory of {flag} {batch}."
        )
    yield f"A run that has begun and goes on with another {flag} is another training from there on; it says so."


def _value(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def _line(batch: int, found: Measured) -> str:
    if found.why != "ok":
        return f"batch {batch}: {'does not fit' if found.why == 'memory' else 'fails'}: {found.words}"
    devices = "".join(f", {format_bytes(nbytes)} on {name}" for name, nbytes in found.devices.items())
    step = found.step or 0.0
    return f"batch {batch}: fits, {format_bytes(found.memory)} of memory{devices}, {step * 1000:.3g} ms a step, " + (
        f"{batch / step:,.0f} samples/s" if step else "no time measured"
    )
