"""Curves of bounded size: of each range of steps, the smallest and the largest value are kept, and the mean.

The ranges become wider as the run becomes longer, so a curve can be read while its run trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outlast.errors import OutlastError
from outlast.report import bulk
from outlast.report.digits import Floats
from outlast.tracking import reading

RANGES = 1024
"""Ranges of steps of a curve at most; a curve has up to twice as many points."""

MOST_METRICS = 400
"""Metrics of a run whose curves are kept."""


class Curve:
    """One metric over steps.

    Attributes:
        count: number of values.
        last: step and value of the largest step.
        odd: number of values that are NaN or infinite; they are not drawn.
        odd_at: the smallest step of such a value.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last: tuple[float, float] = (-1.0, math.nan)
        self.odd, self.odd_at = 0, math.inf
        self._base, self._width = 0.0, 1.0
        self._parts = _Parts.empty()

    def add(self, steps: Floats, values: Floats) -> None:
        """Add values at steps; the order is free, and fastest if the steps ascend."""
        if not (finite := np.isfinite(values)).all():
            self.odd += int((~finite).sum())
            self.odd_at = min(self.odd_at, float(steps[~finite].min()))
            steps, values = steps[finite], values[finite]
        if not len(steps):
            return
        if (np.diff(steps) < 0).any():
            order = np.argsort(steps, kind="stable")
            steps, values = steps[order], values[order]
        first, end = float(steps[0]), float(steps[-1])
        if self.count == 0:
            self._base = first
        if end >= self.last[0]:
            self.last = end, float(values[-1])
        self.count += len(steps)
        wider = self._fit(min(self._base, first), max(self.last[0], end))
        added = _Parts.of(steps, values, self._place(steps))
        self._parts = _Parts.joined(self._parts, added, self._place, again=wider)

    def _fit(self, base: float, end: float) -> bool:
        """Make the ranges wide enough; returns whether they changed."""
        before = self._base, self._width
        self._base = base
        while (end - base) // self._width >= RANGES:
            self._width *= 2
        return before != (self._base, self._width)

    def _place(self, steps: Floats) -> NDArray[np.int64]:
        return np.asarray((steps - self._base) // self._width, np.int64)

    @property
    def lowest(self) -> tuple[float, float]:
        """Step and value of the smallest value."""
        at = int(np.argmin(self._parts.low))
        return float(self._parts.low_step[at]), float(self._parts.low[at])

    @property
    def highest(self) -> tuple[float, float]:
        """Step and value of the largest value."""
        at = int(np.argmax(self._parts.high))
        return float(self._parts.high_step[at]), float(self._parts.high[at])

    def points(self, ranges: int = RANGES) -> tuple[Floats, Floats]:
        """Steps and values, ascending: all of them, or the smallest and the largest value of each range."""
        parts = self._coarser(ranges)
        steps = np.stack([parts.low_step, parts.high_step], axis=1)
        values = np.stack([parts.low, parts.high], axis=1)
        turned = steps[:, 0] > steps[:, 1]
        steps[turned], values[turned] = steps[turned, ::-1], values[turned, ::-1]
        kept = np.ones(steps.shape, dtype=bool)
        kept[:, 1] = steps[:, 1] > steps[:, 0]
        steps, values = steps[kept], values[kept]
        if self.count and steps[-1] < self.last[0]:
            steps, values = np.append(steps, self.last[0]), np.append(values, self.last[1])
        return steps, values

    def means(self, ranges: int = RANGES) -> tuple[Floats, Floats] | None:
        """The mean of each range and the step of its middle; None if `points` gives all values."""
        parts = self._coarser(ranges)
        if (parts.count <= 2).all():
            return None
        return parts.step_sum / parts.count, parts.sum / parts.count

    def _coarser(self, ranges: int) -> _Parts:
        parts, factor = self._parts, 1
        while len(parts.place) > ranges:
            factor *= 2
            parts = parts.grouped(self._parts.place // factor, self._parts)
        return parts


@dataclass(frozen=True)
class _Parts:
    """Ranges of steps with values in them, ascending. All arrays have one element per range."""

    place: NDArray[np.int64]
    count: Floats
    sum: Floats
    step_sum: Floats
    low: Floats
    low_step: Floats
    high: Floats
    high_step: Floats

    @classmethod
    def empty(cls) -> _Parts:
        none = np.zeros(0)
        return cls(np.zeros(0, np.int64), *[none] * 7)

    @classmethod
    def of(cls, steps: Floats, values: Floats, place: NDArray[np.int64]) -> _Parts:
        """Parts from values; `place` ascends."""
        ones = np.ones(len(steps))
        return cls(place, ones, values, steps, values, steps, values, steps).grouped(place)

    @classmethod
    def joined(cls, old: _Parts, new: _Parts, placed: Any, *, again: bool) -> _Parts:
        """The parts of both, in the current ranges."""
        if not len(old.place):
            return new
        if again:
            where = placed(old.low_step)
            old = old.grouped(where)
        both = cls(*(np.concatenate([getattr(old, name), getattr(new, name)]) for name in _FIELDS))
        if len(new.place) and old.place[-1] >= new.place[0]:
            order = np.argsort(both.place, kind="stable")
            both = cls(*(getattr(both, name)[order] for name in _FIELDS))
        return both.grouped(both.place)

    def grouped(self, place: NDArray[np.int64], source: _Parts | None = None) -> _Parts:
        """Parts with equal places made one; `place` ascends."""
        parts = source or self
        starts = np.flatnonzero(np.diff(place, prepend=place[0] - 1)) if len(place) else np.zeros(0, np.intp)
        if len(starts) == len(place):
            return _Parts(place, *(getattr(parts, name) for name in _FIELDS[1:]))
        low = _extreme(np.minimum, parts.low, parts.low_step, starts)
        high = _extreme(np.maximum, parts.high, parts.high_step, starts)
        count, total, step_sum = (np.add.reduceat(each, starts) for each in (parts.count, parts.sum, parts.step_sum))
        return _Parts(place[starts], count, total, step_sum, *low, *high)


_FIELDS = tuple(_Parts.__dataclass_fields__)


def _extreme(which: np.ufunc, values: Floats, steps: Floats, starts: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """The extreme value of each group, and the step of the first one that has it."""
    found = which.reduceat(values, starts)
    lengths: NDArray[np.intp] = np.diff(np.append(starts, len(values)))
    hits = np.flatnonzero(values == np.repeat(found, lengths))
    first = hits[np.searchsorted(hits, starts)]
    return found, steps[first]


@dataclass
class Curves:
    """The curves of a run, read from its journal; `more` reads what was added since.

    Attributes:
        renamed: former name -> name of metrics.
        by_name: metric -> curve, in the order of their first appearance.
        broken: number of lines that could not be read.
        left_out: names of metrics beyond MOST_METRICS.
        read_to: the offset up to which the journal was read.
        trouble: why it could not be read at the last look; None if it could, or does not exist.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    by_name: dict[str, Curve] = field(default_factory=dict)
    broken: int = 0
    left_out: set[str] = field(default_factory=set)
    read_to: int = 0
    trouble: OutlastError | OSError | None = None
    _tail: bytes = b""

    def more(self, journal: Path) -> bool:
        """Read the lines that were added; returns whether there were any. A journal that cannot be read has none."""
        before = self.read_to
        self.trouble = None
        try:
            for block in bulk.blocks(journal, self.read_to):
                self._add(block)
        except FileNotFoundError:  # nothing was logged yet
            pass
        except (OutlastError, OSError) as error:
            self.trouble = error
        return self.read_to > before

    def continues(self, journal: Path) -> bool:
        """Whether a journal begins with what was read. A resume from before its end makes it shorter."""
        if not self.read_to:
            return True
        try:
            with reading.opened(journal) as file:
                file.seek(self.read_to - len(self._tail))
                return file.read(len(self._tail)) == self._tail
        except (OutlastError, OSError):
            return False

    def _add(self, block: bulk.Block) -> None:
        self.broken += block.broken
        self.read_to, self._tail = block.end, block.tail
        for stored, found in block.series.items():
            name = self.renamed.get(stored, stored)
            if name not in self.by_name:
                if len(self.by_name) >= MOST_METRICS:
                    if len(self.left_out) < 10 * MOST_METRICS:
                        self.left_out.add(name)
                    continue
                self.by_name[name] = Curve()
            for steps, values in found:
                self.by_name[name].add(steps, values)

    @property
    def known(self) -> Thinned:
        """The curves for a picture."""
        drawn = {name: curve.points() for name, curve in self.by_name.items() if curve.count}
        some = sum(curve.count for curve in self.by_name.values()) > sum(len(steps) for steps, _ in drawn.values())
        return Thinned({name: (steps.tolist(), values.tolist()) for name, (steps, values) in drawn.items()}, some)


@dataclass(frozen=True)
class Thinned:
    """Curves for `draw_curves`.

    Attributes:
        series: metric -> its steps and values.
        is_thinned: whether these are the extremes of ranges of steps and not all values.
    """

    series: Mapping[str, tuple[list[float], list[float]]]
    is_thinned: bool

    @property
    def thinned(self) -> str:
        """A sentence about what is drawn; empty if that is every value."""
        return "Of each range of steps, the smallest and the largest value are drawn." if self.is_thinned else ""

    @property
    def counted(self) -> str:
        """The same in a few words."""
        return "smallest and largest values of ranges"
