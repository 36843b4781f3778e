"""PyTorch's optimizers as tracked objects. They are matched by class and by the names of their parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from outlast.errors import ANOTHER_NAME, ResumeRefused
from outlast.state.objects import TooEarly, TrackedObject
from outlast.state.torch import tensors
from outlast.state.torch.matching import forms_of, match, name_of, reorder

_NEW_RUN = f"begin a new run under {ANOTHER_NAME}"


class Optimizer(TrackedObject):
    """A torch optimizer.

    torch loads the state by position and casts it. This class matches it by name and keeps its types.

    Attributes:
        grown: the parameters of groups that `fit` added again.
    """

    def __init__(self, part: str, thing: Any) -> None:
        super().__init__(part, thing)
        self.grown: list[str] = []

    def sharded(self) -> dict[str, Any]:
        """The DTensors among its parameters: first words of the names of their moments -> parameter.

        The moments are sharded like the parameters, and the optimizer creates them only in its first step.
        """
        parameters = [parameter for group in self.bare.param_groups for parameter in group["params"]]
        like = {f"state/{index}": each.detach() for index, each in enumerate(parameters) if tensors.is_sharded(each)}
        return like or super().sharded()

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:
        """The stored state in the order of this program's parameters.

        Groups that the program added during training are added again, if their parameters are tracked.

        Raises:
            ResumeRefused: it is the state of another optimizer, or of other parameters.
            TooEarly: some parameters have no names yet, or some groups do not exist yet.
        """
        check_class(self, facts, "optimizer")
        stored = facts.get("parameters")
        if not stored or not isinstance(state, Mapping) or "param_groups" not in state:
            return state
        own = self._parameters()
        if not self.settled and (len(stored) > len(own) or any(entry[0] == "?" for group in own for entry in group)):
            if forms_of(own) != forms_of(stored):
                raise TooEarly
            return state  # by position, until all objects are tracked and the names are known
        if len(stored) > len(own):
            self._grow(stored, state["param_groups"])
            own = self._parameters()
        places = match(self.part, stored, own)
        self.group_order = None if places is None else [number for number, _ in places]
        return state if places is None else reorder(state, places, self.bare.param_groups)

    def _grow(self, stored: Sequence[Sequence[str]], options: Sequence[Mapping[str, Any]]) -> None:
        """Add the groups that the program added during an earlier session."""
        mine = {name_of(entry) for group in self._parameters() for entry in group}
        for group, option in zip(stored, options, strict=True):
            names = [name_of(entry) for entry in group]
            if not mine & set(names) and all(name in self.named for name in names):
                chosen = {key: value for key, value in option.items() if key not in ("params", "param_names")}
                self.bare.add_param_group({"params": [self.named[name] for name in names], **chosen})
                self.grown.append(", ".join(names[:3]))

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:
        """Load the state, and restore the types that torch's load_state_dict() cast to those of the parameters."""
        super().load(state, facts)
        if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
            return
        ids = [index for group in state["param_groups"] for index in group["params"]]
        mine = [parameter for group in self.bare.param_groups for parameter in group["params"]]
        for index, parameter in zip(ids, mine, strict=False):
            stored, live = state["state"].get(index), self.bare.state.get(parameter)
            if isinstance(stored, Mapping) and isinstance(live, dict):
                for key in live.keys() & stored.keys():
                    live[key] = _uncast(stored[key], live[key])

    def facts(self) -> dict[str, Any]:
        """Its class, and the names, dtypes and shapes of its parameters, by group."""
        return {"class": self.kind, "parameters": self._parameters()}

    def options(self, node: Any) -> dict[str, Any]:
        """The options of its groups: lr (before any schedule), betas, weight_decay, ..."""
        groups = node.get("param_groups", []) if isinstance(node, dict) else []
        groups = [{**group, "lr": group["initial_lr"]} if "initial_lr" in group else group for group in groups]
        found = {}
        for index, group in enumerate(groups):
            for key, value in group.items():
                if key not in ("params", "param_names", "initial_lr") and not (
                    isinstance(value, dict) and "$array" in value
                ):
                    found[f"param_groups.{index}.{key}"] = value
        return found

    def arrange(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stored options, under the numbers that their groups have in this program."""
        if self.group_order is None:
            return options
        made = {}
        for path, value in options.items():
            _, number, name = path.split(".", 2)
            if int(number) in self.group_order:
                made[f"param_groups.{self.group_order.index(int(number))}.{name}"] = value
        return made

    def remarks(self) -> list[str]:
        """A message for each group that was added again."""
        return [
            f"{self.part}: the group of {names} was added during training, and is added again." for names in self.grown
        ]

    def doubts(self) -> list[str]:
        """Parameters that are in no tracked module and have equal shapes, so that their order cannot be checked."""
        entries = [entry for group in self._parameters() for entry in group if entry[0] == "?"]
        if len(entries) == len(set(entries)):
            return []
        why = "so their order cannot be checked: track their module, or an nn.ParameterList of them"
        return [f"{self.part} updates parameters that are in no tracked module and have the same shape, {why}"]

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Its own, among them numbers such as the multiplier of a noise that is scheduled."""
        return {"": vars(self.bare)}

    def may_save(self, number: str) -> bool:  # noqa: ARG002
        """Whether it makes its state by itself."""
        kind: Any = type(self.bare)
        return kind.state_dict is not torch.optim.Optimizer.state_dict

    def unused_gradients(self) -> Iterator[tuple[Any, Any]]:
        """Its parameters with a gradient that is not zero, and the gradient."""
        for group in self.bare.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not parameter.grad.is_sparse and bool(parameter.grad.any()):
                    yield parameter, parameter.grad

    def rates(self) -> list[Any] | None:
        """The learning rates of its groups, before any schedule."""
        return [group.get("initial_lr", group.get("lr")) for group in self.bare.param_groups]

    def take_rates(self, rates: Sequence[Any], others: Iterable[TrackedObject]) -> None:
        """Set learning rates from a result of `rates`, at the current point of the schedule."""
        schedulers = [each.thing for each in others if drives(each.thing, self.thing)]
        for index, (group, rate) in enumerate(zip(self.bare.param_groups, rates, strict=True)):
            base = group.get("initial_lr")
            scale = rate / base if schedulers and base else None
            group["lr"] = rate if scale is None else group["lr"] * scale
            if base is not None:
                group["initial_lr"] = rate
            for each in flat_schedulers(schedulers):
                if index < len(getattr(each, "base_lrs", ())):
                    each.base_lrs[index] = rate
                if index < len(getattr(each, "_last_lr", ())):
                    each._last_lr[index] = group["lr"]  # noqa: SLF001

    def lacks_schedule(self, others: Iterable[TrackedObject]) -> bool:
        """Whether a scheduler was built for it that is not among `others`."""
        built = getattr(getattr(self.thing, "step", None), "_wrapped_by_lr_sched", False)
        return bool(built) and not any(drives(each.thing, self.thing) for each in others)

    def _parameters(self) -> list[list[str]]:
        return [
            [
                f"{self.names.get(id(each), '?')} {str(each.dtype).removeprefix('torch.')} "
                f"{'x'.join(map(str, each.shape))}"
                for each in group["params"]
            ]
            for group in self.bare.param_groups
        ]


def drives(thing: Any, optimizer: Any) -> bool:
    """Whether an object is a scheduler of this optimizer, or contains one."""
    while thing is not None:
        if getattr(thing, "optimizer", None) is optimizer or getattr(thing, "optimizer", None) is getattr(
            optimizer, "optimizer", 0
        ):
            return True
        thing = getattr(thing, "scheduler", None)
    return False


def flat_schedulers(schedulers: Iterable[Any]) -> Iterator[Any]:
    """Schedulers, and the schedulers inside them."""
    for each in schedulers:
        yield each
        yield from flat_schedulers(getattr(each, "_schedulers", ()))


def check_class(held: TrackedObject, facts: Mapping[str, Any], word: str) -> None:
    """Check that the stored state belongs to the same class; raises ResumeRefused."""
    theirs = facts.get("class", held.kind)
    if theirs != held.kind:
        raise ResumeRefused(
            f"{held.part} is the {word} {theirs} in the checkpoint and {held.kind} in this program. Go back to "
            f"{theirs}, {_NEW_RUN}, or "
            f"begin this part anew with run.track(..., keep={{{held.part!r}: ['*']}})."
        )


def _uncast(stored: Any, live: Any) -> Any:
    """The stored value if torch has cast it, on the device of torch's value; otherwise the live value."""
    if tensors.is_tensor(stored) and tensors.is_tensor(live):
        if (stored.dtype, type(stored)) == (live.dtype, type(live)):
            return live
        return stored.to(live.device) if stored.device != live.device else stored
    if isinstance(stored, dict) and isinstance(live, dict):
        return type(live)((key, _uncast(stored[key], value) if key in stored else value) for key, value in live.items())
    if (
        isinstance(stored, list | tuple)
        and type(stored) is type(live)
        and len(stored) == len(live)
        and not hasattr(live, "_fields")
    ):
        return type(live)(_uncast(one, other) for one, other in zip(stored, live, strict=True))
    return live


def optimizer_places(things: Iterable[Any]) -> set[int]:
    """Memory that the step of these optimizers changes: parameters and optimizer state."""
    places: set[int] = set()
    for optimizer in things:
        if isinstance(optimizer, torch.optim.Optimizer):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if type(parameter) in tensors.PLAIN:  # most of them, and this runs for every save
                        places.add(parameter.data_ptr())
                    else:
                        places.update(tensors.memories(parameter.detach()))
            for state in optimizer.state.values():  # some optimizers also keep numbers there
                for value in state.values() if isinstance(state, Mapping) else ():
                    if type(value) in tensors.PLAIN:
                        places.add(value.data_ptr())
                    elif tensors.is_tensor(value):
                        places.update(tensors.memories(value))
    return places - {0}


def before_updates(call: Callable[[Any], None]) -> Callable[[], None]:
    """Call a function with every optimizer before each of its steps. Returns a function that stops this."""

    def hook(optimizer: Any, *_: Any) -> None:
        call(optimizer)

    if "torch._dynamo" in sys.modules:  # a compiled step must not trace the hook
        hook = torch.compiler.disable(hook)
    remove: Callable[[], None] = register_optimizer_step_pre_hook(hook).remove
    return remove
