"""outlast publish: what it holds, what it prints, what it refuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import yaml

from outlast.checkpoint import tensors
from outlast.cli import main
from outlast.errors import RunBusy, UsageError
from outlast.folder.artifact import write_manifest
from outlast.publish.contents import plan_of
from outlast.publish.destination import Destination, prepared
from tests import messages
from tests.folders import walk
from tests.publish import making


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    walk(tmp_path / "runs", stop=20)
    return tmp_path / "runs/r"


def published(folder: Path, store: Path) -> str:
    (name,) = (path.stem for path in (store / "publications").iterdir())
    return name


def test_a_run_goes_out_and_comes_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = making.fingerprint(folder)
    assert main(["publish", "r", "--to", "store", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "artifacts/run/r/train/weights/last.safetensors" in out
    messages.said(out.splitlines()[-1], "publish/dry-run")
    assert not (tmp_path / "store").exists()
    assert making.fingerprint(folder) == before
    assert main(["publish", "r", "--to", "store"]) == 0
    name = published(folder, tmp_path / "store")
    assert name.startswith("kaggle-train-run-r-20")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Get it: outlast publish {name} --from store --output {name}"
    assert main([*last.removeprefix("Get it: outlast ").split()[:-1], "got"]) == 0
    arrays = tensors.decode((tmp_path / "got/train/weights/last.safetensors").read_bytes(), Path("x"))
    assert list(arrays) == ["position"]
    rows = list(csv.DictReader((tmp_path / "got/train/results.csv").open()))
    assert [(row["step"], row["count"]) for row in rows] == [(str(step), str(step)) for step in range(1, 21)]
    assert json.loads((tmp_path / "got/train/metrics.json").read_text()) == {"step": 20, "count": 20}
    card = (tmp_path / "got/README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["model_name"] == "r"
    assert "last.safetensors" in card
    assert main(["publish", "--from", "store"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == name
    own = [path for path in making.fingerprint(folder) if not path.startswith("publish/")]
    assert {path: making.fingerprint(folder)[path] for path in own} == before
    assert sorted(path.name for path in (folder / "publish").iterdir()) == sorted([f"{name}.json", "lock"])


def test_a_branch_and_the_commands_that_get_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = making.server(tmp_path / "server.git")
    monkeypatch.chdir(making.clone(url, tmp_path / "tree"))
    assert main(["publish", str(folder), "--to", "git+dvc", "--store", "../store"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    name = making.git(url, "for-each-ref", "--format=%(refname:short)", "refs/heads/kaggle-*")
    assert last == f"Get it: git fetch origin {name} && git checkout {name} && dvc pull"
    assert f"url = {tmp_path / 'store'}" in making.git(url, "show", f"{name}:.dvc/config")
    making.git(tmp_path / "tree", "commit", "--quiet", "--allow-empty", "-m", "another HEAD")
    making.git(tmp_path / "tree", "push", "--quiet", "origin", "main")
    assert main(["publish", str(folder), "--to", "git+dvc", "--store", "../store"]) == 0
    messages.said(
        capsys.readouterr().out,
        "publish/visible-already",
        reference=re.compile(rf"branch {name} of \S+"),
    )


def test_the_same_run_has_the_same_plan(folder: Path, tmp_path: Path) -> None:
    pictures = folder / "artifacts"
    (pictures / "test").mkdir(parents=True)
    (pictures / "test/predictions.json").write_text("[]")
    (pictures / "test_confusion.png").write_bytes(b"png")
    (pictures / "drawn.png").write_bytes(b"png")
    write_manifest(pictures / "drawn.png", "drawn.png", {})
    (pictures / "link").symlink_to("/etc/passwd")
    plans = []
    for number in range(2):
        (tmp_path / f"scratch{number}").mkdir()
        plan, told = plan_of(folder, tmp_path / f"scratch{number}", part="walk")
        plans.append([(file.path, file.sha256) for file in plan.files])
    assert plans[0] == plans[1]
    paths = {path for path, _ in plans[0]}
    assert {"test/predictions.json", "test/test_confusion.png", "train/drawn.png"} <= paths
    assert not any("link" in path for path in paths)
    messages.said(told, "publish/link-left-out", path="link")


def test_folders_of_this_machine_are_not_published(folder: Path, tmp_path: Path) -> None:
    values = {
        "data_root": "/mnt/data of me/ntu", "remote": "file:///srv/bucket/", "log_csv": "C:\\logs\\a.csv",
        "data.names": ["/etc/names.csv", "b.csv"], "checkpoint_dir": "runs", "model.act": "a/b", "url": "gs://b/p",
    }  # fmt: skip
    origins = {"data_root": f"train {tmp_path}/my x.yaml:3", "remote": "flag --remote", "url": "default"}
    record = {"format": 2, "values": values, "origins": origins, "fingerprint": "0" * 32}
    (folder / "config.json").write_text(json.dumps(record))
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"recipe": str(tmp_path / "walk/recipe.py")}))
    (tmp_path / "s").mkdir()
    made, _ = plan_of(folder, tmp_path / "s", part="walk")
    files = {file.path: file.source for file in made.files}
    found = yaml.safe_load(files["train/args.yaml"].read_text())
    assert found == {
        "data_root": "ntu", "remote": "bucket", "log_csv": "a.csv", "data.names": ["names.csv", "b.csv"],
        "checkpoint_dir": "runs", "model.act": "a/b", "url": "gs://b/p",
    }  # fmt: skip
    config = json.loads(files["train/config.json"].read_text())
    assert (config["values"], config["fingerprint"]) == (found, "0" * 32)
    assert config["origins"] == origins | {"data_root": "train my x.yaml:3"}
    assert made.about["recipe"] == "./recipe.py"
    for path, source in files.items():
        assert str(tmp_path).encode() not in source.read_bytes(), path


def test_what_was_logged_after_the_checkpoint_is_not_of_it(folder: Path, tmp_path: Path) -> None:
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"step": 21, "count": 21, "more": 1}\n')
    (tmp_path / "scratch").mkdir()
    plan, _ = plan_of(folder, tmp_path / "scratch", part="walk")
    files = {file.path: file.source.read_text() for file in plan.files if file.path.endswith((".csv", "metrics.json"))}
    assert files["train/results.csv"].splitlines()[-1] == "20,20"
    assert json.loads(files["train/metrics.json"]) == {"step": 20, "count": 20}


def test_artifacts_in_the_folders_of_the_tree(folder: Path, tmp_path: Path) -> None:
    """They keep their places; a table of the run's own replaces ours, and weights never do."""
    artifacts = folder / "artifacts"
    (artifacts / "train/weights").mkdir(parents=True)
    (artifacts / "train/results.csv").write_text("epoch\n1\n")
    (artifacts / "train/weights/last.safetensors").write_bytes(b"others")
    (artifacts / "train/weights/last.pt").write_bytes(b"own")
    (artifacts / "results.csv").write_text("one more")
    (tmp_path / "scratch").mkdir()
    plan, told = plan_of(folder, tmp_path / "scratch", part="walk")
    files = {file.path: file for file in plan.files}
    assert files["train/results.csv"].source.read_text() == "one more"
    assert files["train/weights/last.safetensors"].size != len(b"others")
    assert files["train/weights/last.pt"].source.read_bytes() == b"own"
    messages.said(told, "publish/own-table-left-out")
    messages.said(told, "publish/weights-left-out")
    assert len(told) == 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], messages.says("publish/needs-a-run")),
        (["r"], messages.says("publish/to-is-missing")),
        (["r", "--to", "git+dvc"], messages.says("publish/needs-store")),
        (["r", "--to", "store", "--git", "origin"], messages.says("publish/git-belongs", place="store")),
        (["r", "--to", "s4://x"], messages.says("publish/no-scheme", scheme="s4")),
        (["r", "--to", "git+dvc", "--store", "hf://x"], messages.says("publish/dvc-no-hub")),
        (["r", "--to", "git+dvc", "--store", "store"], messages.says("publish/in-no-git-repository")),
        (["x", "--to", "store"], messages.says("publish/no-such-run", run="x")),
        (["r", "--to", "store", "--part", "nothing"], messages.says("publish/no-such-part", part="nothing")),
        (["r", "--from", "store", "--to", "store"], messages.says("publish/from-takes-no-to")),
    ],
)
def test_what_is_refused(
    folder: Path, argv: list[str], words: messages.Message, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", *argv]) == 2
    messages.said(capsys.readouterr().err, words)
    assert not (folder.parents[1] / "store").exists()


def test_a_missing_publication(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "nothing", "--from", "store"]) == 1
    messages.said(capsys.readouterr().err, "publish/no-such-publication", name="nothing")


def test_one_publisher_of_a_run_at_a_time(folder: Path) -> None:
    with (
        prepared(folder, Destination("store"), part="walk"),
        pytest.raises(RunBusy),
        prepared(folder, Destination("store"), part="walk"),
    ):
        pass


def test_what_a_killed_publisher_left_is_swept(folder: Path) -> None:
    (folder / "publish/.tmp-scratch/files").mkdir(parents=True)
    (folder / "publish/.tmp-scratch/files/x").write_text("x")
    with prepared(folder, Destination("store"), part="walk") as ready:
        ready.publish()
    assert not (folder / "publish/.tmp-scratch").exists()


def test_a_run_without_checkpoints(tmp_path: Path, folder: Path) -> None:
    for path in (folder / "checkpoints").glob("*/MANIFEST.json"):
        path.unlink()
    with messages.raises(UsageError, "publish/no-weights"), prepared(folder, Destination("store"), part="walk"):
        pass


@pytest.mark.parametrize(
    ("flag", "given", "nearest"),
    [("--name", "../x", "x"), ("--name", "a b", "a-b"), ("--name", "", "run"), ("--module", "ü", "run")],
)
def test_a_name_is_taken_as_it_is_or_refused(
    folder: Path, flag: str, given: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", "r", "--to", "store", flag, given]) == 2
    messages.said(capsys.readouterr().err, "publish/no-name", flag=flag, given=repr(given), nearest=nearest)
    assert not (folder.parents[1] / "store").exists()


@pytest.mark.parametrize("argv", [["--from", "stroe"], ["--gc", "stroe"], ["--gc", "stroe", "--delete"]])
def test_a_folder_that_is_not_there_is_no_empty_store(
    folder: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", *argv]) == 2
    messages.said(capsys.readouterr().err, "publish/no-such-store", folder="stroe")
    assert not (folder.parents[1] / "stroe").exists()


def test_a_clone_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "r", "--to", "git+dvc", "--store", "store", "--repository", "nothere"]) == 2
    messages.said(capsys.readouterr().err, "publish/no-such-clone", place=folder.parents[1] / "nothere")
