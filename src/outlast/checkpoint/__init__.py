"""Checkpoints: commit, verification, the newest valid one, retention.

Knows files and hashes, no framework and no meaning of a step.
"""

from outlast.checkpoint.history import History, Identity
from outlast.checkpoint.manifest import Checkpoint, read_manifest
from outlast.checkpoint.policy import CheckpointFacts, Retention, SavePolicy
from outlast.checkpoint.reading import OpenedCheckpoint, open_checkpoint, verify
from outlast.checkpoint.snapshot import Snapshot
from outlast.checkpoint.store import CheckpointStore

__all__ = [
    "Checkpoint",
    "CheckpointFacts",
    "CheckpointStore",
    "History",
    "Identity",
    "OpenedCheckpoint",
    "Retention",
    "SavePolicy",
    "Snapshot",
    "open_checkpoint",
    "read_manifest",
    "verify",
]
