"""torchdata.nodes' Loader as a tracked object. Imported only when the program uses torchdata.nodes.

Looked at: torchdata 0.11.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torchdata.nodes import BaseNode, IterableWrapper, Loader, ParallelMapper, SamplerWrapper
from torchdata.stateful_dataloader.sampler import RandomSampler

from outlast.data import foreign
from outlast.errors import StateError
from outlast.state.adapter import Adapter
from outlast.state.objects import TrackedObject


class NodesLoader(TrackedObject):
    """A Loader over nodes.

    torchdata applies a state when the loader is iterated next. A question before that is answered with the place of
    before the load; and a loader that was asked for its state before the load forgets what it loaded, for the first
    iteration. So the loaded state is the answer until the iteration begins, and what the question began is ended first.
    """

    def __init__(self, part: str, thing: Any) -> None:
        super().__init__(part, thing)
        self._loaded: Any = None

    def check(self) -> None:
        """Refuse nodes that would continue with other samples than those that were left.

        Raises:
            StateError: there is one.
        """
        for node in _nodes(self.bare.root):
            if isinstance(node, ParallelMapper) and not getattr(node, "in_order", True):
                raise StateError(
                    f"{self.part}: ParallelMapper was given in_order=False. Its state counts samples in order, so that "
                    "after a resume some would repeat and others would be skipped. Leave it out."
                )
            if isinstance(node, IterableWrapper):
                foreign.check_buffer(node.iterable)
            if isinstance(node, SamplerWrapper):
                self._check_sampler(node.sampler)

    def _check_sampler(self, sampler: Any) -> None:
        inside = getattr(sampler, "sampler", sampler)
        # torchdata's own RandomSampler has a state in StatefulDataLoader only, which asks its iterator.
        if isinstance(inside, RandomSampler) or not (foreign.has_state(sampler) or foreign.gives_again(sampler)):
            raise StateError(
                f"{self.part}: SamplerWrapper counts the samples that {type(inside).__qualname__} gave and does not "
                "keep their order: after a resume, every epoch but the first would go on with the order of the first "
                "one. Use DistributedSampler(dataset, num_replicas=1, rank=0, seed=...), whose order follows from its "
                "seed and the epoch, or outlast.DataLoader."
            )

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:
        """Load a state; see `TrackedObject.load`."""
        if getattr(self.bare, "_iter_for_state_dict", False):
            iter(self.bare)  # the iteration that the question for a state began, which a load does not reach
        super().load(copy.deepcopy(state), facts)
        self._loaded = copy.deepcopy(state)
        for node in _nodes(self.bare.root):
            if isinstance(node, SamplerWrapper) and foreign.has_state(node.sampler):
                _tell_epoch(node, state)

    def state(self) -> Any:
        """A copy of its state: the loaded one until a batch is taken."""
        if self._loaded is not None and getattr(self.bare, "_next_iter_state_dict", None) is not None:
            return copy.deepcopy(self._loaded)
        found = copy.deepcopy(super().state())
        if self._loaded is not None and _places(found) == _places(self._loaded):
            return copy.deepcopy(self._loaded)  # a sampler takes over its own state with the first batch
        self._loaded = None
        return found


def _tell_epoch(node: Any, state: Any) -> None:
    """SamplerWrapper tells the epoch to samplers without a state only; StatefulDistributedSampler does not save it."""
    epochs = [each[SamplerWrapper.EPOCH_KEY] for each in _mappings(state) if SamplerWrapper.SAMPLER_KEY in each]
    if len(set(epochs)) == 1 and callable(getattr(node.sampler, "set_epoch", None)):
        node.sampler.set_epoch(epochs[0])


def _places(state: Any) -> Any:
    """A state that can be compared, without those of samplers."""
    if isinstance(state, Mapping):
        return {key: _places(value) for key, value in state.items() if key != SamplerWrapper.SAMPLER_KEY}
    if isinstance(state, (list, tuple)):
        return [_places(value) for value in state]
    return state.tolist() if hasattr(state, "tolist") else state


def _mappings(state: Any, depth: int = 50) -> Iterator[Mapping[str, Any]]:
    if isinstance(state, Mapping) and depth:
        yield state
        for value in state.values():
            yield from _mappings(value, depth - 1)


def _nodes(root: Any, depth: int = 50) -> Iterator[Any]:
    """The nodes of a pipeline, each with those that it takes from."""
    yield root
    if not depth:
        return
    for value in list(vars(root).values()):
        for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else (value,):
            if isinstance(each, BaseNode):
                yield from _nodes(each, depth - 1)


def _is_loader(value: Any) -> bool:
    return isinstance(value, Loader)


def _tracked(part: str, thing: Any) -> TrackedObject | None:
    return NodesLoader(part, thing) if _is_loader(thing) else None


ADAPTER = Adapter("torchdata.nodes", matches=_is_loader, tracked=_tracked)
