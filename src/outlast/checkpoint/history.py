"""The run and the attempt that wrote a checkpoint, and the checkpoints that it continues.

Two machines may continue one run from the same checkpoint. Then two histories have one name. This module tells them
apart, so that they are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

MOST = 1000
"""Number of the newest entries of a lineage that are kept. Without a limit, manifests would grow with every attempt."""


class Identity(NamedTuple):
    """The identity of a run. Its checkpoints are recognised by it.

    Attributes:
        uid: the run's uid in its run.json.
        parent: for a fork, digest of the manifest of the checkpoint that it began from.
        format_1_until: the newest step of this run that was written in format 1, which has no uids; -1: none.
    """

    uid: str
    parent: str | None = None
    format_1_until: int = -1

    def owns(self, manifest: Mapping[str, Any]) -> bool:
        """Whether a checkpoint with this manifest belongs to the run. True if that cannot be known."""
        if "run" in manifest:
            return bool(self.uid == manifest["run"] or self.parent == manifest["digest"])
        return bool(manifest["step"] <= self.format_1_until or self.parent == manifest["digest"])

    def complaint(self, manifest: Mapping[str, Any], path: Path) -> str | None:
        """A sentence if a checkpoint with this manifest belongs to another run; None if it belongs to this one."""
        if self.owns(manifest):
            return None
        return (
            f"{path} is a checkpoint of another run ({str(manifest.get('run', 'written by an older outlast'))[:12]}), "
            f"and this one is {self.uid[:12]}. To begin from it, put it back into its own run folder and give that "
            "path as resume_from= or --resume."
        )


class History(NamedTuple):
    """The origin of an attempt's checkpoints. Their manifests contain it.

    Attributes:
        run: the run's uid.
        attempt: the attempt's id.
        lineage: one entry for each earlier attempt, oldest first: its id (null if it wrote format 1), and the step and
            the digest of its checkpoint from which the next attempt continued. Only the newest MOST entries are kept.
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
        """This history as keys of a manifest."""
        return {"run": self.run, "attempt": self.attempt, "lineage": [dict(entry) for entry in self.lineage]}


def is_ancestor(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether the second manifest's checkpoint equals the first's or continues it; None if that cannot be known.

    It cannot be known for format 1, which has no lineage, nor for entries that a very long lineage no longer has.
    """
    if one["digest"] == other["digest"]:
        return True
    attempt = one.get("attempt")
    if "lineage" not in other:
        return None if attempt is None else False  # an outlast that writes format 1 cannot continue a later format
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
