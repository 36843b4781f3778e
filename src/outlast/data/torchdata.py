"""torchdata's StatefulDataLoader as a tracked object. Imported only when the program uses torchdata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchdata.stateful_dataloader import StatefulDataLoader

from outlast.errors import ResumeRefused
from outlast.state.adapter import Adapter
from outlast.state.objects import TrackedObject


class StatefulLoader(TrackedObject):
    """A StatefulDataLoader, also inside of accelerate's wrapper."""

    def fit(self, state: Any, facts: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Refuse a state that was kept with another number of workers; it would fail in an assertion.

        Raises:
            ResumeRefused: it was.
        """
        snapshot = state.get("_snapshot") if isinstance(state, Mapping) else None
        before = 0 if isinstance(state, Mapping) and "_num_yielded" in state else None
        if isinstance(snapshot, Mapping) and isinstance(main := snapshot.get("_main_snapshot"), Mapping):
            before = main.get("_num_workers")
        if before is not None and before != self.thing.num_workers:
            raise ResumeRefused(
                f"{self.part} (StatefulDataLoader) had num_workers={before} when it was saved and has "
                f"{self.thing.num_workers} now, and "
                f"torchdata keeps one position for each worker. Give it num_workers={before}; outlast.DataLoader "
                "continues with any number."
            )
        return state


def _is_loader(value: Any) -> bool:
    return isinstance(value, StatefulDataLoader)


def _tracked(part: str, thing: Any) -> TrackedObject | None:
    return StatefulLoader(part, thing) if _is_loader(thing) else None


ADAPTER = Adapter("torchdata", matches=_is_loader, tracked=_tracked)
