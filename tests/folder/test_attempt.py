"""An attempt's record stays small, whatever is told."""

from __future__ import annotations

from pathlib import Path

from outlast.folder import attempt, durable, reading
from outlast.folder.attempt import Attempt
from outlast.folder.layout import RunFolder


def test_a_sentence_told_in_every_step_is_kept_once_and_counted(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "r")
    begun = Attempt.begin(RunFolder(tmp_path / "r"), "1", {})
    for step in range(10_000):
        begun.tell("the gradient is large")
        begun.tell(f"step {step} was slow")
    begun.end("finished", 10_000, 10_000)
    stored = reading.read_json(RunFolder(tmp_path / "r").attempt(1))
    assert stored["told"][:2] == ["the gradient is large", "step 0 was slow"]
    assert len(stored["told"]) == attempt.MOST
    assert stored["told_again"] == 20_000 - attempt.MOST
