"""What training depends on and a checkpoint does not hold, as warnings to the user."""

from __future__ import annotations

from collections.abc import Collection

from outlast.state import Packed, TrackedObject


def empty(held: TrackedObject, packed: Packed) -> list[str]:
    """A warning if an object has an empty state."""
    enabled = getattr(held.bare, "is_enabled", None)
    if packed[0] or packed[1] or (callable(enabled) and not enabled()):  # a scaler that is switched off
        return []
    return [
        (
            f"{held.part} ({held.kind}) has an empty state_dict(), so nothing of it is saved, and it starts over "
            "at every resume. If it counts something, let its state_dict() hold that (metric.persistent(True) for "
            "a metric of torchmetrics; where it stays empty then, as MinMaxMetric's does, track what it wraps); "
            "else leave it out."
        )
    ]


def buffers(held: TrackedObject, known: set[str]) -> list[str]:
    """A warning about buffers that training changes and that are no part of the state_dict.

    Args:
        held: the object.
        known: names of those that the user was warned of; gets the new ones.
    """
    new = [name for name in held.unsaved() if name not in known]
    known.update(new)
    if not new:
        return []
    return [
        (
            f"Training changes {', '.join(f'{held.part}[{name}]' for name in new)}, which is no part of the "
            "state_dict (persistent=False) "
            "and is not saved: a resume begins with what the program builds. Register the buffer with "
            "persistent=True to save it."
        )
    ]


def schedules(tracked: Collection[TrackedObject]) -> list[str]:
    """Warnings about optimizers whose scheduler is not tracked: it starts over in every session."""
    return [
        f"A learning rate scheduler of {held.part} is not tracked, so its schedule starts over at every resume. "
        "Track it: run.track(scheduler=scheduler)."
        for held in tracked
        if held.lacks_schedule(tracked)
    ]
