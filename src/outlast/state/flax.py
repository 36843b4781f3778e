"""flax.nnx: its modules have no state_dict(). They are refused; the message shows what to write."""

from __future__ import annotations

from typing import Any

from outlast.state.adapter import Adapter

_ADVICE = (
    "Hand over its state: `state = run.restore(nnx.state(model))` and `nnx.update(model, state)` before the loop, "
    "`run.offer(nnx.state(model))` in every step."
)


def _advice(value: Any) -> str | None:
    homes = [base.__module__ for base in type(value).__mro__]
    return _ADVICE if homes[0].split(".")[0] == "flax" or any(home.startswith("flax.nnx") for home in homes) else None


ADAPTER = Adapter("flax", advice=_advice)
