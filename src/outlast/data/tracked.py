"""Loaders of outlast as tracked objects."""

from __future__ import annotations

from typing import Any

from outlast.data import feed
from outlast.state.adapter import Adapter
from outlast.state.objects import TrackedObject


class Loader(TrackedObject):
    """A loader of outlast's own, or a sampler: loading its position twice is harmless, though it can be iterated."""

    def __init__(self, part: str, thing: Any) -> None:
        super().__init__(part, thing)
        self.repairable = True


def _tracked(part: str, thing: Any) -> TrackedObject | None:
    return None if feed.own(thing) is None else Loader(part, thing)


ADAPTER = Adapter("outlast.data", tracked=_tracked)
