"""Quantities with units: "11h30m", "500 steps", "2 epochs"."""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple, TypeGuard

_LARGEST = sys.float_info.max

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "sec": 1.0}
_PIECE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(min|sec|[dhms])")
_COUNT = re.compile(r"([0-9]{1,15})\s*(step|epoch)s?")


def parse_seconds(value: Any) -> Any:
    """Seconds of "11h30m", "90s", "1.5 h"; a number is seconds; None stays. Raises ValueError."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = str(value).strip().lower()
    if text == "none":
        return None
    pieces = _PIECE.findall(text)
    if not pieces or _PIECE.sub("", text).strip():
        raise ValueError(f"expected a duration with units, such as 11h30m, 45m or 90s{_instead(text)}")
    return sum(float(number) * _SECONDS[unit] for number, unit in pieces)


def _instead(text: str) -> str:
    """The duration that a text without units probably means."""
    if re.fullmatch(r"\d{1,9}", text) and int(text):
        return f": write {text}s"
    if clock := re.fullmatch(r"(\d{1,4}):(\d\d)(?::(\d\d))?", text):
        first, second, third = clock.groups()
        if third:
            return f": write {first}h{second}m{third}s"
        return f": write {first}h{second}m or {int(first) * 60 + int(second)}s"
    return ""


def is_finite(value: object) -> TypeGuard[int | float]:
    """Whether this is a number that a float can hold.

    Not NaN, not an infinity, and no int beyond a float's range (which math.isfinite raises at).
    """
    return isinstance(value, int | float) and -_LARGEST <= value <= _LARGEST


def format_seconds(seconds: float) -> str:
    """The two largest units: 14d00h, 11h30m, 4m05s, 12s. Days begin at a hundred hours."""
    whole = max(0, round(seconds))
    if whole >= 100 * 3600:
        return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    if whole >= 60:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole}s"


def format_bytes(size: float) -> str:
    """Bytes in decimal units, such as 967.8 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


class Interval(NamedTuple):
    """An interval in steps, epochs or seconds. If several are given, the first one counts.

    `each_step`: besides, what outlives a kill of the process after every step; see `open_run`.
    """

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None
    auto: bool = False
    each_step: bool = False


def parse_interval(text: str) -> Interval:
    """Read "500 steps", "2 epochs", "30m", "auto", "every step", several joined by commas, or "never".

    "every step" alone is "auto, every step". Raises ValueError.
    """
    if text.strip().lower() == "never":
        return Interval()
    found: dict[str, Any] = {}
    for piece in text.lower().split(","):
        if piece.split() == ["every", "step"] and "each_step" not in found:
            found["each_step"] = True
            continue
        count = _COUNT.fullmatch(piece.strip())
        if piece.strip() == "auto" and not found.keys() & {"auto", "seconds"}:
            found["auto"] = True
            continue
        try:
            name, value = (f"{count[2]}s", int(count[1])) if count else ("seconds", parse_seconds(piece))
        except ValueError:
            name, value = "", None
        if (
            not name
            or name in found
            or (name == "seconds" and "auto" in found)
            or value is None
            or value <= 0
            or piece.strip().replace(".", "").isdigit()
        ):
            raise ValueError(
                'expected an interval with units, such as "auto", "500 steps", "2 epochs", "10m", "10m, 1 epoch", '
                'or "every step"'
            )
        found[name] = value
    if found.keys() == {"each_step"}:
        found["auto"] = True
    return Interval(**found)
