"""The nearest valid name, for messages about an unknown name."""

from __future__ import annotations

import difflib
from typing import Any


def nearest(word: str, known: Any) -> str:
    """The words "Did you mean X?" after a space, or the empty string.

    The dashes of a flag do not count, and of a short word fewer letters may differ.
    """
    names = {str(name).lstrip("-"): name for name in known}
    bare = word.lstrip("-")
    cutoff = 0.6 if len(bare) > 6 else 0.7
    close = difflib.get_close_matches(bare, list(names), n=1, cutoff=cutoff) if len(word) <= 100 else []
    return f" Did you mean {names[close[0]]!r}?" if close else ""
