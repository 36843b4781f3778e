"""PyTorch's modules, optimizers and schedulers as tracked objects. Imported only when the program uses torch."""

from __future__ import annotations

import functools
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import xxhash
from torch.optim.optimizer import register_optimizer_step_pre_hook

from outlast.errors import ANOTHER_NAME, ResumeRefused, StateError
from outlast.state import torch as tensors
from outlast.state.objects import Generator, TooEarly, Tracked

_NEW_RUN = f"begin a new run under {ANOTHER_NAME}"


def tracked(part: str, thing: Any) -> Tracked | None:
    """The kind of a torch object; None for anything else."""
    if isinstance(thing, torch.nn.Module):
        return Module(part, thing)
    if isinstance(thing, torch.optim.Optimizer):
        return Optimizer(part, thing)
    if isinstance(thing, torch.optim.lr_scheduler.LRScheduler):
        return Scheduler(part, thing)
    if isinstance(thing, torch.Generator):
        return Generator(part, thing)
    return None


class Module(Tracked):
    """A torch module. Wrappers (torch.compile, DataParallel, DistributedDataParallel) are not part of it."""

    def __init__(self, part: str, thing: torch.nn.Module) -> None:
        super().__init__(part, thing)
        self.bare = without_wrapper(thing)
        self.repairable = True
        self.copies = type(self.bare).load_state_dict is torch.nn.Module.load_state_dict
        self._prefixes = sorted(_wrapped(self.bare, ""), key=len, reverse=True)
        self._unsaved: dict[str, tuple[Any, str]] = {}

    def check(self) -> None:
        """Refuse parameters and buffers that a load could not fill."""
        for name, tensor in self._own_state().items():
            if torch.nn.parameter.is_lazy(tensor):
                raise StateError(
                    f"{self.part}[{name}] is lazy and has no shape yet, so nothing could be loaded into it: run one forward pass, such as "
                    "model(batch), before track()."
                )
            if tensors.is_tensor(tensor) and any(
                not stride and length > 1 for stride, length in zip(_strides(tensor), tensor.shape, strict=False)
            ):
                raise StateError(
                    f"{self.part}[{name}] is an expanded tensor: several elements are one place in memory, and no load can fill it. Register "
                    "tensor.clone() instead."
                )

    def state(self) -> Any:
        """Its state_dict() under the names that it has without wrappers."""
        plain = {}
        for name, value in self._own_state().items():
            if tensors.is_tensor(value) and type(value) not in (torch.Tensor, torch.nn.Parameter):
                value = _as_plain(value)  # noqa: PLW2901
            plain[self._plain_name(name)] = value
        return plain

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Refuse the state of another architecture, naming the first parameter that differs, before anything is loaded."""
        own = self.state()
        advice = f"The architecture changed since this run began: {_NEW_RUN}, or go back to the old model."
        if not isinstance(state, Mapping):
            raise ResumeRefused(f"The checkpoint's {self.part} is no state of a module. {advice}")
        for name in [*own, *(name for name in state if name not in own)]:
            if name not in own:
                raise ResumeRefused(f"The checkpoint's {self.part} has {name!r} and this model does not. {advice}")
            if name not in state:
                raise ResumeRefused(f"This model's {self.part} has {name!r} and the checkpoint does not. {advice}")
            mine, theirs = own[name], state[name]
            if tensors.is_tensor(mine) != tensors.is_tensor(theirs):
                raise ResumeRefused(
                    f"{self.part}[{name}] is another kind of value in the checkpoint than in this model. {advice}"
                )
            if tensors.is_tensor(mine) and (mine.shape, mine.dtype) != (theirs.shape, theirs.dtype):
                raise ResumeRefused(
                    f"{self.part}[{name}] has shape {tuple(theirs.shape)} of {theirs.dtype} in the checkpoint and {tuple(mine.shape)} of "
                    f"{mine.dtype} in this model. {advice}"
                )
        return state

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:
        """Load parameters and buffers, which of them are trained, and which modules are in evaluation mode."""
        own = self._own_state()
        named = type(own)((name, state[self._plain_name(name)]) for name in own)
        metadata = getattr(own, "_metadata", None)
        if metadata is not None:  # versions decide how a module reads its state
            versions = facts.get("versions", {})
            named._metadata = {  # noqa: SLF001 - torch's own place for it
                name: {
                    **each,
                    **({"version": versions.get(self._plain_name(f"{name}.")[:-1], 1)} if "versions" in facts else {}),
                }
                for name, each in metadata.items()
            }
        super().load(named, facts)
        if "frozen" in facts:
            frozen = set(facts["frozen"])
            for name, parameter in self.parameters():
                if parameter.requires_grad != (name not in frozen):
                    parameter.requires_grad_(name not in frozen)
        if "evaluating" in facts:
            evaluating = set(facts["evaluating"])
            for name, module in self.modules():
                module.training = name not in evaluating

    def facts(self) -> dict[str, Any]:
        """Its class, what is frozen, what is in evaluation mode, and the versions that torch keeps of modules."""
        versions = {
            self._plain_name(f"{name}.")[:-1]: module._version  # noqa: SLF001 - torch stores it with a state_dict
            for name, module in self.bare.named_modules()
            if getattr(module, "_version", 1) != 1
        }
        return {
            "class": self.kind,
            "frozen": [name for name, parameter in self.parameters() if not parameter.requires_grad],
            "evaluating": [name for name, module in self.modules() if not module.training],
            "versions": versions,
        }

    def options(self, node: Any) -> dict[str, Any]:  # noqa: ARG002
        """Which parameters the program froze."""
        return {"requires_grad": {"frozen": [name for name, each in self.parameters() if not each.requires_grad]}}

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Its parameters by their names without wrappers."""
        for name, parameter in self.bare.named_parameters():
            yield self._plain_name(name), parameter

    def modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """Its modules by their names without wrappers; wrappers themselves are left out."""
        for name, module in self.bare.named_modules():
            if without_wrapper(module) is module:
                yield self._plain_name(f"{name}.")[:-1], module

    def unsaved(self) -> list[str]:
        """Buffers that are in no state_dict (persistent=False) and have changed since they were looked at for the first time."""
        changed = []
        for name, module in self.modules():
            for key in module._non_persistent_buffers_set:  # noqa: SLF001 - torch has no public way to ask
                buffer = module._buffers.get(key)  # noqa: SLF001
                if buffer is None or buffer.is_meta:
                    continue
                full = f"{name}.{key}" if name else key
                stamp = (buffer.data_ptr(), buffer._version)  # noqa: SLF001
                known = self._unsaved.get(full)
                if known and known[0] == stamp:
                    continue
                contents = xxhash.xxh3_64_hexdigest(tensors.to_array(buffer).array.data)
                if known and known[1] != contents:
                    changed.append(full)
                self._unsaved[full] = stamp, known[1] if known else contents
        return changed

    def _own_state(self) -> Any:
        return super().state()

    def _plain_name(self, name: str) -> str:
        for prefix, plain in self._prefixes:
            if name.startswith(prefix):
                return plain + name[len(prefix) :]
        return name


class Optimizer(Tracked):
    """A torch optimizer. torch loads its state by position and casts it; here it is matched by name and keeps its types.

    Attributes:
        grown: the parameters of groups that were added again.
    """

    def __init__(self, part: str, thing: Any) -> None:
        super().__init__(part, thing)
        self.grown: list[str] = []

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:
        """The stored state in the order of this program's parameters.

        Groups that were added while the run trained, of parameters that are tracked, are added again.

        Raises:
            ResumeRefused: it is the state of another optimizer, or of other parameters.
            TooEarly: its parameters have no names yet, or its groups are not all there yet.
        """
        _check_class(self, facts, "optimizer")
        stored = facts.get("parameters")
        if not stored or not isinstance(state, Mapping) or "param_groups" not in state:
            return state
        own = self._parameters()
        if not self.settled and (len(stored) > len(own) or any(entry[0] == "?" for group in own for entry in group)):
            if _forms(own) != _forms(stored):
                raise TooEarly
            return state  # by position, until everything is tracked and the names are known
        if len(stored) > len(own):
            self._grow(stored, state["param_groups"])
            own = self._parameters()
        places = _match(self.part, stored, own)
        self.group_order = None if places is None else [number for number, _ in places]
        return state if places is None else _reorder(state, places, self.bare.param_groups)

    def _grow(self, stored: Sequence[Sequence[str]], options: Sequence[Mapping[str, Any]]) -> None:
        """Add the groups that the program has added in a step of an earlier session."""
        mine = {_name(entry) for group in self._parameters() for entry in group}
        for group, option in zip(stored, options, strict=True):
            names = [_name(entry) for entry in group]
            if not mine & set(names) and all(name in self.named for name in names):
                chosen = {key: value for key, value in option.items() if key not in ("params", "param_names")}
                self.bare.add_param_group({"params": [self.named[name] for name in names], **chosen})
                self.grown.append(", ".join(names[:3]))

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:
        """Load it, and give back the types that torch's load_state_dict() has cast to those of the parameters."""
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
        """Its class, and the names, dtypes and shapes of its parameters, group by group."""
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
        """Stored options under the numbers that their groups have in this program."""
        if self.group_order is None:
            return options
        made = {}
        for path, value in options.items():
            _, number, name = path.split(".", 2)
            if int(number) in self.group_order:
                made[f"param_groups.{self.group_order.index(int(number))}.{name}"] = value
        return made

    def believed(self) -> str | None:
        """A sentence about parameters whose order nobody can check: in no tracked module, and alike."""
        entries = [entry for group in self._parameters() for entry in group if entry[0] == "?"]
        if len(entries) == len(set(entries)):
            return None
        return (
            f"{self.part} updates parameters that are in no tracked module and have the same shape, so nobody can see whether they come in the "
            "same order: track their module, or an nn.ParameterList of them"
        )

    def rates(self) -> list[Any]:
        """The learning rates of its groups, before any schedule."""
        return [group.get("initial_lr", group.get("lr")) for group in self.bare.param_groups]

    def _parameters(self) -> list[list[str]]:
        return [
            [
                f"{self.names.get(id(each), '?')} {str(each.dtype).removeprefix('torch.')} {'x'.join(map(str, each.shape))}"
                for each in group["params"]
            ]
            for group in self.bare.param_groups
        ]


_MOVES = {
    "base_lrs",
    "last_epoch",
    "_last_lr",
    "_step_count",
    "_is_initial",
    "_get_lr_called_within_step",
    "_initial_step",
}


class Scheduler(Tracked):
    """A torch learning rate scheduler."""

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:
        """The stored state, with its rates in the order of the optimizer's groups.

        Raises:
            ResumeRefused: it is the state of another schedule, or one whose values for groups are not known.
        """
        _check_class(self, facts, "schedule")
        return state if self.group_order is None else _regroup(self.part, state, self.group_order)

    def facts(self) -> dict[str, Any]:
        """Its class, and what its functions give at some steps."""
        return super().facts() | {"rates": self.rates_at(sorted({0, *self._near()}))}

    def arrange(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stored options under the numbers that the optimizer's groups have in this program."""
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

    def rates_at(self, steps: Iterable[int]) -> list[list[Any]]:
        """What functions of the step (LambdaLR's) give at these steps; empty for a schedule without one."""
        functions = [
            each
            for scheduler in _flat_schedulers([self.bare])
            for each in getattr(scheduler, "lr_lambdas", ())
            if isinstance(each, types.FunctionType | functools.partial)  # an object may count how often it is called
        ]
        return [[step, [_value(function, step) for function in functions]] for step in steps] if functions else []

    def arrange_rates(self, values: list[Any]) -> list[Any]:
        """Stored rates in the order that the optimizer's groups have in this program."""
        order = self.group_order or []
        if not order or len(values) % len(order):
            return values
        return [values[start + number] for start in range(0, len(values), len(order)) for number in order]

    def _near(self) -> set[int]:
        last = getattr(self.bare, "last_epoch", 0)
        return {last, last + 1, 2 * last + 1} if isinstance(last, int) and last >= 0 else set()

    def options(self, node: Any) -> dict[str, Any]:
        """T_max, gamma, patience, ...; not what follows from the optimizer's rates."""
        found = super().options(node)
        return {path: value for path, value in found.items() if not _MOVES & set(path.split("."))}


_PER_GROUP = {"base_lrs", "_last_lr", "lr_lambdas", "min_lrs", "base_momentums", "max_lrs", "max_momentums"}
_PER_STEP = {"_milestones", "_schedulers", "milestones", "_schedule_phases"}


def _regroup(part: str, state: Any, order: Sequence[int]) -> Any:
    """A scheduler's state with what it keeps for each group in another order."""
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
                    f"The groups of the optimizer come in another order than in the checkpoint, and {part} keeps a list {key!r} of which it is not "
                    "known whether it belongs to them: build the groups in the order of before."
                )
    return made


def _value(function: Callable[[int], Any], step: int) -> Any:
    try:
        value = float(function(step))
    except Exception:  # noqa: BLE001 - a program's own function, asked for a step that it may not know
        return None
    return value if math.isfinite(value) else None


def drives(thing: Any, optimizer: Any) -> bool:
    """Whether an object is a scheduler of this optimizer, or holds one."""
    while thing is not None:
        if getattr(thing, "optimizer", None) is optimizer or getattr(thing, "optimizer", None) is getattr(
            optimizer, "optimizer", 0
        ):
            return True
        thing = getattr(thing, "scheduler", None)
    return False


def has_scheduler(optimizer: Any) -> bool:
    """Whether some scheduler was built for this optimizer."""
    return bool(getattr(getattr(optimizer, "step", None), "_wrapped_by_lr_sched", False))


def scale_rates(optimizer: Any, schedulers: Sequence[Any], rates: Sequence[Any]) -> None:
    """Give an optimizer the rates that the program built it with, each at the present point of its schedule.

    Args:
        optimizer: already loaded.
        schedulers: those that drive it; none: the rates stand as they are.
        rates: of its groups, as built.
    """
    for index, (group, rate) in enumerate(zip(optimizer.param_groups, rates, strict=True)):
        base = group.get("initial_lr")
        scale = rate / base if schedulers and base else None
        group["lr"] = rate if scale is None else group["lr"] * scale
        if base is not None:
            group["initial_lr"] = rate
        for each in _flat_schedulers(schedulers):
            if index < len(getattr(each, "base_lrs", ())):
                each.base_lrs[index] = rate
            if index < len(getattr(each, "_last_lr", ())):
                each._last_lr[index] = group["lr"]  # noqa: SLF001


def _flat_schedulers(schedulers: Sequence[Any]) -> Iterator[Any]:
    for each in schedulers:
        yield each
        yield from _flat_schedulers(getattr(each, "_schedulers", ()))


def optimizer_places(things: Iterable[Any]) -> set[int]:
    """Memory that changes in the step of these optimizers: their parameters and their own state."""
    places: set[int] = set()
    for optimizer in things:
        if isinstance(optimizer, torch.optim.Optimizer):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    places.update(tensors.memories(parameter.detach()))
            for state in optimizer.state.values():  # some keep numbers of their own beside the parameters' states
                for value in state.values() if isinstance(state, Mapping) else ():
                    if tensors.is_tensor(value):
                        places.update(tensors.memories(value))
    return places - {0}


_WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}


def without_wrapper(thing: Any) -> Any:
    """The model inside of wrappers, whose state has the same names with one rank or many, compiled or not; else the thing."""
    while (inner := _wrapper(thing)) is not None:
        thing = getattr(thing, inner)
    return thing


def _wrapper(thing: Any) -> str | None:
    """The attribute under which a wrapper holds its model; None for what is no wrapper."""
    kind: Any = type(thing)
    return _wrapper_of(kind)


@functools.cache
def _wrapper_of(kind: Any) -> str | None:
    known = [base.__name__ for base in kind.__mro__ if base.__module__.startswith("torch.")]
    return next((_WRAPPERS[name] for name in known if name in _WRAPPERS), None)


def _wrapped(module: torch.nn.Module, prefix: str, plain: str = "") -> Iterator[tuple[str, str]]:
    """Prefix of names below a wrapper inside of a module -> the same without the wrapper."""
    for name, child in module.named_children():
        inner, own, theirs = child, f"{prefix}{name}.", f"{plain}{name}."
        while (attribute := _wrapper(inner)) is not None:
            inner, own = getattr(inner, attribute), f"{own}{attribute}."
        if own != theirs:
            yield own, theirs
        yield from _wrapped(inner, own, theirs)


def gradients(optimizer: Any) -> Iterator[tuple[Any, Any]]:
    """The parameters of an optimizer that have a gradient with anything in it, and the gradient."""
    if isinstance(optimizer, torch.optim.Optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not parameter.grad.is_sparse and bool(parameter.grad.any()):
                    yield parameter, parameter.grad


def regroups(thing: Any) -> bool:
    """Whether DistributedDataParallel regroups gradients after the first step of a process, and so adds them in another order."""
    return isinstance(thing, torch.nn.parallel.DistributedDataParallel) and not thing.find_unused_parameters


def moments_like(thing: Any) -> dict[str, Any]:
    """The DTensors that an optimizer's moments will be like, which it makes only in its first step: name's first words -> parameter."""
    if not isinstance(thing, torch.optim.Optimizer):
        return {}
    parameters = [parameter for group in thing.param_groups for parameter in group["params"]]
    return {f"state/{index}": each.detach() for index, each in enumerate(parameters) if tensors.is_sharded(each)}


def before_updates(call: Callable[[Any], None]) -> Callable[[], None]:
    """Have a function called with every optimizer before each of its steps; returns what ends that."""

    def hook(optimizer: Any, *_: Any) -> None:
        call(optimizer)

    if "torch._dynamo" in sys.modules:  # a compiled step must not trace into it
        hook = torch.compiler.disable(hook)
    remove: Callable[[], None] = register_optimizer_step_pre_hook(hook).remove
    return remove


def _strides(tensor: Any) -> Sequence[int]:
    try:
        found: Sequence[int] = tensor.stride()
    except RuntimeError:  # a nested or sparse tensor; what is wrong with it is said when it is packed
        return ()
    return found


def _as_plain(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of a program's own class as a plain one: a module's state is copied into its own tensors, so the class stays."""
    if tensors.is_sharded(tensor) or hasattr(tensor, "__tensor_flatten__") or not hasattr(tensor, "as_subclass"):
        return tensor
    try:
        plain: torch.Tensor = tensor.detach().as_subclass(torch.Tensor)
        return plain if plain.data_ptr() or not plain.numel() else tensor
    except RuntimeError:
        return tensor


def _check_class(held: Tracked, facts: Mapping[str, Any], word: str) -> None:
    theirs = facts.get("class", held.kind)
    if theirs != held.kind:
        raise ResumeRefused(
            f"{held.part} is the {word} {theirs} in the checkpoint and {held.kind} in this program. Go back to {theirs}, {_NEW_RUN}, or "
            f"begin this part anew with run.track(..., keep={{{held.part!r}: ['*']}})."
        )


def _match(
    part: str, stored: Sequence[Sequence[str]], own: Sequence[Sequence[str]]
) -> list[tuple[int, list[int]]] | None:
    """For each own group the number of the stored one, and where its parameters stand among all stored ones. None: as they stand."""
    if [list(group) for group in stored] == [list(group) for group in own]:
        return None
    advice = f"The parameters that it updates are fixed for a run: build it as before, or {_NEW_RUN}."
    names = [[entry.split(" ")[0] for entry in group] for group in stored]
    mine = [[entry.split(" ")[0] for entry in group] for group in own]
    flat, flat_mine = [name for group in names for name in group], [name for group in mine for name in group]
    if "?" in flat or "?" in flat_mine or len(set(flat)) < len(flat):
        _check_positions(part, stored, own, advice)
        return None
    if missing := sorted(set(flat) ^ set(flat_mine)):
        where = (
            "the checkpoint and not in this program" if missing[0] in flat else "this program and not in the checkpoint"
        )
        raise ResumeRefused(f"{part} updates {missing[0]} in {where}. {advice}")
    forms = dict(zip(flat, (entry for group in stored for entry in group), strict=True))
    for entry in (entry for group in own for entry in group):
        if forms[entry.split(" ")[0]] != entry:
            raise ResumeRefused(
                f"{part} updates {forms[entry.split(' ')[0]]} in the checkpoint and {entry} in this program. {advice}"
            )
    places = {name: index for index, name in enumerate(flat)}
    found = []
    for group in mine:
        number = next((index for index, theirs in enumerate(names) if set(theirs) == set(group)), None)
        if number is None:
            raise ResumeRefused(
                f"{part} has its parameters in other groups than in the checkpoint: no stored group holds exactly {', '.join(group[:3])}"
                f"{', ...' if len(group) > 3 else ''}. {advice}"
            )
        found.append((number, [places[name] for name in group]))
    return found


def _name(entry: str) -> str:
    return entry.split(" ", maxsplit=1)[0]


def _forms(groups: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    return [[entry.split(" ")[1:] for entry in group] for group in groups]


def _check_positions(part: str, stored: Sequence[Sequence[str]], own: Sequence[Sequence[str]], advice: str) -> None:
    """Of parameters without names, at least the dtypes and shapes have to be the same in order."""
    sizes = [[len(group) for group in groups] for groups in (stored, own)]
    if sizes[0] != sizes[1]:
        raise ResumeRefused(
            f"{part} has groups of {sizes[0]} parameters in the checkpoint and of {sizes[1]} in this program. {advice}"
        )
    for number, (theirs, mine) in enumerate(zip(stored, own, strict=True)):
        for index, (one, other) in enumerate(zip(theirs, mine, strict=True)):
            (name, *form), (own_name, *own_form) = one.split(" "), other.split(" ")
            if form == own_form and name == own_name:
                continue
            why = "Track the model, too, so that parameters are known by their names."
            if form == own_form and own_name == "?":
                why = (
                    "Its module has other parameters now: a load_state_dict() that replaces them (assign=True) leaves the optimizer with the old "
                    "ones. Build the optimizer after track(model=...), and track it in a call of its own."
                )
            raise ResumeRefused(
                f"Parameter {index} of group {number} of {part} is {one.replace('? ', '')} in the checkpoint and "
                f"{other.replace('? ', '')} in this program. {advice} {why}"
            )


def _reorder(
    state: Mapping[str, Any], places: Sequence[tuple[int, list[int]]], groups: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """An optimizer's state with the parameters of this program's order."""
    stored = [index for group in state["param_groups"] for index in group["params"]]
    known = set(stored)
    new: dict[Any, Any] = {key: value for key, value in state["state"].items() if key not in known}
    made, count = [], 0
    for (number, where), own in zip(places, groups, strict=True):
        for index, place in enumerate(where, start=count):
            if stored[place] in state["state"]:
                new[index] = state["state"][stored[place]]
        group = {**state["param_groups"][number], "params": list(range(count, count + len(where)))}
        group.pop("param_names", None)
        made.append(group | ({"param_names": own["param_names"]} if "param_names" in own else {}))
        count += len(where)
    return {**state, "state": new, "param_groups": made}


def _uncast(stored: Any, live: Any) -> Any:
    """The stored value where torch has cast it, on the device where torch has put it; else the live one."""
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
