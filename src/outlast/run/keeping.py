"""Values of the program and of the checkpoint: `keep` of `Run.track`, and what a user reads of those that differ."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from outlast import state
from outlast.errors import UsageError
from outlast.state import TrackedObject

ALL = "*"
"""In `keep`: nothing of the checkpoint is loaded into this part."""

_SHOWN = 3  # names of parameters that are spelled out


def check_keep(keep: Mapping[str, Any] | None, parts: Collection[str]) -> dict[str, list[str]]:
    """The argument `keep`, typed; raises UsageError."""
    checked: dict[str, list[str]] = {}
    for part, names in (keep or {}).items():
        if part not in parts:
            raise UsageError(
                f"keep names {part!r}, which is not tracked in the same call; that tracks {', '.join(sorted(parts))}."
            )
        if (
            isinstance(names, str)
            or not isinstance(names, Sequence)
            or not all(isinstance(name, str) for name in names)
        ):
            raise UsageError(
                f"keep[{part!r}] is {names!r:.80}; expected a list of names, such as ['lr'], or ['*'] for all of it."
            )
        checked[part] = list(names)
    return checked


def with_kept(held: TrackedObject, stored: Any, built: Any, keep: Collection[str]) -> Any:
    """A stored state in which the values of these names are the program's.

    Args:
        held: the object.
        stored: its state in the checkpoint.
        built: its state as the program has built it.
        keep: the names.

    Raises:
        UsageError: a name is none of the object's.
    """
    apart = {"requires_grad", "lr"} if held.rates() is not None else {"requires_grad"}  # rates follow their schedule
    left = set(keep) - apart
    result = _replace(stored, built, set(keep) - apart, left)
    if left:
        names = sorted({path.split(".")[-1] for path in held.options(state.pack_value(held.part, built)[0])})
        raise UsageError(
            f"keep names {', '.join(map(repr, sorted(left)))} of {held.part!r}, which has no such value. It "
            f"has: {', '.join(names) or 'none'}; '*' keeps all of it."
        )
    return result


def options(
    held: TrackedObject, before: Mapping[str, Any], built: Mapping[str, Any], keep: Collection[str]
) -> tuple[dict[str, Any], str | None]:
    """The options in force after the load, and a sentence about those that the program built otherwise.

    Args:
        held: the object.
        before: those in the checkpoint.
        built: what the program chose in this attempt.
        keep: names of values that the program wins.
    """
    in_force, overridden = dict(built), []
    for path, value in held.arrange(before).items():
        if path not in built or built[path] == value:
            continue
        if _leaf(path) in keep or path in keep:
            continue
        in_force[path] = value
        overridden.append((path, built[path], value))
    return in_force, _overridden(held.part, overridden) if overridden else None


def _overridden(part: str, changes: Sequence[tuple[str, Any, Any]]) -> str:
    texts: list[str] = []
    names: list[str] = []
    for path, mine, theirs in changes:
        name = _leaf(path)
        text = f"{name} {_text(theirs)} (this program: {_text(mine)})"
        if path.startswith("requires_grad"):
            name, text = "requires_grad", _frozen(theirs, mine)
        if text not in texts:
            texts.append(text)
        if name not in names:
            names.append(name)
    return (
        f"{part} keeps the values that the run began with: "
        f"{', '.join(texts[:6])}{', ...' if len(texts) > 6 else ''}. To use this program's instead: "
        f"run.track(..., keep={{{part!r}: {names!r}}})."
    )


def _replace(stored: Any, built: Any, keep: Collection[str], left: set[str]) -> Any:
    """A copy of the stored state in which the values of these names are the built ones."""
    if isinstance(stored, dict) and isinstance(built, Mapping):
        made = dict(stored) if type(stored) is dict else stored.copy()
        for key, value in stored.items():
            if key not in built:
                continue
            if key in keep:
                made[key] = built[key]
                left.discard(key)
            else:
                made[key] = _replace(value, built[key], keep, left)
        return made
    if type(stored) in (list, tuple) and type(built) is type(stored) and len(built) == len(stored):
        return type(stored)(_replace(one, other, keep, left) for one, other in zip(stored, built, strict=True))
    return stored


def _leaf(path: str) -> str:
    """The name of an option: the last word of its path that is no number."""
    return next((word for word in reversed(path.split(".")) if not word.isdigit()), path)


def _text(node: Any) -> str:
    """A packed value as a reader would write it."""
    if isinstance(node, Mapping) and len(node) == 1:
        key, content = next(iter(node.items()))
        if key == "$tuple":
            return f"({', '.join(map(_text, content))})"
        if key.startswith("$") and isinstance(content, str):
            return content
    return json.dumps(node)[:60]


def _frozen(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    before, now = (set(each.get("frozen", ())) for each in (theirs, mine))
    other = sorted(before ^ now)
    return f"{len(before)} frozen parameters (this program: {len(now)}; {', '.join(other[:_SHOWN])} differ)"
