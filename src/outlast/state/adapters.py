"""Which framework's value is this? Asks only frameworks that the program has imported already.

A framework is one file: torch.py, jax.py, numpy.py. Each offers `to_array` and `from_array`; what is no array and no plain container
is taken apart by `take_apart` under a special key, and put together by the framework that the key names.
"""

from __future__ import annotations

import functools
import importlib
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from outlast.errors import CorruptCheckpoint
from outlast.state.array import Array, Found, Pieces


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
        torch = _ours("torch.tensors")
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
        from outlast.state.torch import tensors as torch

        return torch.from_array(array, node, like)
    if framework == "jax":
        from outlast.state import jax

        return jax.from_array(array, node)
    if framework == "numpy":
        from outlast.state import numpy

        return numpy.from_array(array, node)
    raise CorruptCheckpoint(f"A stored array belongs to the framework {framework!r}, which outlast does not know.")


def take_apart(value: Any) -> Pieces | None:
    """A value that is made of several others: masked arrays, random generators, tensors that hold other tensors. None for the rest.

    Raises:
        CannotStore: it is such a value, and its owner does not take it apart.
    """
    if "torch" in sys.modules and (parts := _ours("torch.tensors").take_apart(value)) is not None:
        found: Pieces = parts
        return found
    if "numpy" in sys.modules:
        from outlast.state import numpy

        if (made := numpy.take_apart(value)) is not None:
            return made
    if type(value) is random.Random:
        version, words, gauss = value.getstate()
        return Pieces("$python.random", {"version": version, "words": list(words), "gauss": gauss})
    return None


def to_json(value: Any) -> dict[str, Any] | None:
    """Small framework values that are no arrays: torch.dtype, torch.device, torch.Size. None for anything else."""
    if "torch" in sys.modules:
        from outlast.state.torch import tensors as torch

        return torch.to_json(value)
    return None


def put_together(key: str, content: Any, part: str) -> Any:
    """Rebuild what `take_apart` or `to_json` wrote under a special key."""
    if key == "$python.random":
        generator = random.Random()  # noqa: S311 - the user's own, put back
        generator.setstate((content["version"], tuple(content["words"]), content["gauss"]))
        return generator
    framework = key[1:].partition(".")[0]
    if framework in ("torch", "numpy"):
        return _ours("torch.tensors" if framework == "torch" else framework).put_together(key, content)
    raise CorruptCheckpoint(f"The stored part {part!r} uses the form {key!r}, which this outlast does not know.")


def advice(value: Any) -> str | None:
    """What to write instead of a value that cannot be saved, where its library is known."""
    home = type(value).__module__.split(".")[0]
    if home == "flax" or any(base.__module__.startswith("flax.nnx") for base in type(value).__mro__):
        return (
            "Hand over its state: `state = run.restore(nnx.state(model))` and `nnx.update(model, state)` before the loop, "
            "`run.offer(nnx.state(model))` in every step."
        )
    if home == "equinox" or any(base.__module__.startswith("equinox") for base in type(value).__mro__):
        return _EQUINOX
    return None


_EQUINOX = (
    "Hand over its arrays: `arrays, static = eqx.partition(model, eqx.is_array)` and `model = eqx.combine(run.restore(arrays), static)` "
    "before the loop, `run.offer(eqx.filter(model, eqx.is_array))` in every step."
)


def tree_advice(tree: Any) -> str | None:
    """The same for a pytree, one of whose leaves cannot be saved: equinox keeps functions in its modules."""
    if "equinox" not in sys.modules:
        return None
    from outlast.state import jax

    return _EQUINOX if jax.holds_module_of("equinox", tree) else None


def optimizer_places(things: Iterable[Any]) -> set[Any]:
    """Memory (`Live.place`) that only changes in the step of an optimizer among these objects."""
    if "torch" in sys.modules:
        from outlast.state.torch import optimizers as torch_optimizers

        return torch_optimizers.optimizer_places(things)
    return set()


def regroups(thing: Any) -> bool:
    """See torch.modules.regroups."""
    if "torch" in sys.modules:
        from outlast.state.torch import modules as torch_modules

        return torch_modules.regroups(thing)
    return False


def sharded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of these tensors that lie on several ranks."""
    torch = _ours("torch.tensors")
    return {name: value for name, value in values.items() if torch.is_sharded(value)}


def before_updates(call: Callable[[Any], None]) -> Callable[[], None]:
    """Have a function called with every optimizer before each of its steps; returns what ends that."""
    if "torch" in sys.modules:
        from outlast.state.torch import optimizers as torch_optimizers

        return torch_optimizers.before_updates(call)
    return lambda: None


def pin(memory: memoryview) -> Callable[[], None] | None:
    """Lock memory for copies by a GPU; returns what undoes it, None where there is nothing to lock it for."""
    if "torch" in sys.modules:
        from outlast.state.torch import tensors as torch

        return torch.pin(memory)
    return None
