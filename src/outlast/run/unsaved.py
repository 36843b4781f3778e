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


_NUMBERS = (bool, int, float)


def numbers(held: TrackedObject) -> dict[str, str]:
    """Numbers in attributes of an object, by their names, as text.

    A name that begins with an underscore is left out: libraries keep caches and counts of calls there.
    """
    return {
        _full(part, name): repr(value)
        for part, own in held.attributes().items()
        for name, value in own.items()
        if type(value) in _NUMBERS and _is_looked_at(held, name)
    }


class Numbers:
    """Numbers in attributes of an object that training changes, such as a temperature or whether something was set up.

    No state_dict has them. Whether training depends on one is not known, so the user is told, and a resume that begins
    with another value is not called exact. Modules that are added while training runs are not looked at.

    Args:
        held: the object, as it is before the first step.
    """

    def __init__(self, held: TrackedObject) -> None:
        self._held = held
        self._changed: set[str] = set()
        self._told: set[str] = set()
        # There are thousands of attributes, and this is compared at every save: only what may be or become a number.
        self._first = [
            (
                part,
                own,
                len(own),
                {name: each for name, each in own.items() if each is None or type(each) in _NUMBERS},
            )
            for part, own in held.attributes().items()
        ]

    def know(self, names: Collection[str]) -> None:
        """Names of those that an earlier attempt has changed; a resume has said what they are worth."""
        self._changed.update(names)
        self._told.update(names)

    def look(self) -> tuple[dict[str, str], list[str]]:
        """Those that have changed, as text, and a warning about new ones."""
        changed = set(self._changed)
        for part, own, count, first in self._first:
            for name in first if len(own) == count else own:
                value, before = own.get(name), first.get(name)
                if value is before or type(value) not in _NUMBERS or repr(value) == repr(before):
                    continue
                if _is_looked_at(self._held, name):
                    changed.add(_full(part, name))
        if not changed:
            return {}, []
        self._changed = changed
        now = numbers(self._held)
        found = {name: now[name] for name in sorted(changed) if name in now}
        new = [name for name in found if name not in self._told and not self._held.may_save(name)]
        self._told.update(found)
        return found, [_about(self._held.part, new)] if new else []


def _is_looked_at(held: TrackedObject, name: str) -> bool:
    return not name.startswith("_") and name not in held.in_facts


def _full(part: str, name: str) -> str:
    return f"{part}.{name}" if part else name


def _about(part: str, names: Collection[str]) -> str:
    named = ", ".join(f"{part}.{name}" for name in names)
    return (
        f"Training changes {named}: numbers in attributes, which no state_dict has. They are not saved, and a resume "
        "begins with what the program builds. If training depends on one, keep it in a buffer or a parameter group, or "
        "set it from run.step before the loop. If not, begin its name with _, and it is not looked at."
    )


def schedules(tracked: Collection[TrackedObject]) -> list[str]:
    """Warnings about optimizers whose scheduler is not tracked: it starts over in every session."""
    return [
        f"A learning rate scheduler of {held.part} is not tracked, so its schedule starts over at every resume. "
        "Track it: run.track(scheduler=scheduler)."
        for held in tracked
        if held.lacks_schedule(tracked)
    ]
