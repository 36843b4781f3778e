"""A remote on the command line: trainings that it follows, on machines that have nothing else; push, pull, status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests import messages
from tests.folders import steps, walk
from tests.remote.remotes import newest

from outlast.cli import main
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.remote import pushed as noted
from outlast.report import read_run

RECIPE = """
import numpy as np
import outlast


class Config(outlast.Config):
    steps: int = outlast.setting(6, "steps", on_resume="free")
    scale: float = outlast.setting(1.0, "of a step", on_resume="fixed")
    stop_at: int = outlast.setting(0, "step at which the session is to end", on_resume="session")


class Point:
    def __init__(self):
        self.at = np.zeros(3)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def train(run, config):
    outlast.seed_everything(config.seed)
    point = Point()
    run.track(model=point)
    for step in run.steps(config.steps):
        point.at = point.at + config.scale * np.random.standard_normal(3)
        run.log(distance=np.abs(point.at).sum())
        if step == config.stop_at:
            run.session.request_stop("budget", "a test asks")


recipe = outlast.Recipe(name="small", summary="a walk", Config=Config, train=train)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a recipe."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small/recipe.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OUTLAST_REMOTE", raising=False)
    return tmp_path


def outlast(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Run a command line; returns what it printed."""
    found = main(list(words))
    printed = capsys.readouterr()
    assert found == code, printed.err
    return printed.out + printed.err


def came(said: str, step: int, place: str) -> bool:
    """Whether a line names a step and the place that it came from."""
    return any(f"step {step} " in line and line.endswith(f" {place}") for line in said.splitlines())


def journal(root: Path) -> bytes:
    return (root / "small/journal.jsonl").read_bytes()


def test_a_machine_that_has_nothing_continues_with_the_values_of_the_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "./small", "--remote", "bucket"]
    said = outlast(capsys, *train, "--checkpoint-dir", "a", "--scale", "0.5", "--steps", "9", "--stop-at", "4", code=75)
    assert "--remote bucket" in said, "the command to go on with needs it, too"
    assert came(outlast(capsys, *train, "--checkpoint-dir", "b"), 4, "bucket/small")
    outlast(capsys, "train", "./small", "--checkpoint-dir", "twin", "--scale", "0.5", "--steps", "9")
    assert journal(here / "b") == journal(here / "twin")
    assert list(newest(here / "bucket", "small")["checkpoints"])[-1] == "step-00000009"
    status = outlast(capsys, "status", "small", "--checkpoint-dir", "b")
    assert "at bucket: steps 9" in status.replace("steps 4, 9", "steps 9")
    facts = json.loads(outlast(capsys, "status", "small", "--checkpoint-dir", "b", "--json"))
    assert (facts["pushed"]["address"], facts["pushed"]["behind"]) == ("bucket", [])


def test_resume_by_name_on_a_machine_that_has_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTLAST_REMOTE", "bucket")
    outlast(capsys, "train", "./small", "--checkpoint-dir", "a", "--stop-at", "2", code=75)
    said = outlast(capsys, "resume", "small", "--recipe", "./small", "--checkpoint-dir", "b")
    assert came(said, 2, "bucket/small")
    assert len(journal(here / "b").splitlines()) == 6


def test_the_environments_file_may_say_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = here / "configs/environment"
    place.mkdir(parents=True)
    for text in ("environment:\n  remote: one\n", "environment:\n  cloud:\n    remote: two\n    remote_rate: 50\n"):
        (place / "local.yaml").write_text(text)
        shutil.rmtree(here / "a", ignore_errors=True)
        outlast(capsys, "train", "./small", "--env", "local", "--checkpoint-dir", "a")
    assert (here / "one/small/revisions").is_dir()
    assert (here / "two/small/revisions").is_dir()
    (place / "local.yaml").write_text("environment:\n  cloud:\n    bucket: x\n    output_dataset: {title: x}\n")
    said = outlast(capsys, "train", "./small", "--env", "local", "--checkpoint-dir", "a", code=2)
    example = "remote: gs://bucket/prefix"
    messages.said(
        said,
        "config/cloud-keys",
        line="local.yaml:3",
        key="cloud.bucket",
        example=example,
        other="cloud.output_dataset.title",
        at=4,
        name="cloud.output_dataset.name",
    )


def test_pull_and_push_by_hand(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk(here / "runs", stop=8)
    said = outlast(capsys, "push", "r", "bucket")
    assert [f"step {step} is at bucket/r" for step in (8, 6, 4)] == said.splitlines()[:3]
    messages.said([said.splitlines()[-1]], "cli/copy-it-to-a-machine", command="outlast pull r bucket")
    assert outlast(capsys, "push", "r", "bucket").splitlines()[0] == "bucket has all of r already."
    said = outlast(capsys, "pull", "r", "bucket", "--checkpoint-dir", "b")
    assert came(said, 8, "bucket/r")
    assert said.splitlines()[1:] == ["Look at it with: outlast status r --checkpoint-dir b"]
    assert steps(here / "b") == [4, 6, 8]
    messages.said(outlast(capsys, "pull", "r", "bucket", "--checkpoint-dir", "b"), "remote/nothing-newer")


def test_verify_reads_what_was_pushed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No digest of the remote is taken for the bytes: damage of the same size is found."""
    walk(here / "runs", stop=4)
    outlast(capsys, "push", "r", "bucket")
    assert outlast(capsys, "verify", "r", "--remote", "bucket").endswith("bucket/r verifies.\n")
    pushed, bucket = newest(here / "bucket"), here / "bucket/r/blobs"
    (name, _), *_ = next(iter(pushed["checkpoints"]["step-00000004"]["files"].values()))
    size = (bucket / name).stat().st_size
    journal = pushed["files"]["journal.jsonl"][0][0]
    for found, data, key in (
        (name, bytes(size), "remote/verify-other-contents"),
        (name, b"", "remote/verify-other-size"),
        (journal, None, "remote/verify-missing"),
    ):
        durable.remove_file(bucket / found)
        if data is not None:
            (bucket / found).write_bytes(data)
        said = outlast(capsys, "verify", "r", "--remote", "bucket", code=1)
        lines = [line for line in said.splitlines() if "DAMAGED" in line]
        assert [line.split()[0] for line in lines] == ["records" if data is None else "step-00000004"]
        object_ = f"bucket/r/blobs/{found}"
        messages.said(said, key, object=object_, **({"size": size} if data == b"" else {}))
        messages.said(said, "remote/verify-advice", command="outlast push r bucket")
        (bucket / found).unlink(missing_ok=True)
        assert "bucket" in outlast(capsys, "push", "r", "bucket")
        outlast(capsys, "verify", "r", "--remote", "bucket")
    said = outlast(capsys, "verify", "other", "--remote", "bucket", code=2)
    messages.said(said, "remote/nothing-was-pushed", run="other")
    said = outlast(capsys, "verify", "r", "--remote", "bucket", "--checkpoint-dir", "runs", code=2)
    messages.said(said, "remote/verify-here-or-there")


def test_push_keeps_there_what_is_kept_here(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk(here / "runs", stop=8)
    outlast(capsys, "push", "r", "bucket")
    walk(here / "runs", stop=14)
    outlast(capsys, "push", "r", "bucket")
    assert list(newest(here / "bucket")["checkpoints"]) == [f"step-{step:08d}" for step in (10, 12, 14)]


def test_two_histories_are_not_mixed_by_hand(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk(here / "runs", stop=4)
    shutil.copytree(here / "runs", here / "other")
    walk(here / "runs", stop=8)
    outlast(capsys, "push", "r", "bucket")
    before = newest(here / "bucket")
    said = outlast(capsys, "push", "r", "bucket", "--checkpoint-dir", "other", code=2)
    messages.said(said, "remote/remote-is-ahead", step=8, folder="other/r")
    walk(here / "other", stop=6)
    said = outlast(capsys, "push", "r", "bucket", "--checkpoint-dir", "other", code=2)
    messages.said(said, "remote/does-not-continue-the-remote", step=6, folder="other/r")
    said = outlast(capsys, "pull", "r", "bucket", "--checkpoint-dir", "other", code=2)
    messages.said(said, "remote/pull-of-another-history", step=8)
    assert steps(here / "other")[-1] == 6
    walk(here / "third", stop=6)
    said = outlast(capsys, "push", "r", "bucket", "--checkpoint-dir", "third", code=2)
    messages.said(said, "remote/push-to-another-run")
    said = outlast(capsys, "pull", "r", "bucket", "--checkpoint-dir", "third", code=2)
    messages.said(said, "remote/pull-of-another-run")
    assert newest(here / "bucket") == before


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["push", "r"], 2, messages.says("remote/push-needs-an-address")),
        (["push", "r", "https://x/y"], 2, messages.says("remote/push-no-scheme", scheme="https")),
        (["push", "nobody", "bucket"], 2, messages.says("remote/push-no-such-run", run="nobody")),
        (["pull", "nobody", "bucket"], 2, messages.says("remote/pull-no-such-run", run="nobody", remote="bucket")),
        (["pull", "../r", "bucket"], 2, messages.says("remote/pull-no-name", name="../r")),
        (["push", "r", "bucket", "--rate", "0"], 2, messages.says("remote/rate-of-nothing", value="0")),
    ],
)
def test_what_is_typed_wrong(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, sentence: messages.Message
) -> None:
    walk(here / "runs", stop=2)
    messages.said(outlast(capsys, *words, code=code), sentence)
    assert not (here / "bucket").exists()
    assert not (here / "runs/nobody").exists()


def test_doctor_looks_at_the_remote(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", "./small", "--remote", "bucket", "--experiment-name", "small"]
    main(words)
    said = capsys.readouterr().out
    messages.said(said, "remote/doctor-no-checkpoint", remote="bucket", run="small")
    messages.said(said, "remote/probe-no-bucket-yet")
    assert not (here / "bucket").exists()
    outlast(capsys, "train", "./small", "--remote", "bucket", "--stop-at", "4", code=75)
    main(words)
    said = capsys.readouterr().out
    messages.said(said, "remote/doctor-steps", remote="bucket", run="small", steps="4")
    messages.said(said, "remote/doctor-can-be-written", remote="bucket")


def test_a_run_that_is_trained_is_not_pushed_by_hand(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from outlast.folder.lock import Lock

    walk(here / "runs", stop=2)
    lock = Lock(here / "runs/r/lock")
    lock.take("a test")
    try:
        outlast(capsys, "push", "r", "bucket", code=1)
    finally:
        lock.release()
    assert not (here / "bucket").exists()


def test_a_chain_of_stages_continues_where_nothing_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = str(Path(__file__).parents[1] / "recipe/pair")
    train = ["train", pair, "--experiment-name", "small"]
    outlast(capsys, *train, "--checkpoint-dir", "twin")
    outlast(capsys, *train, "--checkpoint-dir", "a", "--remote", "bucket", "--stop-at", "walk:3", code=75)
    said = outlast(capsys, *train, "--checkpoint-dir", "b", "--remote", "bucket")
    assert came(said, 6, "bucket/small.mean")
    for name in ("small.mean", "small.walk"):
        assert (here / "b" / name / "journal.jsonl").read_bytes() == (
            here / "twin" / name / "journal.jsonl"
        ).read_bytes()


def test_status_knows_what_was_pushed_by_hand(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And does not call behind what retention does not keep in the remote."""
    walk(here / "runs", stop=8)
    folder = RunFolder(here / "runs/r")
    noted.note(folder, "bucket", steps=[8], behind=[6], trouble="it was down")
    assert read_run(folder.path).pushed["behind"] == [6], "4 was not wanted there"
    outlast(capsys, "push", "r", "elsewhere")
    assert read_run(folder.path).pushed["behind"] == [6], "another remote does not follow the run"
    outlast(capsys, "push", "r", "bucket")
    found = read_run(folder.path).pushed
    assert (found["steps"], found["behind"], found["trouble"]) == ([4, 6, 8], [], None)
    walk(here / "runs", stop=10)
    assert read_run(folder.path).pushed["behind"] == [10]
