"""equinox: its modules are pytrees that contain functions. They are refused; the message shows what to write."""

from __future__ import annotations

from typing import Any

from outlast.state.adapter import Adapter

_ADVICE = (
    "Hand over its arrays: `arrays, static = eqx.partition(model, eqx.is_array)` and `model = "
    "eqx.combine(run.restore(arrays), static)` "
    "before the loop, `run.offer(eqx.filter(model, eqx.is_array))` in every step."
)


def _advice(value: Any) -> str | None:
    """The advice for a module, or for a pytree that contains one."""
    import jax

    return _ADVICE if any(map(_is_module, jax.tree_util.tree_leaves(value, is_leaf=_is_module))) else None


def _is_module(value: Any) -> bool:
    return any(base.__module__.split(".")[0] == "equinox" for base in type(value).__mro__)


ADAPTER = Adapter("equinox", advice=_advice)
