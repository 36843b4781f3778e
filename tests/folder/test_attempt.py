"""An attempt's record stays small, whatever is told."""

from __future__ import annotations

from pathlib import Path

from outlast.folder import attempt, durable, reading
from outlast.folder.attempt import AttemptRecord
from outlast.folder.layout import RunFolder


def test_a_sentence_told_in_every_step_is_kept_once_and_counted(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "r")
    begun = AttemptRecord.begin(RunFolder(tmp_path / "r"), "1", {})
    for step in range(10_000):
        begun.tell("the gradient is large")
        begun.tell(f"step {step} was slow")
    begun.end("finished", 10_000, 10_000)
    stored = reading.read_json(RunFolder(tmp_path / "r").attempt(1))
    assert stored["told"][:2] == ["the gradient is large", "step 0 was slow"]
    assert len(stored["told"]) == attempt.MOST
    assert stored["told_again"] == 20_000 - attempt.MOST


def test_the_events_of_an_attempt_go_with_it_when_they_are_a_file(tmp_path: Path) -> None:
    there, here = RunFolder(tmp_path / "there"), RunFolder(tmp_path / "here")
    for place in (there, here):
        durable.make_folder(place.attempts)
    there.events(1).write_text('{"event": "begun"}\n')
    there.events(2).symlink_to(there.events(1))
    for number in (1, 2, 3):
        attempt.copy_events(there, number, here, number + 6)
    assert [path.name for path in here.attempts.iterdir()] == ["0007.events.jsonl"]
    assert here.events(7).read_text() == '{"event": "begun"}\n'


def test_events_are_copied_up_to_a_size(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(attempt, "EVENTS_BYTES", 10)
    place = RunFolder(tmp_path)
    durable.make_folder(place.attempts)
    place.events(1).write_bytes(b"x" * 30)
    attempt.copy_events(place, 1, place, 2)
    assert place.events(2).stat().st_size == 10
    assert place.attempt_numbers() == []
