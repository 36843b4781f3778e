"""The schema of launches/NNNN.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.folder.records import Check, flag, form, many, number, or_null, table, text, whole

_NAME = text(300)

# Launches are deleted, with their datasets, in the account of the user: only what outlast may have made
# has such a name.
MADE = text(200, "outlast-(?!secrets$)[a-z0-9-]+", "a name that begins with outlast- as all that it makes")
"""A name that outlast has given to something it made at a provider."""
_LAUNCH_SAYS: Mapping[str, Check] = {
    "format": whole(1, 10**6),
    "number": whole(0, 10**9),
    "time": _NAME,
    "bundle": _NAME,
    "budget": or_null(number),
    "after": or_null(text(300)),
    "asked": table(),
    "terms": table(),
    "url": text(),
    "seconds": number,
    "step": whole(),
    "reached": whole(),
    "owed": flag,
}
_LAUNCH = form(
    {"state": _NAME, "provider": _NAME, "name": MADE, "handle": table(most=1000), "accelerator": _NAME}, _LAUNCH_SAYS
)
_LAUNCH_BEFORE_PROVIDERS = form(
    {"state": _NAME, "slug": MADE, "on": _NAME, "accelerator": _NAME},
    {**_LAUNCH_SAYS, "datasets": many(MADE, 10_000), "user": or_null(_NAME)},
)


def LAUNCH(value: Any, where: str) -> None:  # noqa: N802 - a form like those above
    """A launch: of any provider, whose handle the provider checks itself.

    Or of the time when there was one provider.
    """
    (_LAUNCH if isinstance(value, dict) and "provider" in value else _LAUNCH_BEFORE_PROVIDERS)(value, where)
