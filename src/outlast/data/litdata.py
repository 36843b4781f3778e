"""litdata's StreamingDataLoader as a tracked object."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from outlast.state.adapter import Adapter
from outlast.state.objects import TrackedObject


class StreamingLoader(TrackedObject):
    """A StreamingDataLoader.

    litdata 0.2.76 applies a state when the first batch is taken. When it is asked for its state before that, it writes
    the epoch that the dataset has now into the state that was loaded, and shuffles as in that epoch. So the state that
    was loaded is handed to it again after the question.
    """

    def __init__(self, part: str, thing: Any) -> None:
        super().__init__(part, thing)
        self._loaded: Any = None  # until the first batch after it was taken

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:
        """Load a state; see `TrackedObject.load`."""
        super().load(copy.deepcopy(state), facts)
        self._loaded = state

    def state(self) -> Any:
        """A copy of its state. litdata goes on counting in the one that it gives."""
        found = copy.deepcopy(super().state())
        if self._loaded is None:
            return found
        if _place(found) != _place(self._loaded):
            self._loaded = None
            return found
        self.bare.load_state_dict(copy.deepcopy(self._loaded))
        return copy.deepcopy(self._loaded)


def _place(state: Any) -> Any:
    return [state.get(key) for key in ("current_epoch", "num_samples_yielded")] if isinstance(state, Mapping) else state


def is_litdatas(thing: Any) -> bool:
    """Whether this object is of a class of litdata's."""
    return type(thing).__module__.partition(".")[0] == "litdata"


def is_mix(loader: Any) -> bool:
    """Whether this loader takes its samples from a CombinedStreamingDataset."""
    dataset = getattr(loader, "dataset", None)
    return type(dataset).__name__ == "CombinedStreamingDataset" and is_litdatas(dataset)


def _is_loader(value: Any) -> bool:
    return is_litdatas(value) and type(value).__name__ == "StreamingDataLoader"


def _tracked(part: str, thing: Any) -> TrackedObject | None:
    return StreamingLoader(part, thing) if _is_loader(thing) else None


ADAPTER = Adapter("litdata", tracked=_tracked)
