"""PyTorch's modules as tracked objects, and their wrappers."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import xxhash

from outlast.errors import ANOTHER_NAME, ResumeRefused, StateError
from outlast.state.objects import TrackedObject
from outlast.state.torch import tensors


class Module(TrackedObject):
    """A torch module without its wrappers (torch.compile, DataParallel, DistributedDataParallel)."""

    in_facts = ("training", "freeze_bn")
    turn = 0  # first, because optimizers are matched by the names of its parameters

    def __init__(self, part: str, thing: torch.nn.Module) -> None:
        super().__init__(part, thing)
        self.bare = without_wrapper(thing)
        self.repairable = True
        self.copies = type(self.bare).load_state_dict is torch.nn.Module.load_state_dict
        self._prefixes = sorted(_wrapped(self.bare, ""), key=lambda pair: len(pair[0]), reverse=True)
        self._unsaved: dict[str, tuple[Any, str]] = {}

    def check(self) -> None:
        """Refuse parameters and buffers that a load could not fill."""
        for name, tensor in self._own_state().items():
            if torch.nn.parameter.is_lazy(tensor):
                raise StateError(
                    f"{self.part}[{name}] is lazy and has no shape yet, so nothing could be loaded into it: run one "
                    "forward pass, such as model(batch), before track()."
                )
            if tensors.is_tensor(tensor) and any(
                not stride and length > 1 for stride, length in zip(_strides(tensor), tensor.shape, strict=False)
            ):
                raise StateError(
                    f"{self.part}[{name}] is an expanded tensor: several elements share one place in memory, so it "
                    "cannot be loaded. Register tensor.clone() instead."
                )

    def state(self) -> Any:
        """Its state_dict() with the names that it has without wrappers."""
        plain = {}
        for name, value in self._own_state().items():
            if tensors.is_tensor(value) and type(value) not in (torch.Tensor, torch.nn.Parameter):
                value = _as_plain(value)  # noqa: PLW2901
            plain[self._plain_name(name)] = value
        return plain

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Refuse the state of another architecture before anything is loaded.

        The message names the first parameter that differs.
        """
        own = self.state()
        advice = (
            f"The architecture changed since this run began: begin a new run under {ANOTHER_NAME}, "
            "or go back to the old model."
        )
        if not isinstance(state, Mapping):
            raise ResumeRefused(f"The checkpoint's {self.part} is no state of a module. {advice}")
        changing = set(self._of_changing_shape(own))
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
            if name in changing and mine.dtype == theirs.dtype:
                continue
            if tensors.is_tensor(mine) and (mine.shape, mine.dtype) != (theirs.shape, theirs.dtype):
                raise ResumeRefused(
                    f"{self.part}[{name}] has shape {tuple(theirs.shape)} of {theirs.dtype} in the checkpoint and "
                    f"{tuple(mine.shape)} of "
                    f"{mine.dtype} in this model. {advice}"
                )
        return state

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:
        """Load parameters and buffers, which parameters and statistics are frozen, and which modules evaluate."""
        own = self._own_state()
        named = type(own)((name, state[self._plain_name(name)]) for name in own)
        metadata = getattr(own, "_metadata", None)
        if metadata is not None:  # a module reads its state by version
            versions = facts.get("versions", {})
            named._metadata = {  # noqa: SLF001 - torch stores the versions in this attribute
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
        if "freeze_bn" in facts:
            frozen = set(facts["freeze_bn"])
            for name, module in self._freezable():
                module.freeze_bn = name in frozen

    def facts(self) -> dict[str, Any]:
        """Its class, what is frozen, modules in evaluation mode, and the version of each module's state."""
        versions = {
            self._plain_name(f"{name}.")[:-1]: module._version  # noqa: SLF001 - torch stores it with a state_dict
            for name, module in self.bare.named_modules()
            if getattr(module, "_version", 1) != 1
        }
        freezable = list(self._freezable())
        return {
            "class": self.kind,
            "frozen": [name for name, parameter in self.parameters() if not parameter.requires_grad],
            "evaluating": [name for name, module in self.modules() if not module.training],
            "versions": versions,
            **({"freeze_bn": [name for name, module in freezable if module.freeze_bn]} if freezable else {}),
        }

    def options(self, node: Any) -> dict[str, Any]:  # noqa: ARG002
        """The parameters that the program froze."""
        return {"requires_grad": {"frozen": [name for name, each in self.parameters() if not each.requires_grad]}}

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Its parameters by their names without wrappers."""
        for name, parameter in self.bare.named_parameters():
            yield self._plain_name(name), parameter

    def modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """Its modules by their names without wrappers. The wrappers are omitted."""
        for name, module in self.bare.named_modules():
            if without_wrapper(module) is module:
                yield self._plain_name(f"{name}.")[:-1], module

    def _of_changing_shape(self, own: Mapping[str, Any]) -> Iterator[str]:
        """Tensors of modules that load them in their own way, and of other shapes, as torch's observers do."""
        kinds: Iterator[tuple[str, Any]] = ((name, type(module)) for name, module in self.modules())
        owners = {name for name, kind in kinds if _loads_by_itself(kind)}
        return (name for name, value in own.items() if tensors.is_tensor(value) and name.rpartition(".")[0] in owners)

    def _freezable(self) -> Iterator[tuple[str, Any]]:
        """The fused modules of quantization-aware training, which freeze the statistics of their normalization.

        torch keeps the observers' switches in buffers, and this one in an attribute.
        """
        for name, module in self.modules():
            if isinstance(getattr(module, "freeze_bn", None), bool):
                yield name, module

    def unsaved(self) -> list[str]:
        """Buffers that no state_dict contains (persistent=False) and that have changed since the first call."""
        changed = []
        for name, module in self.modules():
            for key in module._non_persistent_buffers_set:  # noqa: SLF001 - torch has no public function for it
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

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Those of its modules, among them numbers such as a temperature that is annealed."""
        return {name: vars(module) for name, module in self.modules()}

    def may_save(self, number: str) -> bool:
        """Whether the module of a number, or one that it is in, makes its state by itself."""
        kinds = [type(each) for name, each in self.modules() if not name or number.startswith(f"{name}.")]
        return any(getattr(kind, each) is not getattr(torch.nn.Module, each) for kind in kinds for each in _OF_STATE)

    def _own_state(self) -> Any:
        return super().state()

    def _plain_name(self, name: str) -> str:
        for prefix, plain in self._prefixes:
            if name.startswith(prefix):
                return plain + name[len(prefix) :]
        return name


_OF_STATE = ("state_dict", "get_extra_state", "_save_to_state_dict")
"""Methods with which a module may put anything into its state."""

_WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}


def without_wrapper(thing: Any) -> Any:
    """The model inside its wrappers; other objects are returned unchanged.

    The names in its state do not depend on compilation or on the number of ranks.
    """
    while (inner := _wrapper(thing)) is not None:
        thing = getattr(thing, inner)
    return thing


@functools.cache
def _loads_by_itself(kind: Any) -> bool:
    maker = next(base for base in kind.__mro__ if "_load_from_state_dict" in vars(base))
    return not str(maker.__module__).startswith("torch.nn.")


def _wrapper(thing: Any) -> str | None:
    """The attribute in which a wrapper holds its model; None if the object is no wrapper."""
    kind: Any = type(thing)
    return _wrapper_of(kind)


@functools.cache
def _wrapper_of(kind: Any) -> str | None:
    known = [base.__name__ for base in kind.__mro__ if base.__module__.startswith("torch.")]
    return next((_WRAPPERS[name] for name in known if name in _WRAPPERS), None)


def _wrapped(module: torch.nn.Module, prefix: str, plain: str = "") -> Iterator[tuple[str, str]]:
    """Pairs: prefix of the names below a wrapper inside a module, and the same prefix without the wrapper."""
    for name, child in module.named_children():
        inner, own, theirs = child, f"{prefix}{name}.", f"{plain}{name}."
        while (attribute := _wrapper(inner)) is not None:
            inner, own = getattr(inner, attribute), f"{own}{attribute}."
        if own != theirs:
            yield own, theirs
        yield from _wrapped(inner, own, theirs)


def regroups(thing: Any) -> bool:
    """Whether DistributedDataParallel adds gradients in another order after the first step of a process."""
    return isinstance(thing, torch.nn.parallel.DistributedDataParallel) and not thing.find_unused_parameters


def _strides(tensor: Any) -> Sequence[int]:
    try:
        found: Sequence[int] = tensor.stride()
    except RuntimeError:  # a nested or sparse tensor; it is refused when it is packed
        return ()
    return found


def _as_plain(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the program's own class as a plain tensor.

    A module copies its state into its own tensors, so the class is kept.
    """
    if tensors.is_sharded(tensor) or hasattr(tensor, "__tensor_flatten__") or not hasattr(tensor, "as_subclass"):
        return tensor
    try:
        plain: torch.Tensor = tensor.detach().as_subclass(torch.Tensor)
        return plain if plain.data_ptr() or not plain.numel() else tensor
    except RuntimeError:
        return tensor
