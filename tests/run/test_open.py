"""What a run is opened with: arguments, variables of a job script, and where a run with nothing yet begins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests import messages
from tests.counting import Counter, attempts, count_to

import outlast
from outlast.errors import CorruptCheckpoint, SessionEnded, UsageError

WRONG = [
    ({"save": 50}, messages.says("run/open-run-save-by", given="50", such="'50 steps'")),
    ({"save": None}, messages.says("run/open-run-save-by", given="None", such="'never'")),
    ({"save": "10"}, messages.says("run/open-run-save-3", given="'10'")),
    ({"save": True}, messages.says("run/open-run-save-by", given="True", such="'10m'")),
    ({"progress": "tqdm"}, messages.says("run/open-run-progress", given="'tqdm'")),
    ({"progress": "riche"}, messages.says("run/open-run-progress-2", given="'riche'", mean="rich")),
    ({"progress": None}, messages.says("run/open-run-progress", given="None")),
    ({"grade": "exakt"}, messages.says("run/open-run-grade", given="'exakt'", mean="exact")),
    ({"name": 5}, messages.says("run/open-run-name", given="5")),
    ({"name": "a/b"}, messages.says("run/cannot-name-a-run", given="'a/b'", name="'a/b'")),
    ({"name": None}, messages.says("run/open-run-name-3")),
    ({"root": 5}, messages.says("run/open-run-root", given="5")),
    ({"root": "/proc/self/status/runs"}, messages.says("run/open-run-root-2", given="'/proc/self/status/runs'")),
    ({"root": "a\0b"}, messages.says("run/open-run-root-3", given="'a\\x00b'")),
    (
        {"root": "x" * 300},
        messages.says(
            "run/open-run-root-4",
            given="'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'",
        ),
    ),
    ({"total_steps": 0}, messages.says("run/total-steps", call="open_run", given="0")),
    ({"total_steps": -1}, messages.says("run/total-steps", call="open_run", given="-1")),
    ({"total_steps": 1.5}, messages.says("run/total-steps", call="open_run", given="1.5")),
    ({"total_steps": True}, messages.says("run/total-steps", call="open_run", given="True")),
    ({"total_steps": math.nan}, messages.says("run/total-steps", call="open_run", given="nan")),
    ({"total_steps": "10"}, messages.says("run/total-steps", call="open_run", given="'10'")),
    ({"keep": "best"}, messages.says("run/open-run-keep", given="'best'")),
    ({"budget": -1}, messages.says("run/open-run-budget", given="-1")),
    ({"budget": 0}, messages.says("run/open-run-budget", given="0")),
    ({"budget": math.nan}, messages.says("run/open-run-budget", given="nan")),
    ({"budget": math.inf}, messages.says("run/open-run-budget", given="inf")),
    ({"budget": True}, messages.says("run/open-run-budget-2", given="True")),
    ({"budget": "soon"}, messages.says("run/open-run-budget-2", given="'soon'")),
    ({"reserve": -1}, messages.says("run/open-run-reserve", given="-1")),
    ({"sinks": outlast.Sink()}, messages.says("run/open-run-sinks")),
    ({"sinks": [print]}, messages.says("run/open-run-sinks")),
    ({"environment": "kaggle"}, messages.says("run/open-run-environment", given="'kaggle'")),
    ({"resume_from": "nowhere"}, messages.says("run/open-run-resume-from", given="'nowhere'")),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_a_wrong_argument_is_a_sentence_and_nothing_is_written(wrong: dict, words: str, tmp_path: Path) -> None:
    options = {"name": "r", "root": tmp_path / "runs", "progress": "none", **wrong}
    with messages.raises(UsageError, words):
        outlast.open_run(**options)
    assert not list(tmp_path.iterdir())


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    with messages.raises(UsageError, "run/run-folder-cannot-be-made", path="proc/x/r"):
        outlast.open_run("r", root="/proc/x", progress="none")


def test_totals_of_the_loops_are_checked_too(opened) -> None:
    with opened(total_steps=np.int64(3)) as run:
        run.track(counter=Counter())
        for wrong in (0, -5, True, 2.0):
            with messages.raises(UsageError, "run/total-steps", call="steps()", given=wrong):
                next(run.steps(wrong))
            with messages.raises(UsageError, "run/total-steps", call="begin()", given=wrong):
                run.begin(wrong)
        for wrong, words in ((10**18 * 5, "5000000000000000000"), (10**5000, "2**16609 or so")):
            with messages.raises(UsageError, "run/steps-was-given-total-steps-no-record", words=words):
                next(run.steps(wrong))
        assert list(run.steps()) == [1, 2, 3]


def test_a_job_script_sets_arguments_by_variables(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OUTLAST_RUN", "from-the-job")
    monkeypatch.setenv("OUTLAST_ROOT", str(tmp_path / "scratch"))
    monkeypatch.setenv("OUTLAST_BUDGET", "2h")
    with outlast.open_run(total_steps=2, progress="none") as run:
        count_to(run, Counter())
    assert run.folder == tmp_path / "scratch/from-the-job"
    assert run.session.budget == 7200
    with outlast.open_run("mine", total_steps=2, progress="none", root=tmp_path / "own", budget="1h") as run:
        count_to(run, Counter())
    assert run.folder == tmp_path / "own/mine"
    assert run.session.budget == 3600
    monkeypatch.setenv("OUTLAST_BUDGET", "")
    with outlast.open_run("other", total_steps=2, progress="none") as run:
        count_to(run, Counter())
    assert run.session.budget is None, "an empty variable is one that is not set"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OUTLAST_RUN", "a b", messages.says("run/outlast-run-is-cannot-name-run", name="a b")),
        (
            "OUTLAST_ROOT",
            "/proc/self/status/x",
            messages.says("run/outlast-root-is-is-not-folder", name="/proc/self/status/x", path="proc/self/status"),
        ),
        ("OUTLAST_BUDGET", "soon", messages.says("run/outlast-budget-is-expected-duration-with-units", name="soon")),
        ("OUTLAST_BUDGET", "0s", messages.says("run/outlast-budget-is-expected-duration", name="0s")),
        (
            "OUTLAST_RESUME_FROM",
            "nowhere",
            messages.says("run/outlast-resume-from-is-expected-run-folder", name="nowhere"),
        ),
    ],
)
def test_a_variable_that_cannot_be_is_named(name: str, value: str, words: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(name, value)
    with messages.raises(UsageError, words):
        outlast.open_run(progress="none") if name == "OUTLAST_RUN" else outlast.open_run("r", progress="none")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def old(opened, tmp_path: Path) -> Path:
    """A run of six steps that was stopped after the fourth; checkpoints at 2 and 4."""
    with pytest.raises(SessionEnded), opened("old", root=tmp_path / "elsewhere", total_steps=6, save="2 steps") as run:
        count_to(run, Counter(), stop_at=4)
    return tmp_path / "elsewhere/old"


def test_a_path_that_no_file_can_have_is_a_sentence(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for path in ("x" * 5000, "a/" * 3000, "nul\0", str(tmp_path / "circle")):
        with pytest.raises(UsageError, match="resume_from=") as caught:
            outlast.open_run("r", total_steps=1, root=tmp_path / "runs", resume_from=path)
        assert len(str(caught.value)) < 1000
    monkeypatch.setenv("OUTLAST_RESUME_FROM", "x" * 5000)
    with messages.raises(UsageError, "run/outlast-resume-from-is-xxx-file-name-too"):
        outlast.open_run("r", total_steps=1, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("place", "step"), [("", 4), ("checkpoints/step-00000002", 2)])
def test_a_run_without_a_checkpoint_begins_from_another_run(
    place: str, step: int, opened, old: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("OUTLAST_RESUME_FROM", str(old / place))
    with pytest.raises(SessionEnded), opened("new", total_steps=9) as run:
        assert run.resumed_from == step
        count_to(run, counter := Counter(), stop_at=7)
    with opened("new", total_steps=9) as run:  # the job is requeued with the same variable
        assert run.resumed_from == 7
        count_to(run, counter := Counter())
    assert counter.value == 45
    first, second = attempts(tmp_path, "new")
    assert first["told"][0] == f"begins from step {step} of {old}"
    assert second["told"] == []
    assert (old / "checkpoints/step-00000004/MANIFEST.json").exists()


def test_a_run_with_steps_of_its_own_is_not_mixed_with_another(opened, old: Path, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SessionEnded), opened("new", total_steps=9) as run:
        count_to(run, Counter(), stop_at=1)
    with opened("new", total_steps=9, resume_from=old) as run:
        assert run.resumed_from == 1
        count_to(run, Counter())
    messages.said(attempts(tmp_path, "new")[1]["told"][0], "run/begin-from-is-not-used", step=1)


def test_a_copy_of_the_same_run_is_copied_with_its_attempts(opened, old: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OUTLAST_RESUME_FROM", str(old))
    for expected, total in ((4, 6), (6, 8)):
        with opened("old", total_steps=total) as run:
            assert run.resumed_from == expected
            count_to(run, Counter())
    assert [a["end"]["reason"] for a in attempts(tmp_path, "old")] == ["budget", "finished", "finished"]


def test_a_damaged_state_to_begin_from(opened, old: Path, monkeypatch) -> None:
    (old / "checkpoints/step-00000004/state.json").write_text("{}")
    with opened("new", total_steps=9, resume_from=old) as run:
        assert run.resumed_from == 2
    (old / "checkpoints/step-00000002/state.json").write_text("{}")
    with messages.raises(CorruptCheckpoint, "run/has-no-checkpoint-to-begin"):
        opened("newer", total_steps=9, resume_from=old)


def test_recipes_take_the_budget_and_the_folder_and_say_what_they_do_not_read(outlast_cli, tmp_path: Path) -> None:
    flags = ["--epochs", "1", "--data.samples", "64", "--batch-size", "32", "--num-workers", "0"]
    variables = {"OUTLAST_BUDGET": "7h", "OUTLAST_ROOT": str(tmp_path / "else"), "OUTLAST_RUN": "digits"}
    done = outlast_cli("train", "digits", *flags, env=variables)
    assert done.returncode == 0, done.stderr
    assert "is set" not in done.stderr
    assert (tmp_path / "else/digits/run.json").exists()
    done = outlast_cli("train", "digits", *flags, "--checkpoint-dir", "given", env={**variables, "OUTLAST_RUN": "own"})
    assert done.returncode == 0, done.stderr
    messages.said(done.stderr, "run/outlast-run-is-set-and-recipes-do")
    assert "OUTLAST_ROOT" not in done.stderr
    assert (tmp_path / "given/digits/run.json").exists()
    assert outlast_cli("train", "digits", *flags, env={"OUTLAST_BUDGET": "soon"}).returncode == 2


def test_inputs_that_are_not_there_are_warned_of(opened, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "file").write_text("")
    wrong = [str(tmp_path / "typo"), str(tmp_path / "file")]
    monkeypatch.setenv("OUTLAST_INPUTS", ":".join([wrong[0], str(tmp_path), wrong[1]]))
    with opened(total_steps=1) as run:
        count_to(run, Counter())
    told = attempts(tmp_path)[0]["told"]
    assert len(told) == 2
    for path, sentence in zip(wrong, told, strict=True):
        messages.said(sentence, "run/inputs-that-are-not-there", path=Path(path).name)
    shown = capsys.readouterr().err
    assert [line.count(path) for path, line in zip(wrong, shown.splitlines(), strict=True)] == [1, 1]


def test_without_progress_only_warnings_are_shown(opened, tmp_path: Path, capsys) -> None:
    with opened(total_steps=2) as run:
        count_to(run, Counter())
    assert capsys.readouterr().err == ""

    class Forgets(Counter):
        def load_state_dict(self, state) -> None:
            pass

    with opened(total_steps=4) as run:
        count_to(run, Forgets())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("outlast: warning: ")
    assert line.removeprefix("outlast: warning: ") in attempts(tmp_path)[1]["told"]
    messages.said(line, "run/warning-without-progress")
