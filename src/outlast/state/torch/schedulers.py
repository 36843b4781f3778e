"""PyTorch's learning rate schedulers as tracked objects. They follow the group order of their optimizer."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from outlast.errors import ResumeRefused
from outlast.state.objects import TrackedObject
from outlast.state.torch.optimizers import Optimizer, check_class, drives, flat_schedulers

_MOVES = {
    "base_lrs",
    "last_epoch",
    "_last_lr",
    "_step_count",
    "_is_initial",
    "_get_lr_called_within_step",
    "_initial_step",
}


_PER_GROUP = {"base_lrs", "_last_lr", "lr_lambdas", "min_lrs", "base_momentums", "max_lrs", "max_momentums"}


_PER_STEP = {"_milestones", "_schedulers", "milestones", "_schedule_phases"}


class Scheduler(TrackedObject):
    """A torch learning rate scheduler."""

    turn = 2  # last: its load may set rates in the optimizer, and it follows the order of the optimizer's groups

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:
        """The stored state, with its rates in the order of the optimizer's groups.

        Raises:
            ResumeRefused: it is the state of another scheduler, or it is unknown which of its values belong to groups.
        """
        check_class(self, facts, "schedule")
        return state if self.group_order is None else _regroup(self.part, state, self.group_order)

    def facts(self) -> dict[str, Any]:
        """Its class, and the values of its functions at some steps."""
        return super().facts() | {"rates": self.rates_at(sorted({0, *self._near()}))}

    def arrange(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stored options, under the numbers that the optimizer's groups have in this program."""
        if self.group_order is None:
            return options
        made = {}
        for path, value in options.items():
            *words, number = path.split(".")
            if words and words[-1] in _PER_GROUP and number.isdigit() and int(number) in self.group_order:
                made[".".join((*words, str(self.group_order.index(int(number)))))] = value
            else:
                made[path] = value
        return made

    def follow(self, others: Iterable[TrackedObject]) -> bool:
        """Use the group order of its optimizer; returns whether its order changed."""
        orders = [each.group_order for each in others if isinstance(each, Optimizer) and drives(self.thing, each.thing)]
        order = next((order for order in orders if order is not None), None)
        before, self.group_order = self.group_order, order
        return order != before

    def rates_at(self, steps: Iterable[int]) -> list[list[Any]]:
        """The values of its functions of the step (LambdaLR) at these steps; empty if it has none."""
        functions = [
            each
            for scheduler in flat_schedulers([self.bare])
            for each in getattr(scheduler, "lr_lambdas", ())
            if isinstance(each, types.FunctionType | functools.partial)  # a callable object may count its calls
        ]
        return [[step, [_value(function, step) for function in functions]] for step in steps] if functions else []

    def arrange_rates(self, values: list[Any]) -> list[Any]:
        """Stored rates, in the order of the optimizer's groups in this program."""
        order = self.group_order or []
        if not order or len(values) % len(order):
            return values
        return [values[start + number] for start in range(0, len(values), len(order)) for number in order]

    def _near(self) -> set[int]:
        last = getattr(self.bare, "last_epoch", 0)
        return {last, last + 1, 2 * last + 1} if isinstance(last, int) and last >= 0 else set()

    def options(self, node: Any) -> dict[str, Any]:
        """T_max, gamma, patience, ...; not values that follow from the optimizer's rates."""
        found = super().options(node)
        return {path: value for path, value in found.items() if not _MOVES & set(path.split("."))}


def _regroup(part: str, state: Any, order: Sequence[int]) -> Any:
    """A scheduler's state with its values for groups in another order."""
    if not isinstance(state, Mapping):
        return state
    made = dict(state)
    for key, value in state.items():
        if key == "_schedulers":
            made[key] = [_regroup(part, each, order) for each in value]
        elif isinstance(value, list) and len(value) == len(order):
            if key in _PER_GROUP:
                made[key] = [value[number] for number in order]
            elif key not in _PER_STEP:
                raise ResumeRefused(
                    f"The groups of the optimizer come in another order than in the checkpoint, and {part} keeps a "
                    f"list {key!r} that may belong to them: build the groups in the same order as before."
                )
    return made


def _value(function: Callable[[int], Any], step: int) -> Any:
    try:
        value = float(function(step))
    except Exception:  # noqa: BLE001 - the program's function may raise anything for a step that it does not expect
        return None
    return value if math.isfinite(value) else None
