"""The git repositories whose branches refer to objects of a store; the store has one object for each."""

from __future__ import annotations

import hashlib
import json

from outlast.errors import CorruptCheckpoint, UsageError
from outlast.publish import manifest
from outlast.publish.gitcommand import checked_url
from outlast.remote.base import Remote

OWNERS = "owners/"
"""Prefix of the names of these objects."""


def owner_of(url: str) -> tuple[str, bytes]:
    """The object by which a store knows a git repository: its name and its contents."""
    return f"{OWNERS}{hashlib.sha256(url.encode()).hexdigest()[:32]}.json", json.dumps({"git": url}).encode() + b"\n"


def owners_in(store: Remote) -> list[str]:
    """The URLs of the git repositories that have published into a store.

    Raises:
        CorruptCheckpoint: an object under OWNERS names none.
    """
    return sorted(_owner(store, entry.name) for entry in store.list(OWNERS))


def _owner(store: Remote, name: str) -> str:
    try:
        url = checked_url(json.loads(manifest.bounded(store, name))["git"], store.address(name))
        known = owner_of(url)[0] == name
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError):
        known = False
    if not known:
        raise CorruptCheckpoint(
            f"{store.address(name)} names no git repository, so its references cannot be read. Nothing was deleted. "
            "Delete that object if nothing needs it."
        )
    return url
