"""Words for messages: the nearest valid name, and values as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def nearest(word: str, known: Any) -> str:
    """The words "Did you mean X?" after a space, or the empty string.

    The dashes of a flag do not count, and of a short word fewer letters may differ.
    """
    names = {str(name).lstrip("-"): name for name in known}
    bare = word.lstrip("-")
    cutoff = 0.6 if len(bare) > 6 else 0.7
    import difflib  # for a mistake only

    close = difflib.get_close_matches(bare, list(names), n=1, cutoff=cutoff) if len(word) <= 100 else []
    return f" Did you mean {names[close[0]]!r}?" if close else ""


def show(value: Any) -> str:
    """A value as one line of YAML."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value)
    return (
        {None: "none", True: "true", False: "false"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )


def as_flag(value: Any) -> str:
    """A value as the command line takes it: like `show`, but lists with commas alone."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else show(value)
