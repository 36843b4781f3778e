"""What a script holds: loops, early ends, errors, foreign loops, artifacts, other places, forks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests import messages
from tests.counting import Counter, attempts, count_to
from tests.folders import committed, inside

import outlast
from outlast.errors import DataError, ResumeRefused, SaveFailed, SessionEnded, StateError, UnknownName, UsageError
from outlast.folder.artifact import verify_artifact
from outlast.folder.layout import RunFolder
from outlast.tracking import read


class Batches:
    """A stateful loader of numbers."""

    def __init__(self, length: int = 5) -> None:
        self.length, self.at = length, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        while self.at < self.length:
            self.at += 1
            yield self.at
        self.at = 0

    def state_dict(self) -> dict:
        return {"at": self.at}

    def load_state_dict(self, state: dict) -> None:
        self.at = state["at"]


@pytest.fixture
def opened(tmp_path: Path, here):
    def open_(name: str = "r", **options):
        return outlast.open_run(name, **{"root": tmp_path, "progress": "none", "environment": here, **options})

    return open_


def test_steps_count_from_one_to_the_total(opened, tmp_path: Path) -> None:
    with opened(total_steps=4) as run:
        count_to(run, counter := Counter())
        assert run.finished
    assert counter.value == 10
    assert [line["value"] for line in read(run.folder / "journal.jsonl")] == [1, 3, 6, 10]
    end = attempts(tmp_path)[0]["end"]
    assert (end["reason"], end["step"], end["total_steps"]) == ("finished", 4, 4)


def test_a_stop_leaves_the_block_with_75_and_the_next_attempt_continues(opened, tmp_path: Path) -> None:
    after = []
    with pytest.raises(SessionEnded) as caught, opened(total_steps=6) as run:
        count_to(run, Counter(), stop_at=3)
        after.append("the code after the loop belongs to finished runs")
    assert caught.value.code == 75
    assert not after
    with opened(total_steps=6) as run:
        assert run.resumed_from == 3
        count_to(run, counter := Counter())
    assert counter.value == 21
    assert [line["step"] for line in read(run.folder / "journal.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert [a["end"]["reason"] for a in attempts(tmp_path)] == ["budget", "finished"]
    assert attempts(tmp_path)[1]["resume"] == {"step": 3, "grade": "exact", "differences": []}


def test_a_run_json_that_is_lost_is_written_again_from_a_checkpoint(opened, tmp_path: Path) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=6) as run:
        count_to(run, Counter(), stop_at=3)
    place = tmp_path / "r/run.json"
    before = json.loads(place.read_text())
    place.unlink()
    with opened(total_steps=6) as run:
        count_to(run, Counter())
    assert json.loads(place.read_text()) == before
    first, second = attempts(tmp_path)
    messages.said("\n".join(second["told"]), "remote/run-json-was-missing", folder=tmp_path / "r")
    assert second["resume"]["step"] == 3
    assert "told" not in first or not any("was missing" in each for each in first["told"])


def test_break_ends_the_run_early_and_for_good(opened, tmp_path: Path) -> None:
    for _ in range(2):
        with opened(total_steps=10) as run:
            run.track(counter=(counter := Counter()))
            for step in run.steps():
                counter.value += 1
                if step == 4:
                    break
    assert counter.value == 4
    assert [a["end"]["reason"] for a in attempts(tmp_path)] == ["finished", "finished"]
    with opened(total_steps=12) as run:  # asked for more, it goes on
        run.track(counter=counter)
        assert sum(1 for _ in run.steps()) == 8


def test_an_error_is_recorded_and_costs_only_what_was_not_saved(opened, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(total_steps=6, save="2 steps") as run:
        run.track(counter=(counter := Counter()))
        for step in run.steps():
            counter.value += step
            run.log(value=counter.value)
            if step == 5:
                1 / 0  # noqa: B018
    end = attempts(tmp_path)[0]["end"]
    assert (end["reason"], end["error"]) == ("failed", "ZeroDivisionError: division by zero")
    messages.only_said(attempts(tmp_path)[0]["told"], messages.says("run/step-is-saved", step=4))
    with opened(total_steps=6) as run:
        assert run.resumed_from == 4
        count_to(run, counter := Counter())
    assert counter.value == 21
    assert [line["step"] for line in read(run.folder / "journal.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_saves_by_steps_by_time_and_when_asked(opened, tmp_path: Path) -> None:
    with opened(total_steps=9, save="4 steps, 0.2s", keep=outlast.Retention(last=20)) as run:
        run.track(counter=Counter())
        for step in run.steps():
            if step == 2:
                run.save()
                assert inside(run).saver.saved_step == -1, "not in the middle of a step"
            if step == 6:
                time.sleep(0.25)
    reasons = {c.step: c.reason for c in committed(run.folder)}
    assert reasons == {2: "asked", 4: "steps", 6: "time", 8: "steps", 9: "final"}


def test_a_new_best_is_saved_and_kept(opened, monkeypatch) -> None:
    monkeypatch.setattr("outlast.run.schedule.BEST_SHARE", 0.0)
    values = [0.1, 0.5, 0.4, 0.9, 0.2, 0.3, 0.1, 0.1]
    with opened(
        total_steps=8, save="never", background=False, keep=outlast.Retention(last=1, best=2, metric="val")
    ) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(val=values[step - 1])
    assert [(c.step, c.reason) for c in committed(run.folder)] == [(2, "best"), (4, "best"), (8, "final")]


def test_a_loss_that_falls_at_every_step_is_not_saved_at_every_step(opened, monkeypatch) -> None:
    monkeypatch.setattr("outlast.run.schedule.BEST_SHARE", 1e9)
    with opened(
        total_steps=20, save="never", keep=outlast.Retention(last=99, best=1, metric="loss", mode="min")
    ) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(loss=-step)
    assert len(committed(run.folder)) == 2, "the first one, whose cost nobody knew, and the last"


def test_batches_epochs_accumulation_and_validation(opened, tmp_path: Path) -> None:
    """Seven batches an epoch, three to an update: 3 + 3 + 1."""

    def train(root: Path, stop_at: int | None = None):
        seen = []
        try:
            with opened(root=root) as run:
                run.track(counter=(counter := Counter()))
                for batch in run.batches(Batches(7), epochs=2, accumulate=3):
                    counter.value += batch
                    seen.append((run.epoch, run.step, batch, run.update_due, run.epoch_end))
                    if run.epoch_end:
                        run.log(total=counter.value)
                    if run.step == stop_at and run.update_due:
                        run.session.request_stop("budget", "test")
                assert run.total_steps == 6
        except SessionEnded:
            pass
        return seen

    twin = train(tmp_path / "twin")
    assert [step for _, step, *_ in twin] == [1, 1, 1, 2, 2, 2, 3, 4, 4, 4, 5, 5, 5, 6]
    assert [index for index, entry in enumerate(twin) if entry[3]] == [2, 5, 6, 9, 12, 13]
    assert [index for index, entry in enumerate(twin) if entry[4]] == [6, 13]
    for stop in (1, 3, 5):
        root = tmp_path / f"cut{stop}"
        assert train(root, stop) + train(root) == twin
        assert (root / "r/journal.jsonl").read_bytes() == (tmp_path / "twin/r/journal.jsonl").read_bytes()


def test_a_loader_shorter_than_it_says(opened) -> None:
    class Liar(Batches):
        def __len__(self) -> int:
            return 9

    with messages.raises(DataError, "run/ended-after-batches-of-epoch", batches=5, epoch=1, number=9), opened() as run:
        for _ in run.batches(Liar(), epochs=1):
            pass


def test_a_loader_that_cannot_say_where_it_is(opened) -> None:
    with messages.raises(StateError, "run/data-is-list-without-state-dict"), opened() as run:
        next(run.batches([1, 2, 3], epochs=1))


def test_misuse_is_a_sentence(opened) -> None:
    with opened(name="a") as run:
        with messages.raises(UsageError, "run/how-many-steps"):
            next(run.steps())
        with messages.raises(StateError, "run/nothing-is-tracked"):
            next(run.steps(3))
        run.track(counter=Counter())
        with messages.raises(UsageError, "run/misuse-is-a-sentence", name="counter"):
            run.track(counter=Counter())
        for name in ("rng", "gradients"):
            with messages.raises(UsageError, "run/name-of-outlasts-own", name=f"The name '{name}'"):
                run.track(**{name: Counter()})
        with messages.raises(UsageError, "run/before-restore"):
            run.offer(1)
        with messages.raises(UsageError, "run/save-was-called-before"):
            run.save()
        with messages.raises(UsageError, "run/log-was-called-before"):
            run.log(x=1)
        next(run.steps(3))
        with messages.raises(UsageError, "run/after-the-loop-began", words="'other' was tracked"):
            run.track(other=Counter())
        with messages.raises(UsageError, "run/run-has-one-loop"):
            next(run.steps(3))
    for wrong, words in (
        ({"save": "10"}, messages.says("run/open-run-save-3", given="'10'")),
        ({"budget": "soon"}, messages.says("run/open-run-budget-2", given="'soon'")),
    ):
        with messages.raises(UsageError, words):
            opened(name="b", **wrong)
    with messages.raises(UsageError, "run/cannot-name-a-run", given="'../b'", name="'../b'"):
        opened(name="../b")


def test_parts_must_stay_the_same(opened) -> None:
    with opened(total_steps=2) as run:
        count_to(run, Counter())
    with (
        messages.raises(ResumeRefused, "run/checkpoint-holds-counter-which-this-program"),
        opened() as run,
    ):
        inside(run).parts._trees["other"] = Counter()
        next(run.steps(4))
    with (
        messages.raises(ResumeRefused, "run/is-not-in-the-checkpoint", name="more", step=2),
        opened() as run,
    ):
        run.track(more=Counter())


def test_what_cannot_be_saved_is_refused_before_the_first_step(opened) -> None:
    class Bad(Counter):
        def state_dict(self) -> dict:
            return {"file": sys.stdout}

    with messages.raises(StateError, "run/bad-file"), opened(total_steps=2) as run:
        run.track(bad=Bad())


def test_a_foreign_loop(opened, tmp_path: Path) -> None:
    """ultralytics, Lightning and others call us; we do not call them."""

    def framework(run, counter: Counter, stop_at: int | None = None) -> None:
        run.track(counter=counter)
        run.begin(total_steps=5)
        for epoch in range(run.step + 1, 6):
            counter.value += epoch
            run.log(step=epoch, value=counter.value)
            run.save(step=epoch)
            if epoch == stop_at:
                run.session.request_stop("preempted", "test")
            if run.should_stop():
                break

    with pytest.raises(SessionEnded) as caught, opened() as run:
        framework(run, Counter(), stop_at=2)
    assert caught.value.code == 75
    with opened() as run:
        framework(run, counter := Counter())
    assert counter.value == 15
    assert [line["value"] for line in read(run.folder / "journal.jsonl")] == [1, 3, 6, 10, 15]
    assert [a["end"]["reason"] for a in attempts(tmp_path)] == ["preempted", "finished"]


def test_artifacts_appear_whole_or_not(opened, tmp_path: Path) -> None:
    with opened(total_steps=1) as run:
        count_to(run, Counter())
        with run.artifact("plots/curve.txt") as path:
            path.write_text("done")
        with pytest.raises(RuntimeError), run.artifact("half.txt") as path:
            path.write_text("half")
            raise RuntimeError
        with messages.raises(UsageError, "run/artifacts-appear-whole-or-not"), run.artifact("../../escape.txt"):
            pass
    assert (tmp_path / "r/artifacts/plots/curve.txt").read_text() == "done"
    assert sorted(p.name for p in (tmp_path / "r/artifacts").rglob("*")) == [
        "curve.txt",
        "curve.txt.manifest.json",
        "plots",
    ]
    with opened(name="s", total_steps=1, results=tmp_path / "results") as run, run.artifact("x.txt") as path:
        path.write_text("x")
    assert (tmp_path / "results/s/x.txt").read_text() == "x"
    assert verify_artifact(tmp_path / "results/s/x.txt.manifest.json")["name"] == "x.txt"


def test_an_artifact_has_a_manifest_and_is_sent_to_sinks(opened, tmp_path: Path) -> None:
    heard: list[tuple[str, Path]] = []

    class Listener(outlast.Sink):
        def artifact(self, name, path) -> None:
            heard.append((name, path))

    with opened(total_steps=2, sinks=[Listener()]) as run:
        count_to(run, Counter())
        with run.artifact("plots/curve.txt", part="counter") as path:
            path.write_text("done")
        with (
            messages.raises(UsageError, "run/an-artifact-says-what-it-was", file="manifest.json"),
            run.artifact("x.manifest.json"),
        ):
            pass
    record = verify_artifact(tmp_path / "r/artifacts/plots/curve.txt.manifest.json")
    about, (attempt,) = json.loads((tmp_path / "r/run.json").read_text()), attempts(tmp_path)
    assert (record["run"], record["run_id"], record["attempt"]) == (about["uid"], "r", attempt["id"])
    assert (record["name"], record["step"], record["part"]) == ("plots/curve.txt", 2, "counter")
    assert "config" not in record
    assert heard == [("plots/curve.txt", tmp_path / "r/artifacts/plots/curve.txt")]


def test_a_disk_without_room_for_the_manifest_costs_no_artifact(opened, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with opened(total_steps=1) as run:
        count_to(run, Counter())
        with run.artifact("a.txt") as path:
            path.write_text("one")
        monkeypatch.setattr("outlast.run.artifact.write_manifest", full)
        with run.artifact("a.txt") as path:
            path.write_text("two")
    assert [path.name for path in (tmp_path / "r/artifacts").iterdir()] == ["a.txt"], "no manifest of an older one"
    assert (tmp_path / "r/artifacts/a.txt").read_text() == "two"
    messages.said(attempts(tmp_path)[0]["told"], "run/has-no-manifest")


def test_a_run_of_an_earlier_kaggle_session_is_copied(opened, tmp_path: Path, here) -> None:
    for layout in ("slug/runs", "notebooks/owner/slug/runs", "datasets/owner/slug/working/runs"):
        inputs, root = tmp_path / layout.replace("/", "-") / "input", tmp_path / layout.replace("/", "-") / "working"
        with pytest.raises(SessionEnded), opened(root=inputs / layout, total_steps=6) as run:
            count_to(run, Counter(), stop_at=4)
        for path in inputs.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        with opened(root=root, total_steps=6, environment=here._replace(inputs=(inputs,))) as run:
            assert run.resumed_from == 4
            count_to(run, counter := Counter())
        assert counter.value == 21
        assert [line["step"] for line in read(run.folder / "journal.jsonl")] == [1, 2, 3, 4, 5, 6]
        assert [a["end"]["reason"] for a in attempts(root)] == ["budget", "finished"]
        messages.said(attempts(root)[1]["told"], "remote/step-was-copied", step=4, folder=messages.ANY)


def test_a_damaged_input_is_reported_and_the_older_one_taken(opened, tmp_path: Path, here) -> None:
    inputs = tmp_path / "input"
    with pytest.raises(SessionEnded), opened(root=inputs, total_steps=6, save="2 steps") as run:
        count_to(run, Counter(), stop_at=4)
    (inputs / "r/checkpoints/step-00000004/state.json").write_text("{}")
    with opened(root=tmp_path / "w", total_steps=6, environment=here._replace(inputs=(inputs,))) as run:
        assert run.resumed_from == 2
        count_to(run, Counter())
    messages.said(attempts(tmp_path / "w")[1]["told"][0], "run/a-damaged-input-is-told-and", file="state.json")


def test_a_lost_attempt_is_recorded_by_the_next(opened, tmp_path: Path) -> None:
    script = f"""
import os, signal, outlast
from tests.counting import Counter
from tests.folders import inside
with outlast.open_run("r", total_steps=50, root={str(tmp_path)!r}, save="3 steps", progress="none") as run:
    run.track(counter=(counter := Counter()))
    for step in run.steps():
        counter.value += step
        run.log(value=counter.value)
        if step == 8:
            inside(run).saver.wait_for_writer()
            os.kill(os.getpid(), signal.SIGKILL)
"""
    from tests.conftest import REPOSITORY

    assert subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False).returncode == -signal.SIGKILL
    with opened(total_steps=10) as run:
        assert run.resumed_from == 6
        count_to(run, counter := Counter())
    assert counter.value == 55
    first, second = attempts(tmp_path)
    assert first["end"] == {"reason": "lost", "recorded_by": 2}
    messages.said(second["told"], "run/was-killed")


def test_a_failed_last_save_ends_with_an_error_and_the_good_checkpoint(opened, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=6) as run:
        count_to(run, Counter(), stop_at=2)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if "checkpoints" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with (
        messages.raises(SaveFailed, "run/step-could-not-be-written-error", step=6),
        opened(total_steps=6) as run,
    ):
        count_to(run, Counter())
    monkeypatch.undo()
    assert attempts(tmp_path)[1]["end"]["reason"] == "failed"
    with opened(total_steps=6) as run:
        assert run.resumed_from == 2
        count_to(run, counter := Counter())
    assert counter.value == 21


def test_a_resume_elsewhere_says_which_grade_it_is(opened, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=6) as run:
        count_to(run, Counter(), stop_at=2)
    real = outlast.state.software
    monkeypatch.setattr("outlast.state.software", lambda: real() | {"torch": "9.9"})
    with opened(total_steps=6) as run:
        count_to(run, Counter())
    resume = attempts(tmp_path)[1]["resume"]
    assert resume["grade"] == "not to the last bit"
    assert any("-> 9.9" in difference for difference in resume["differences"])
    messages.said(attempts(tmp_path)[1]["told"], "run/not-to-the-last-bit", before=real().get("torch", "none"))


def test_generators_of_all_libraries_continue(opened, tmp_path: Path) -> None:
    import random

    import torch

    def train(root: Path, stop_at: int | None = None) -> list[tuple[float, ...]]:
        outlast.seed_everything(0)
        drawn = []
        try:
            with opened(root=root, total_steps=6) as run:
                run.track(counter=Counter())
                for step in run.steps():
                    drawn.append(
                        (
                            random.random(),
                            random.gauss(0, 1),
                            np.random.rand(),
                            np.random.normal(),
                            torch.rand(()).item(),
                        )
                    )
                    if step == stop_at:
                        run.session.request_stop("budget", "test")
        except SessionEnded:
            outlast.seed_everything(99)
        return drawn

    twin = train(tmp_path / "twin")
    assert train(tmp_path / "cut", 3) + train(tmp_path / "cut") == twin


def test_the_readers_of_a_run_need_no_framework(opened, tmp_path: Path) -> None:
    with opened(total_steps=1) as run:
        count_to(run, Counter())
    code = (
        "import sys; from outlast.report import read_run; from pathlib import Path; "
        f"read_run(Path({str(tmp_path / 'r')!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_attempts_at_once(opened, tmp_path: Path) -> None:
    from outlast.errors import RunBusy

    with opened(total_steps=1) as run:
        with pytest.raises(RunBusy):
            opened(total_steps=1)
        count_to(run, Counter())
    assert len(attempts(tmp_path)) == 1
    assert RunFolder(tmp_path / "r").lock.exists()


def test_reading_a_run_changes_nothing(opened, tmp_path: Path) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=6) as run:
        count_to(run, Counter(), stop_at=3)
    with opened(total_steps=6) as run:
        run.track(counter=(counter := Counter()))
        assert counter.value == 6
    assert [a["end"]["reason"] for a in attempts(tmp_path)] == ["budget", "budget"]
    with opened(total_steps=6) as run:
        count_to(run, counter := Counter())
    assert counter.value == 21


def test_an_early_end_outlives_a_failed_reopening(opened, tmp_path: Path) -> None:
    with opened(total_steps=10) as run:
        run.track(counter=(counter := Counter()))
        for step in run.steps():
            counter.value += 1
            if step == 4:
                break
    with pytest.raises(ResumeRefused), opened(total_steps=10) as run:
        run.track(other=Counter())
    with opened(total_steps=10) as run:
        run.track(counter=counter)
        assert not list(run.steps())
        assert run.finished


def test_a_refused_resume_leaves_journal_and_status_as_they_were(opened, tmp_path: Path) -> None:
    from outlast.report import read_run

    with opened(total_steps=3) as run:
        count_to(run, Counter())
        run.log(after=1)
    before = (tmp_path / "r/journal.jsonl").read_bytes()
    with pytest.raises(ResumeRefused), opened(total_steps=5) as run:
        run.track(other=Counter())
    assert (tmp_path / "r/journal.jsonl").read_bytes() == before
    assert read_run(tmp_path / "r").status == "finished"


def test_a_loop_left_on_should_stop_is_saved(opened, tmp_path: Path) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=9, save="never") as run:
        run.track(counter=(counter := Counter()))
        for step in run.steps():
            counter.value += step
            if step == 4:
                run.session.request_stop("preempted", "test")
            if run.should_stop():
                break
    with opened(total_steps=9) as run:
        assert run.resumed_from == 4
        count_to(run, counter := Counter())
    assert counter.value == 45


def test_a_foreign_loop_must_say_how_far_it_is(opened) -> None:
    with opened() as run:
        run.track(counter=Counter())
        run.begin()
        with messages.raises(UsageError, "run/step-is-still-say-how", number=0):
            run.save()
        run.save(step=3)
        with messages.raises(UsageError, "run/step-is-still-say-how", number=3):
            run.save()
    assert [c.step for c in committed(run.folder)] == [3]


def test_a_state_must_be_offered_in_every_step(opened) -> None:
    with messages.raises(UsageError, "run/step-ended-without-run-offer", step=2), opened(total_steps=4) as run:
        state = run.restore({"x": np.zeros(2)})
        for step in run.steps():
            if step == 1:
                run.offer(state)
    with (
        messages.raises(StateError, "run/offered-with-other-leaves-is-onl", name="y"),
        opened("s", total_steps=4) as run,
    ):
        run.restore({"x": np.zeros(2)})
        for _ in run.steps():
            run.offer({"x": np.zeros(2), "y": np.zeros(1)})


def test_own_loops_count_by_themselves(opened, tmp_path: Path) -> None:
    with opened(total_steps=2) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log({"step": 0, "x": step})
            run.log(step=step, y=1)
    assert read(run.folder / "journal.jsonl") == [
        {"step": 1, "x": 1, "metric/step": 0},
        {"step": 1, "y": 1},
        {"step": 2, "x": 2, "metric/step": 0},
        {"step": 2, "y": 1},
    ]
    assert attempts(tmp_path)[0]["told"] == [
        "A metric named 'step' is kept as 'metric/step': the journal writes the step itself."
    ]


def test_a_foreign_loop_never_goes_back(opened, tmp_path: Path) -> None:
    with opened() as run:
        run.track(counter=Counter())
        run.begin()
        run.log(step=5, x=1)
        run.save(step=5)
        run.log(step=3, x=2)
        for wrong, words in (
            (3, messages.says("run/step-already-run-never-goes", call="save", given=3, step=5)),
            (True, messages.says("run/expected-the-whole-number", call="save", given=True)),
            ("6", messages.says("run/expected-the-whole-number", call="save", given="'6'")),
        ):
            with messages.raises(UsageError, words):
                run.save(step=wrong)
        run.log(step=None, x=3)
    assert read(run.folder / "journal.jsonl") == [
        {"step": 5, "x": 1},
        {"step": 5, "x": 2, "metric/step": 3},
        {"step": 5, "x": 3},
    ]
    assert attempts(tmp_path)[0]["end"]["step"] == 5


def test_epochs_to_save_by_where_there_are_none(opened) -> None:
    with messages.raises(UsageError, "run/no-epochs-to-save"), opened(total_steps=2, save="1 epoch") as run:
        run.track(counter=Counter())
        next(run.steps())


def test_another_batch_size_at_the_end_of_an_epoch(opened, tmp_path: Path) -> None:
    def train(batch_size: int, epochs: int, stop_at: int | None = None) -> list[int]:
        seen = []
        with opened() as run:
            order = outlast.BatchSampler(8, batch_size)
            run.track(data=order)
            for _ in run.batches(order, epochs=epochs):
                seen.append(run.epoch)
                if run.step == stop_at:
                    run.session.request_stop("budget", "test")
        return seen

    with pytest.raises(SessionEnded):
        train(2, 4, stop_at=4)
    assert train(4, 4) == [2, 2, 3, 3, 4, 4]
    assert attempts(tmp_path)[1]["end"]["step"] == attempts(tmp_path)[1]["end"]["total_steps"] == 10
    with messages.raises(ResumeRefused, "run/samples-batch"), opened("mid") as run:
        run.track(data=outlast.BatchSampler(8, 2))
        inside(run).parts.things[0].load_state_dict({"epoch": 0, "batch": 1, "length": 8, "batch_size": 4, "seed": 0})


def test_a_budget_too_small_for_the_state_is_said_at_once(opened, monkeypatch) -> None:
    monkeypatch.setattr("outlast.run.session.DISK_SPEED", 1e3)
    with (
        messages.raises(UsageError, "run/budget-of-leaves-no-time", seconds=4),
        opened(total_steps=3, budget=4) as run,
    ):
        state = run.restore({"x": np.zeros(1000)})
        for _ in run.steps():
            run.offer(state)


def test_every_attempt_does_a_step(opened, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=5, budget=1.2) as run:
        run.track(counter=(counter := Counter()))
        time.sleep(0.3)  # whatever a script does before its loop
        for step in run.steps():
            counter.value += step
    assert attempts(tmp_path)[0]["end"]["step"] == 1


def test_a_damaged_attempt_record_stops_no_attempt(opened, tmp_path: Path) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=6) as run:
        count_to(run, Counter(), stop_at=3)
    (tmp_path / "r/attempts/0001.json").write_text("")
    with opened(total_steps=6) as run:
        count_to(run, counter := Counter())
    assert counter.value == 21
    assert attempts(tmp_path)[0]["end"]["reason"] == "lost"


def test_leaving_with_exit_code_zero_is_no_failure(opened, tmp_path: Path) -> None:
    with pytest.raises(SystemExit), opened(total_steps=3) as run:
        run.track(counter=Counter())
        for _ in run.steps():
            sys.exit(0)
    assert attempts(tmp_path)[0]["end"]["reason"] == "cancelled"


def test_a_forked_child_does_not_end_its_parents_attempt(opened, tmp_path: Path) -> None:
    with opened(total_steps=1) as run:
        child = os.fork()
        if child == 0:
            run.__exit__(ValueError, ValueError(), None)
            os._exit(0)
        os.waitpid(child, 0)
        assert "end" not in attempts(tmp_path)[0]
        count_to(run, Counter())


def test_an_artifact_that_is_a_folder_is_replaced(opened, tmp_path: Path) -> None:
    with opened(total_steps=1) as run:
        count_to(run, Counter())
        for text in ("one", "two"):
            with run.artifact("model") as path:
                path.mkdir()
                (path / "weights.txt").write_text(text)
    assert (tmp_path / "r/artifacts/model/weights.txt").read_text() == "two"


@pytest.mark.parametrize("name", ["", ".", "./", "a/..", "..", "../a", "a\0b", 7, b"a"])
def test_a_name_of_no_artifact(opened, tmp_path: Path, name: object) -> None:
    with opened(total_steps=1) as run:
        count_to(run, Counter())
        with run.artifact("precious.txt") as path:
            path.write_text("precious")
        with pytest.raises(UsageError, match="artifact"), run.artifact(name) as path:
            path.write_text("x")
    assert (tmp_path / "r/artifacts/precious.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.manifest.json/data", messages.says("run/artifact-named-as-manifest", name="x.manifest.json/data")),
        ("a/x.manifest.json", messages.says("run/artifact-named-as-manifest", name="a/x.manifest.json")),
        ("a\\b", messages.says("run/artifact-name-no-file-can-have", name="'a\\\\b'")),
        ("a/b\n", messages.says("run/artifact-name-no-file-can-have", name="'a/b\\n'")),
        ("a/.tmp-b", messages.says("run/artifact-name-no-file-can-have", name="'a/.tmp-b'")),
        ("a/thé\udce9", messages.says("run/artifact-name-no-file-can-have", name="'a/thé\\udce9'")),
        ("é" * 101, messages.says("run/artifact-name-no-file-can-have", name=f"'{'é' * 101}'")),
        ("precious.txt/a/b", messages.says("run/artifact-below-a-file", name="precious.txt/a/b", file="precious.txt")),
    ],
)
def test_every_component_of_a_name_is_asked(opened, tmp_path: Path, name: str, message: messages.Message) -> None:
    with opened(total_steps=1) as run:
        count_to(run, Counter())
        for fine in ("precious.txt", ".hidden/a", "é" * 100):
            with run.artifact(fine) as path:
                path.write_text("precious")
        with messages.raises(UsageError, message), run.artifact(name) as path:
            path.write_text("x")
    names = {each.name for each in (tmp_path / "r/artifacts").rglob("*") if not each.name.endswith(".manifest.json")}
    assert names == {"precious.txt", ".hidden", "a", "é" * 100}


def test_a_folder_where_a_manifest_belongs_stays(opened, tmp_path: Path) -> None:
    before = tmp_path / "r/artifacts/y.manifest.json/data"
    with opened(total_steps=1) as run:
        count_to(run, Counter())
        before.parent.mkdir(parents=True)
        before.write_text("12 hours")
        with messages.raises(UsageError, "run/artifact-manifest-is-a-folder"), run.artifact("y") as path:
            path.write_text("x")
    assert before.read_text() == "12 hours"


@pytest.mark.parametrize("name", ["a\\b", "x.manifest.json"])
def test_a_file_in_an_artifact_that_no_manifest_can_name_is_refused_when_it_is_made(
    opened, tmp_path: Path, name: str
) -> None:
    with opened(total_steps=1) as run:
        count_to(run, Counter())
        with (
            messages.raises(UsageError, "run/artifact-has-a-file-named", name=name.replace("\\", "\\" * 2)),
            run.artifact("model") as path,
        ):
            path.mkdir()
            (path / name).write_text("x")
    assert not (tmp_path / "r/artifacts/model").exists()


def test_what_cannot_be_an_artifact_leaves_the_earlier_one(opened, tmp_path: Path) -> None:
    def folder(path: Path) -> None:
        path.mkdir()
        (path / "a").write_text("a")

    def link(path: Path) -> None:
        path.symlink_to("/etc/hostname")

    def folder_with_link(path: Path) -> None:
        folder(path)
        (path / "link").symlink_to("/etc/hostname")

    writes = [("file", folder), ("folder", lambda path: path.write_text("x")), ("above", folder)]
    writes += [("file", lambda path: None), ("file", link), ("folder", folder_with_link)]
    with opened(total_steps=1) as run:
        count_to(run, Counter())
        for name, write in [("file", lambda path: path.write_text("x")), ("folder", folder), ("above/one", folder)]:
            with run.artifact(Path(name)) as path:
                write(path)
        for name, write in writes:
            with pytest.raises(UsageError, match=f"artifact .*{name}"), run.artifact(name) as path:
                write(path)
        with messages.raises(UnknownName, "run/part-is-not-tracked", part="Counter", mean="counter"):
            run.artifact("file", part="Counter")
    artifacts = tmp_path / "r/artifacts"
    for name in ("file", "folder", "above/one"):
        assert verify_artifact(artifacts / f"{name}.manifest.json")["name"] == name
    assert not list(artifacts.rglob(".*"))


def test_a_platforms_allowance_is_kept(opened, here) -> None:
    small = here._replace(limits=here.limits._replace(disk=17 * 2**20))
    with (
        messages.raises(SaveFailed, "run/mib-that-this-platform", size=17),
        opened(total_steps=2, environment=small) as run,
    ):
        state = run.restore({"x": np.zeros(2**18)})
        for _ in run.steps():
            run.offer(state)


def test_what_the_platforms_allowance_costs_is_reported(opened, tmp_path: Path, here) -> None:
    small = here._replace(limits=here.limits._replace(disk=22 * 2**20))
    with opened(total_steps=4, environment=small, save="1 steps", keep=outlast.Retention(last=3)) as run:
        state = run.restore({"x": np.zeros(2**18)})
        for _ in run.steps():
            run.offer(state)
    told = attempts(tmp_path)[0]["told"]
    messages.said(told[0], "run/platform-keeps-too-little", size="23.1", step=1)


def test_a_local_damaged_checkpoint_does_not_hide_a_good_one_elsewhere(opened, tmp_path: Path, here) -> None:
    with pytest.raises(SessionEnded), opened(root=tmp_path / "w", total_steps=6) as run:
        count_to(run, Counter(), stop_at=4)
    shutil.copytree(tmp_path / "w", tmp_path / "input")
    with pytest.raises(SessionEnded), opened(root=tmp_path / "w", total_steps=6, keep=outlast.Retention(last=1)) as run:
        count_to(run, Counter(), stop_at=5)
    (tmp_path / "w/r/checkpoints/step-00000005/state.json").write_text("{}")
    with opened(root=tmp_path / "w", total_steps=6, environment=here._replace(inputs=(tmp_path / "input",))) as run:
        assert run.resumed_from == 4
        count_to(run, Counter())
    assert [a["number"] for a in attempts(tmp_path / "w")] == [1, 2, 3]


def test_the_best_checkpoint_is_copied_too(opened, tmp_path: Path, here) -> None:
    keep = outlast.Retention(last=1, best=1, metric="val")
    with pytest.raises(SessionEnded), opened(root=tmp_path / "input", total_steps=6, save="1 steps", keep=keep) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(val=-abs(step - 2))
            if step == 5:
                run.session.request_stop("budget", "test")
    with opened(
        root=tmp_path / "w", total_steps=6, keep=keep, environment=here._replace(inputs=(tmp_path / "input",))
    ) as run:
        run.track(counter=Counter())
        for _ in run.steps():
            pass
    assert [c.step for c in committed(run.folder)] == [2, 6]


def test_a_fork_does_not_meet_another_run(opened, tmp_path: Path) -> None:
    from outlast.remote.fork import fork

    for name in ("a", "b"):
        with opened(name, total_steps=2, save="1 steps") as run:
            count_to(run, Counter())
    checkpoint = committed(run.folder)[0]
    with messages.raises(UsageError, "run/is-another-run-already-not-one", step=1):
        fork(RunFolder(tmp_path / "b"), checkpoint, RunFolder(tmp_path / "a"))


def test_no_library_draws_from_the_generators_when_it_is_imported_in_the_middle_of_a_run(tmp_path: Path) -> None:
    code = (
        "import random, outlast; first = random.getstate();"
        "run = outlast.open_run('r', root='runs', progress='none'); before = random.getstate();"
        "import rich.style, sklearn.metrics; print(first == before == random.getstate())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr


def test_a_best_by_an_unlogged_metric_is_reported_once(opened, tmp_path: Path) -> None:
    keep = outlast.Retention(best=1, metric="val_los", mode="min")
    with opened(keep=keep) as run:
        run.track(counter=Counter())
        for _ in run.batches(Batches(3), epochs=3):
            run.log(loss=1)
            if run.epoch_end:
                run.log(val_loss=1)
    said = (
        "The best checkpoint is kept by 'val_los', which no step has logged so far; logged are: loss, val_loss. "
        "Did you mean 'val_loss'?"
    )
    assert attempts(tmp_path)[0]["told"] == [said]
    with opened("s", keep=keep, total_steps=4, save="2 steps") as run:
        count_to(run, Counter())
    assert len(attempts(tmp_path, "s")[0]["told"]) == 1
    with opened("t", keep=outlast.Retention(best=1, metric="value"), total_steps=4, save="2 steps") as run:
        count_to(run, Counter())
    with opened("t", keep=outlast.Retention(best=1, metric="value"), total_steps=6, save="1 steps") as run:
        run.track(counter=Counter())
        for step in run.steps():
            if step == 6:
                run.log(value=1)
    assert [a["told"] for a in attempts(tmp_path, "t")] == [[], []], "an earlier attempt logged it"
