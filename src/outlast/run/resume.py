"""Loading at a resume, and the check of what was loaded.

Nothing here is trusted. Before the first step everything that was loaded is packed once more and compared with
the checkpoint. What differs is corrected, or it is named, and the resume is not called exact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlast import state
from outlast.errors import ResumeRefused
from outlast.run import keeping
from outlast.run.keeping import ALL
from outlast.state import Packed, TrackedObject
from outlast.state.array import Array

_SHOWN = 3  # differences of one part that are spelled out


@dataclass
class Verdict:
    """The result of comparing the loaded state with the checkpoint.

    Attributes:
        repaired: sentences about what differed and is right again.
        differences: sentences about what differs; the resume is not exact then.
        notes: warnings that the user should read besides.
    """

    repaired: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Take another one in."""
        self.repaired += other.repaired
        self.differences += other.differences
        self.notes += other.notes


class LoadedPart:
    """One tracked object and the stored part that was loaded into it.

    Args:
        held: the object.
        record: what state.json says of the part.
        arrays: its arrays.
        keep: names of values that the program wins, or ALL.
        lenient: the checkpoint is of format 1, which stored less.
    """

    def __init__(
        self,
        held: TrackedObject,
        record: Mapping[str, Any],
        arrays: Mapping[str, Array],
        keep: Collection[str],
        *,
        lenient: bool,
    ) -> None:
        self.held, self.record, self.arrays, self.lenient = held, record, arrays, lenient
        self.keep = set(keep)
        self.skipped = ALL in self.keep
        self._built: Any = held.state() if self.keep and not self.skipped else None
        self._expected: Packed = (record["state"], dict(arrays))
        self._waits = False

    def load(self) -> None:
        """Load it.

        Raises:
            ResumeRefused: it does not fit the object.
            UsageError: a name in `keep` is none of the object's.
        """
        if self.skipped:
            return
        try:
            wanted = self._prepare()
        except state.TooEarly:
            self._waits = True
            return
        self._waits = False
        self.held.load(wanted, self._facts())

    def _prepare(self) -> Any:
        """The state to load.

        What the object is to hold then is noted before it gets it: some objects change what they are given.
        """
        stored = self.held.decode(self.record["state"], self.arrays)
        fitted = self.held.fit(stored, self.record)
        wanted = fitted if self._built is None else keeping.with_kept(self.held, fitted, self._built, self.keep)
        changed = wanted is not stored
        self._expected = (
            state.pack_value(self.held.part, wanted) if changed else (self.record["state"], dict(self.arrays))
        )
        return wanted

    def options(self, built: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The options in force after the load, and a sentence about those that the program built otherwise.

        Args:
            built: what the program chose in this attempt.
        """
        before = self.record.get("options")
        if not isinstance(before, Mapping) or self.skipped:
            return dict(built), None
        return keeping.options(self.held, before, built, self.keep)

    def verify(self, intact: Callable[[], bool], reread: Callable[[], Mapping[str, Array]]) -> Verdict:
        """Compare the object with what should have been loaded into it, and load it again if it differs.

        Args:
            intact: whether the memory that the checkpoint was read into still holds the checkpoint's bytes.
            reread: reads the arrays of the part again.
        """
        if self.skipped:
            return Verdict(differences=[f"{self.held.part} began anew, as keep says"])
        stored = self.record.get("parameters")
        if self._waits or (stored is not None and self.held.facts().get("parameters") != stored):
            self.load()  # the names of its parameters may not have been known when it was loaded
        words = self._compare(intact, reread) + self._other_facts()
        if not words:
            return Verdict()
        if self.held.repairable:
            self.load()
            left = self._compare(intact, reread) + self._other_facts()
            if not left:
                return Verdict(repaired=[self._repaired(words)])
            words = left
        return Verdict(differences=[_list(words)])

    def _compare(self, intact: Callable[[], bool], reread: Callable[[], Mapping[str, Array]]) -> list[str]:
        """The differences.

        An object that changes what it is given is compared with what the disk has, and not against its own work.
        """
        found = self._differences()
        if (found.aliased or not self.held.copies) and not intact():
            self.arrays = reread()
            self._prepare()
            found = self._differences()
        return found.found

    def _differences(self) -> state.Comparison:
        return state.differences(self.held.part, self._expected, self.held.pack(), lenient=self.lenient)

    def _facts(self) -> dict[str, Any]:
        facts = dict(self.record)
        if "requires_grad" in self.keep:
            facts.pop("frozen", None)
        return facts

    def _other_facts(self) -> list[str]:
        """The state of a module besides its tensors."""
        stored, words = self._facts(), []
        now = self.held.facts()
        for key, word in _MODES:
            if key in stored and (other := sorted(set(stored[key]) ^ set(now.get(key, ())))):
                words.append(
                    f"{self.held.part}: {word} of {', '.join(map(repr, other[:_SHOWN]))} is not as in the checkpoint"
                )
        then = stored.get("rates") or []
        for (step, theirs), (_, mine) in zip(then, self.held.rates_at([step for step, _ in then]), strict=False):
            theirs = self.held.arrange_rates(theirs)  # noqa: PLW2901
            if theirs != mine:
                words.append(
                    f"{self.held.part}: its function gives {mine} at step {step} and gave {theirs} when it was saved"
                )
                break
        return words

    def _repaired(self, words: Sequence[str]) -> str:
        rate = any(".lr]" in word for word in words)
        why = " A scheduler that is built after its optimizer was tracked does that." if rate else ""
        changed = "it was changed after track() had loaded it, and is set to the checkpoint's value again"
        return f"{_list(words)}: {changed}.{why}"


_MODES = (("frozen", "requires_grad"), ("evaluating", "train() or eval()"), ("freeze_bn", "freeze_bn"))


def compare_tree(
    part: str,
    stored: Packed,
    tree: Any,
    intact: Callable[[], bool],
    reread: Callable[[], Mapping[str, Array]],
    *,
    lenient: bool,
) -> Verdict:
    """Compare a restored pytree with the checkpoint; it is the program's, and nothing is corrected.

    The rest is as in `LoadedPart.verify`.
    """
    live = state.pack_tree(part, tree)
    found = state.differences(part, stored, live, lenient=lenient)
    if found.aliased and not intact():
        found = state.differences(part, (stored[0], dict(reread())), live, lenient=lenient)
    return Verdict(differences=[_list(found.found)] if found.found else [])


def check_record(part: str, record: Any) -> Mapping[str, Any]:
    """The record of a part in state.json, if it is valid; raises ResumeRefused."""
    if not isinstance(record, Mapping) or "state" not in record or record.get("kind") not in ("object", "tree"):
        raise ResumeRefused(f"The checkpoint's record of {part!r} is malformed.")
    return record


def _list(words: Sequence[str]) -> str:
    more = f", and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return "; ".join(words[:_SHOWN]) + more
