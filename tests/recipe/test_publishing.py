"""A run whose configuration says where it is published: by `outlast publish`, and at the end of its training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests import messages
from tests.cli.test_push_and_pull import RECIPE
from tests.publish import making

from outlast.cli import main
from outlast.config import cloud
from outlast.config.yamlfile import read
from outlast.errors import ConfigError
from outlast.folder.layout import RunFolder
from outlast.report import read_run

TRAIN = ("train", "./small", "--env", "local")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a recipe and a folder of environment files."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small/recipe.py").write_text(RECIPE)
    (tmp_path / "configs/environment").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def states(here: Path, text: str) -> None:
    (here / "configs/environment/local.yaml").write_text(text)


def outlast(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    """Run a command line; returns the lines that it printed, those on stderr last."""
    found = main(list(words))
    printed = capsys.readouterr()
    assert found == code, printed.err
    return (printed.out + printed.err).splitlines()


def names(store: Path) -> list[str]:
    return sorted(path.stem for path in store.glob("publications/*.json"))


def test_a_finished_training_is_published_and_an_interrupted_one_is_not(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states(here, "environment:\n  publish:\n    to: results\n    when: finished\n")
    outlast(capsys, *TRAIN, "--stop-at", "4", code=75)
    assert names(here / "results") == []
    said = outlast(capsys, *TRAIN)
    (name,) = names(here / "results")
    assert name.startswith("kaggle-train-small-small-20")
    messages.said(said, "publish/is-visible", name=name)
    messages.said(said, "publish/get-it", name=name, place="results")
    for _ in range(2):  # attempts that train nothing change nothing of what is published
        messages.said(outlast(capsys, *TRAIN), "publish/visible-already", reference=f"results/publications/{name}.json")
    assert names(here / "results") == [name]


def test_without_a_time_training_publishes_nothing_and_the_verb_knows_the_place(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states(here, "environment:\n  publish:\n    to: results\n")
    outlast(capsys, *TRAIN)
    assert names(here / "results") == []
    outlast(capsys, "publish", "small", "--recipe", "./small")
    (name,) = names(here / "results")
    outlast(capsys, "publish", name, "--from", "results", "-o", "got")
    card = (here / "got/README.md").read_text()
    assert "| seed | 42 |" in card
    assert "| scale | 1 |" in card or "| scale | 1.0 |" in card
    configuration = card.partition("## Configuration")[2].partition("## Origin")[0]
    assert "| seed | 42 |" in configuration
    # Of a process that has a framework, the origin states the device; the configuration never does.
    assert [word for word in ("checkpoint_dir", "publish.to", "device") if word in configuration] == []
    assert [word for word in ("checkpoint_dir", "publish.to") if word in card] == []
    assert "`model` of the run" in card, "the recipe is a file, which its name does not find"
    (here / "train.yaml").write_text("publish:\n  to: others\nscale: 2\n")
    outlast(capsys, "publish", "small", "--recipe", "./small", "--train-config", "train.yaml")
    assert names(here / "others") == names(here / "results")
    said = outlast(capsys, "publish", "small", "--recipe", "./small", "--experiment", "train.yaml")
    (name,) = names(here / "others")
    messages.said(said, "publish/visible-already", reference=f"others/publications/{name}.json")
    outlast(capsys, "publish", "small", "--recipe", "./small", "--to", "third")
    assert names(here / "third") == names(here / "results"), "what is typed wins"


def test_what_the_run_folder_names_is_no_destination(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run folder from elsewhere must not choose the server that gets a token."""
    outlast(capsys, *TRAIN, "--publish.to", "evil")
    assert json.loads((here / "runs/small/config.json").read_text())["values"]["publish.to"] == "evil"
    said = outlast(capsys, "publish", "small", "--recipe", "./small", code=2)
    messages.said([said[-1]], "publish/to-is-missing")
    assert not (here / "evil").exists()


def test_a_branch_after_the_training(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = making.server(here / "server.git")
    tree = making.clone(url, here / "tree")
    shutil.copytree(here / "small", tree / "small")
    monkeypatch.chdir(tree)
    flags = ("--publish.to", "git+dvc", "--publish.store", "../store", "--publish.when", "finished")
    said = outlast(capsys, *TRAIN, *flags)
    assert any(line.endswith("dvc pull") for line in said)
    assert making.git(url, "for-each-ref", "--format=%(refname:short)", "refs/heads/kaggle-*").count("\n") == 0
    assert any((here / "store/files/md5").rglob("*"))


def test_a_publication_that_fails_is_reported_and_the_run_is_complete(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "results").write_text("a file is in the way")
    flags = ("--publish.to", "results", "--publish.when", "finished")
    said = outlast(capsys, *TRAIN, *flags, code=1)
    assert read_run(here / "runs/small").status == "finished"
    messages.said([said[-1]], "recipe/trained-and-not-published", run="runs/small")
    command = said[-1].rpartition("To publish it: outlast ")[2].split()
    assert command == ["publish", "runs/small", "--recipe", "./small", "--to", "results"]
    (here / "results").unlink()
    outlast(capsys, *command)
    assert len(names(here / "results")) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), messages.says("recipe/publish-to-is-not-set")),
        (("--publish.to", "git+dvc"), messages.says("recipe/publish-needs-store")),
        (("--publish.to", "s4://bucket"), messages.says("recipe/publish-no-scheme", scheme="s4")),
        (("--publish.to", "store", "--publish.git", "origin"), messages.says("recipe/publish-git-belongs")),
        (("--publish.to", "git+dvc", "--publish.store", "x"), messages.says("recipe/publish-git-remote-unknown")),
        (("--publish.when", "often"), messages.says("recipe/publish-when", value="often")),
    ],
)
def test_what_could_not_be_published_is_refused_before_the_training(
    here: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: messages.Message
) -> None:
    for more in ((), ("--dry-run",)):
        said = outlast(capsys, *TRAIN, "--publish.when", "finished", *flags, *more, code=2)
        messages.said([said[-1]], words)
    assert not RunFolder(here / "runs/small").path.exists()


@pytest.mark.parametrize(
    "flags",
    [
        ("--publish.git", "https://canary@github.com/x.git"),
        ("--publish.git", "ssh://me:canary@host/x.git"),
        ("--publish.store", "s3://key:canary@bucket"),
    ],
)
def test_an_address_with_a_secret_is_neither_kept_nor_shown(
    here: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, str]
) -> None:
    said = outlast(capsys, *TRAIN, *flags, code=2)
    messages.said([said[-1]], "recipe/publish-address-with-a-secret", key=flags[0][2:])
    assert "canary" not in "".join(said)
    assert not (here / "runs").exists()
    states(here, f"environment:\n  publish:\n    git: {flags[1]}\n")
    assert "canary" not in "".join(outlast(capsys, *TRAIN, code=2))


def test_the_stages_of_a_chain_are_published_when_all_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = Path(__file__).parent / "pair"
    shutil.copytree(pair, tmp_path / "pair")
    monkeypatch.chdir(tmp_path)
    outlast(capsys, "train", "./pair", "--publish.to", "results", "--publish.when", "finished")
    assert len(names(tmp_path / "results")) == 2


# -- the original's own keys ---------------------------------------------------------------------------------------


def entries(here: Path, text: str) -> dict[str, object]:
    path = here / "x.yaml"
    path.write_text(f"environment:\n  cloud:\n{text}")
    found = cloud.translated(read(path, "environment"), path, {"KAGGLE_USERNAME": "me"})
    return {entry.key: entry.value for entry in found}


SEED = "    enabled: false\n    save_to_kaggle_datasets: true\n    output_dataset:\n      enabled: true\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{SEED}      name: results\n", {"publish.to": "kaggle://me/results", "publish.when": "finished"}),
        (f"{SEED}      name: you/x\n", {"publish.to": "kaggle://you/x", "publish.when": "finished"}),
        ("    output_dataset: {name: x}\n", {"publish.to": "kaggle://me/x", "publish.when": "finished"}),
        ("    save_to_kaggle_datasets: false\n    output_dataset: {name: x}\n", {}),
        ("    output_dataset: {name: x, enabled: no}\n", {}),
        ("    enabled: false\n    remote: gs://x\n    remote_rate: 5\n", {}),
        ("    enabled: true\n    remote: gs://x\n", {"cloud.remote": "gs://x"}),
        ("    output_dataset: {title: x}\n", {"cloud.output_dataset.title": "x"}),
    ],
)
def test_the_originals_keys(here: Path, text: str, found: dict[str, object]) -> None:
    assert entries(here, text) == found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("    enabled: true\n", 3),
        ("    enabled: perhaps\n", 3),
        ("    save_to_kaggle_datasets: true\n", 3),
        ("    save_to_kaggle_datasets: true\n    output_dataset:\n      name: a/b/c\n", 5),
    ],
)
def test_the_originals_keys_without_a_place(here: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        entries(here, text)
    assert f"x.yaml:{line}: cloud." in str(caught.value)


def test_a_switch_that_is_off_ends_the_pushing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states(here, "environment:\n  cloud:\n    enabled: false\n    remote: bucket\n")
    outlast(capsys, *TRAIN)
    assert not (here / "bucket").exists()
    states(here, "environment:\n  cloud:\n    enabled: true\n    remote: bucket\n")
    outlast(capsys, *TRAIN, "--steps", "8")
    assert (here / "bucket/small/revisions").is_dir()
