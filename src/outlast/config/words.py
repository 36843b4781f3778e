"""The nearest valid name, for messages about an unknown name."""

from __future__ import annotations

import difflib
from typing import Any


def nearest(word: str, known: Any) -> str:
    """The words "Did you mean X?" after a space, or the empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6) if len(word) <= 100 else []
    return f" Did you mean {close[0]!r}?" if close else ""
