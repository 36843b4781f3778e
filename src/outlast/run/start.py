"""The start of training: checks everything before it writes to the run.

`check` refuses a resume that does not fit. Then `write` cuts the journal back, judges whether the resume can be exact,
and records what trains here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast import state
from outlast.checkpoint import OpenedCheckpoint
from outlast.checkpoint.best import record_of
from outlast.folder import durable
from outlast.run.attempt import Attempt
from outlast.run.parts import Parts
from outlast.run.resume import Verdict
from outlast.run.saver import Saver
from outlast.tracking import CsvView


class Start:
    """Takes an attempt from what is tracked to its first step.

    Args:
        attempt: the attempt.
        parts: what is tracked.
        saver: learns what there is to save.
        opened: the checkpoint that the attempt continues, or None for a fresh start.
    """

    def __init__(self, attempt: Attempt, parts: Parts, saver: Saver, opened: OpenedCheckpoint | None) -> None:
        self._attempt, self._parts, self._saver = attempt, parts, saver
        self._mark: Mapping[str, Any] | None = opened.state.journal if opened else None
        self._software_before: Mapping[str, Any] | None = opened.checkpoint.manifest["software"] if opened else None
        self._software: Mapping[str, Any] = {}
        self._verdict = Verdict()

    def check(self) -> None:
        """Compare what was loaded with the checkpoint, and see what there is to save.

        Raises:
            ResumeRefused: it does not fit.
            StateError: nothing is tracked.
        """
        ranks = self._attempt.ranks
        self._verdict = ranks.together("comparing what was loaded", self._parts.verify)
        self._parts.watch()
        self._software = state.software() | {"ranks": ranks.count}
        ranks.together("beginning the loop", lambda: self._saver.begin(self._software))

    def write(self, step: int, total_steps: int | None, inexact: Sequence[str]) -> None:
        """Cut the journal back to the step, and write down what trains here.

        Args:
            step: steps done.
            total_steps: total number of steps, None when unknown.
            inexact: why data come otherwise after a resume.
        """
        attempt = self._attempt
        complaint = attempt.journal.rewind(self._mark, step)
        if self._software_before is not None:
            self._judge(step, self._software_before, inexact)
        self._parts.tell_notes(attempt.tell)
        self._write_config()
        attempt.note(software=self._software, trained=True, total_steps=total_steps)
        attempt.note(**record_of(attempt.store.retention))
        if attempt.about["renamed"]:
            attempt.note(renamed=attempt.about["renamed"])
        attempt.write()
        if complaint:
            attempt.tell("warning", complaint)
        for sentence in self._parts.changed_orders():
            attempt.tell("info", sentence)
        if total_steps is not None and step > total_steps:
            attempt.tell(
                "warning",
                f"{step} steps are done and only {total_steps} are asked for: there is nothing left to train.",
            )

    def _write_config(self) -> None:
        attempt, config = self._attempt, self._attempt.config
        if config is None or not attempt.ranks.is_main:
            return
        durable.write_json(attempt.folder.config, config.record())
        attempt.note(changes=[str(change) for change in config.changes])
        for change in config.changes:
            attempt.tell(*change.sentence)
        attempt.shown.screens += [
            CsvView(path, attempt.folder.journal) for path in _csv_paths(config.config, attempt.id)
        ]

    def _judge(self, step: int, before: Mapping[str, Any], inexact: Sequence[str]) -> None:
        """Say, and record, whether the continuation can be the same to the last bit."""
        attempt, verdict = self._attempt, self._verdict
        for sentence in verdict.repaired:
            attempt.tell("info", sentence)
        different = _changes(before, self._software)
        if state.uses_gpu(self._software) and not attempt.about["deterministic"]:
            different.append("a GPU without deterministic kernels (deterministic=True, or --deterministic)")
        if self._parts.sums_in_another_order:
            different.append("DistributedDataParallel over three ranks or more without find_unused_parameters=True")
        different += inexact
        if different:
            attempt.tell("info", f"continues, though not to the last bit: {'; '.join(different)}")
        if unlike := self._of_all_ranks(verdict.differences):
            attempt.tell(
                "warning",
                f"The loaded state differs from the checkpoint, so this resume is not exact: {'; '.join(unlike)}",
            )
            different += unlike
        different += self._parts.changed_orders()
        if attempt.config:
            different += [str(change) for change in attempt.config.changes if change.rule == "warns"]
        grade = "not to the last bit" if different else attempt.about["grade"]
        attempt.note(resume={"step": step, "grade": grade, "differences": different})

    def _of_all_ranks(self, words: list[str]) -> list[str]:
        """The sentences of all ranks, each once."""
        ranks = self._attempt.ranks
        if not ranks.several:
            return words
        found = [json.loads(each) for each in ranks.all_gather("comparing what was loaded", json.dumps(words).encode())]
        return list(dict.fromkeys(word for each in found for word in each))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The differences in the software since the checkpoint, as text."""
    before = {"ranks": 1, **before}
    return [
        f"{key} {before.get(key, 'none')} -> {after.get(key, 'none')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and (key != "seed" or {key} <= before.keys() & after.keys())
    ]


def _csv_paths(config: Any, run_id: str) -> Iterable[Path]:
    if config.log_csv:
        yield config.log_csv
    if config.log_dir:
        yield config.log_dir / f"{run_id}.csv"
