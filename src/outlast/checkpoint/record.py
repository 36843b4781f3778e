"""The contents of state.json: everything of a state besides its arrays (docs/reference/format.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from outlast.errors import CorruptCheckpoint
from outlast.folder import records, schemas


class LoopRecord(NamedTuple):
    """Where the loop is.

    Attributes:
        position: epochs done, and batches of the running epoch done.
        loader: what is known of the loader of a loop over batches, besides its state; empty in other loops.
        pending: `epoch_ended` and `epoch` of the step's validation, if it was interrupted and is still to be done.
    """

    position: tuple[int, int] = (0, 0)
    loader: Mapping[str, Any] = {}
    pending: Mapping[str, int | None] | None = None

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """The loop in a state.json of the right types."""
        epochs, batches = state.get("loop", (0, 0))
        pending = state.get("pending")
        if isinstance(pending, Mapping):
            found = {key: pending.get(key) for key in ("epoch_ended", "epoch")}
            pending = {key: value if type(value) is int else None for key, value in found.items()}
        else:
            pending = None
        return cls((epochs, batches), state.get("batches", {}), pending)


class StateRecord(NamedTuple):
    """The state at a step besides its arrays, of one rank.

    Attributes:
        step: steps done.
        loop: where the loop is.
        journal: length and hash of the journal up to the step.
        parts: part name -> its kind, its packed state, and facts of it.
        rng: the packed random generators.
        shards: part name -> array name -> form of the block that this rank holds of it.
    """

    step: int
    loop: LoopRecord
    journal: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]
    rng: Any
    shards: Mapping[str, Any] = {}

    def as_json(self) -> dict[str, Any]:
        """What state.json holds."""
        loop = self.loop
        return {
            "step": self.step,
            "loop": list(loop.position),
            "journal": self.journal,
            "parts": self.parts,
            "rng": self.rng,
            **({"pending": loop.pending} if loop.pending else {}),
            **({"shards": self.shards} if self.shards else {}),
            **({"batches": loop.loader} if loop.loader else {}),
        }

    @classmethod
    def read(cls, data: bytes, path: Path, step: int, rank: int) -> Self:
        """A rank's state.json, typed. Ranks other than the first may say nothing of loop and journal.

        Args:
            data: the file.
            path: its path, for sentences.
            step: the step that the manifest names.
            rank: whose it is.

        Raises:
            CorruptCheckpoint: it is none, or that of another step.
        """
        state = records.parse(data, path)
        records.check(state, schemas.RANK_STATE if rank else schemas.STATE, path)
        if state.get("step", step) != step:
            raise CorruptCheckpoint(f"{path} is the state at step {state['step']}, and its manifest says {step}.")
        for name, part in state["parts"].items():
            if part["kind"] == "tree" and not isinstance(part["state"], dict):
                raise CorruptCheckpoint(f"{path}: the leaves of {name[:80]!r} are not an object.")
        return cls(
            step,
            LoopRecord.from_json(state),
            state.get("journal", {}),
            state["parts"],
            state["rng"],
            state.get("shards", {}),
        )

    def with_rank(self, own: StateRecord) -> StateRecord:
        """The state of another rank, of which `own` holds what differs from the first one's."""
        return self._replace(rng=own.rng, parts={**self.parts, **own.parts})
