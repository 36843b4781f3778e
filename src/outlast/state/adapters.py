"""Which framework's array is this? Asks only frameworks that the program has imported already."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from outlast.errors import CorruptCheckpoint
from outlast.state.array import Array, Found


@functools.cache
def _ours(framework: str) -> Any:
    """Our module for a framework; asked for at every array, where an import statement would take longer than the rest."""
    return importlib.import_module(f"outlast.state.{framework}")


def to_array(value: Any) -> Found | None:
    """The array in a value, or None when it is none of torch's, JAX's or NumPy's.

    Raises:
        CannotStore: it is an array that cannot be stored.
    """
    if "torch" in sys.modules:
        torch = _ours("torch")
        if torch.is_tensor(value):
            found: Found = torch.to_array(value)
            return found
    if "jax" in sys.modules:
        from outlast.state import jax

        if jax.is_array(value):
            return jax.to_array(value)
    if "numpy" in sys.modules:
        from outlast.state import numpy

        if numpy.is_array(value):
            return numpy.to_array(value)
    return None


def from_array(array: Array, node: Mapping[str, Any], like: Any = None) -> Any:
    """Rebuild what `to_array` took apart, on the CPU. The result owns its memory. `like`: see torch.from_array."""
    framework = node.get("as")
    if framework == "torch":
        from outlast.state import torch

        return torch.from_array(array, node, like)
    if framework == "jax":
        from outlast.state import jax

        return jax.from_array(array, node)
    if framework == "numpy":
        from outlast.state import numpy

        return numpy.from_array(array, node)
    raise CorruptCheckpoint(f"A stored array belongs to the framework {framework!r}, which outlast does not know.")


def to_json(value: Any) -> dict[str, Any] | None:
    """Small framework values that are no arrays: torch.dtype and torch.device. None for anything else."""
    if "torch" in sys.modules:
        from outlast.state import torch

        return torch.to_json(value)
    return None


def from_json(key: str, text: Any, part: str) -> Any:
    """Rebuild what `to_json` wrote."""
    if key in ("$torch.dtype", "$torch.device"):
        from outlast.state import torch

        return torch.from_json(key, text)
    raise CorruptCheckpoint(f"The stored part {part!r} uses the form {key!r}, which this outlast does not know.")


def optimizer_places(things: Iterable[Any]) -> set[Any]:
    """Memory (`Live.place`) that only changes in the step of an optimizer among these objects."""
    if "torch" in sys.modules:
        from outlast.state import torch

        return torch.optimizer_places(things)
    return set()


def regroups(thing: Any) -> bool:
    """See torch.regroups."""
    if "torch" in sys.modules:
        from outlast.state import torch

        return torch.regroups(thing)
    return False


def before_updates(call: Callable[[], None]) -> Callable[[], None]:
    """Have a function called before every optimizer's step; returns what ends that."""
    if "torch" in sys.modules:
        from outlast.state import torch

        return torch.before_updates(call)
    return lambda: None


def pin(memory: memoryview) -> Callable[[], None] | None:
    """Lock memory for copies by a GPU; returns what undoes it, None where there is nothing to lock it for."""
    if "torch" in sys.modules:
        from outlast.state import torch

        return torch.pin(memory)
    return None
