"""Checkpoints: commit, verification, the newest valid one, retention.

This room knows files and hashes. It knows no framework, and not what a step means.
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
