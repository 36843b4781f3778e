"""The run and the attempt that wrote a checkpoint, and the checkpoints that it continues.

Two machines may continue with one run from the same checkpoint, and then there are two histories under one name. They
are distinguished by this, and never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = 1000
"""Entries of a lineage that are carried on, the newest; a manifest would grow with every attempt."""


@dataclass(frozen=True)
class Identity:
    """The identity of a run, by which its checkpoints are recognised.

    Attributes:
        uid: of the run, as its run.json has it.
        parent: digest of the manifest of the other run's checkpoint that a fork began from.
        format_1_until: the newest step that an outlast which wrote format 1, without uids, left in this run; -1: none.
    """

    uid: str
    parent: str | None = None
    format_1_until: int = -1

    def owns(self, manifest: Mapping[str, Any]) -> bool:
        """Whether a checkpoint of this manifest belongs to the run, as far as anybody can know."""
        if "run" in manifest:
            return bool(self.uid == manifest["run"] or self.parent == manifest["digest"])
        return bool(manifest["step"] <= self.format_1_until or self.parent == manifest["digest"])

    def complaint(self, manifest: Mapping[str, Any], path: Path) -> str | None:
        """A sentence when the checkpoint of this manifest is one of another run, put into this one's folder."""
        if self.owns(manifest):
            return None
        return (
            f"{path} is a checkpoint of another run ({str(manifest.get('run', 'written by an older outlast'))[:12]}), "
            f"and this one is {self.uid[:12]}. To begin from it, put it back into its own run folder and give that "
            "path as resume_from= or --resume."
        )


@dataclass(frozen=True)
class History:
    """The origin of an attempt's checkpoints, as in their manifests.

    Attributes:
        run: the run's uid.
        attempt: the attempt's id.
        lineage: oldest first, one entry for each earlier attempt in the chain: its id (null: one that wrote format 1),
            and the step and the digest of that checkpoint of it from which the next one continued. Only the newest MOST
            of them are kept.
    """

    run: str
    attempt: str
    lineage: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def following(cls, run: str, attempt: str, manifest: Mapping[str, Any] | None) -> History:
        """The history of an attempt that continues a checkpoint, or starts fresh."""
        if manifest is None:
            return cls(run, attempt)
        last = {"attempt": manifest.get("attempt"), "step": manifest["step"], "digest": manifest["digest"]}
        return cls(run, attempt, (*manifest.get("lineage", ()), last)[-MOST:])

    def as_json(self) -> dict[str, Any]:
        """The keys of a manifest."""
        return {"run": self.run, "attempt": self.attempt, "lineage": [dict(entry) for entry in self.lineage]}


def is_ancestor(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether the second manifest's checkpoint is the first's or continues it; None when it cannot be known.

    Format 1 says nothing of it; and of a very long lineage only the newest entries are kept.
    """
    if one["digest"] == other["digest"]:
        return True
    attempt = one.get("attempt")
    if "lineage" not in other:
        return None if attempt is None else False  # what writes format 1 cannot continue a later format
    lineage = other["lineage"]
    if any(entry["digest"] == one["digest"] for entry in lineage):
        return True
    if attempt is not None:
        if attempt == other["attempt"]:
            return bool(one["step"] <= other["step"])
        if any(entry["attempt"] == attempt and one["step"] <= entry["step"] for entry in lineage):
            return True
    elif any(entry["attempt"] is None and one["step"] <= entry["step"] for entry in lineage):
        return None
    forgotten = len(lineage) >= MOST and one["step"] <= lineage[0]["step"]
    return None if forgotten and all(entry["attempt"] != attempt for entry in lineage) else False
