"""Seconds from the first batch to the end of the last epoch's validation, and the peak of memory until then."""

from __future__ import annotations

import resource
import time

_marks: dict[str, tuple[float, float]] = {}
_peaks = [0.0]


def begin() -> None:
    """A batch begins; the first one counts."""
    _marks.setdefault("first", (time.perf_counter(), time.process_time()))


def end() -> None:
    """An epoch has been validated; the last one counts."""
    _marks["last"] = (time.perf_counter(), time.process_time())
    _peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def seconds() -> tuple[float, float]:
    """Seconds of the wall, and of this process on its cores."""
    if len(_marks) < 2:
        return 0.0, 0.0
    return _marks["last"][0] - _marks["first"][0], _marks["last"][1] - _marks["first"][1]


def peak_mib() -> float:
    """Peak of this process's memory in MiB. What is made of a finished training, such as pictures, is left out: they
    are no part of what ultralytics alone does here."""
    return _peaks[-1]
