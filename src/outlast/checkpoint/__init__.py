"""Checkpoints: commit, verification, the newest valid one, retention.

This room knows files and hashes. It knows no framework, and not what a step means.

The names are loaded when they are first used: a run that has no checkpoint yet starts without what reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast import _lazy

if TYPE_CHECKING:
    from outlast.checkpoint.history import History as History
    from outlast.checkpoint.history import Identity as Identity
    from outlast.checkpoint.manifest import Checkpoint as Checkpoint
    from outlast.checkpoint.manifest import read_manifest as read_manifest
    from outlast.checkpoint.policy import CheckpointFacts as CheckpointFacts
    from outlast.checkpoint.policy import Retention as Retention
    from outlast.checkpoint.policy import SavePolicy as SavePolicy
    from outlast.checkpoint.reading import OpenedCheckpoint as OpenedCheckpoint
    from outlast.checkpoint.reading import open_checkpoint as open_checkpoint
    from outlast.checkpoint.reading import verify as verify
    from outlast.checkpoint.snapshot import Snapshot as Snapshot
    from outlast.checkpoint.store import CheckpointStore as CheckpointStore

_HOMES = {
    "Checkpoint": "manifest",
    "CheckpointFacts": "policy",
    "CheckpointStore": "store",
    "History": "history",
    "Identity": "history",
    "OpenedCheckpoint": "reading",
    "Retention": "policy",
    "SavePolicy": "policy",
    "Snapshot": "snapshot",
    "open_checkpoint": "reading",
    "read_manifest": "manifest",
    "verify": "reading",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are texts

__getattr__ = _lazy.names(__name__, _HOMES)
