"""What a launched run has beside it: the remote that follows it, and its publication."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from outlast.cli import main
from outlast.environment.keys import FIELDS
from outlast.errors import EXIT_RUN_AGAIN, UsageError
from outlast.launch.inside import NOT_PUBLISHED
from outlast.launch.kaggle import runner
from outlast.launch.local.provider import LocalProvider, connect
from outlast.launch.provider import Terms
from outlast.launch.start import request_for
from outlast.launch.work import RecipeWork
from outlast.publish.fetching import fetch, names_in
from outlast.recipe import prepare, registry
from outlast.remote.folder import FolderRemote
from outlast.remote.revision import PushedRun
from outlast.report import read_run
from tests import messages
from tests.launch.conftest import RECIPE

RELAY = ("relay", "walk", "--on", "local", "--ask-every", "0.1", "--stop-every", "5")


@pytest.fixture
def provider(tmp_path: Path) -> LocalProvider:
    (tmp_path / "walk").mkdir()
    text = RECIPE.replace("from helper import STEP", "STEP = 0.5").replace("train=train)", 'train=train, part="state")')
    (tmp_path / "walk/recipe.py").write_text(text)
    (tmp_path / "configs/environment").mkdir(parents=True)
    return connect(Path("runs"))


def test_a_relayed_run_is_followed_by_a_folder_of_this_machine_and_published_after_it_is_fetched(
    provider: LocalProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--remote", "bucket", "--publish.to", "results", "--publish.when", "finished")
    assert main([*RELAY, *flags]) == 0, capsys.readouterr().err
    revision = PushedRun(FolderRemote(tmp_path / "bucket", writes=False), "walk").revision
    assert revision is not None
    assert max(revision.checkpoints) == 9
    assert [path for path in tmp_path.rglob("bucket") if path.is_dir()] == [tmp_path / "bucket"]
    store = FolderRemote(tmp_path / "results", writes=False)
    (name,) = names_in(store)
    fetch(store, name, tmp_path / "got")
    assert json.loads((tmp_path / "got/train/metrics.json").read_text())["step"] == 9
    assert "Get it: outlast publish" in capsys.readouterr().out.splitlines()[-1]


def test_a_session_that_cannot_publish_has_finished_its_run_and_the_relay_says_both(
    provider: LocalProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").write_text("a file is in the way")
    text = f"environment:\n  publish:\n    to: {tmp_path / 'results'}\n    when: finished\n"
    (tmp_path / "configs/environment/local.yaml").write_text(text)
    assert main([*RELAY]) == 1
    said = capsys.readouterr().err
    messages.said(said, "launch/finished-and-not-published", run="walk", command="outlast publish runs/walk")
    assert read_run(tmp_path / "runs/walk").status == "finished"
    (tmp_path / "results").unlink()
    assert main(["publish", "runs/walk", "--recipe", "walk"]) == 0
    assert len(names_in(FolderRemote(tmp_path / "results", writes=False))) == 1


def test_a_kernel_that_has_not_published_has_not_failed() -> None:
    """What is pushed to Kaggle is text of its own, which imports nothing of outlast."""
    assert runner.KEPT_ALL == (EXIT_RUN_AGAIN, NOT_PUBLISHED)


def test_a_folder_that_the_session_would_not_see_is_refused(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = dataclasses.replace(LocalProvider.capabilities, folders=False)
    monkeypatch.setattr(LocalProvider, "capabilities", elsewhere)
    for address, taken in (("bucket", False), ("gs://bucket/runs", True)):
        flags = {"experiment_name": "walk", "remote": address}
        prepared = prepare.prepare(registry.find("walk"), prepare.Request(flags={"experiment_name": "walk"}))
        config = prepared.resolved.config.model_copy(update={"remote": address})
        origins = {**prepared.resolved.origins, "remote": prepared.resolved.origins["experiment_name"]}
        resolved = dataclasses.replace(prepared.resolved, config=config, origins=origins)
        prepared = dataclasses.replace(prepared, resolved=resolved, given=flags)
        if taken:
            assert request_for(provider, RecipeWork(prepared), Terms()).asked["values"]["remote"] == address
            continue
        with messages.raises(UsageError, "launch/remote-is-a-folder-here", remote="bucket"):
            request_for(provider, RecipeWork(prepared), Terms())


def asked(provider: LocalProvider, remote: str | None = None, variable: str = "", **terms: object) -> str | None:
    """The remote that a session of the run walk is told; nothing is asked of the remote itself."""
    flags = {"experiment_name": "walk", **({} if remote is None else {"remote": remote})}
    prepared = prepare.prepare(registry.find("walk"), prepare.Request(flags={"experiment_name": "walk"}))
    if remote is not None:
        config = prepared.resolved.config.model_copy(update={"remote": remote})
        origins = {**prepared.resolved.origins, "remote": prepared.resolved.origins["experiment_name"]}
        prepared = dataclasses.replace(
            prepared, resolved=dataclasses.replace(prepared.resolved, config=config, origins=origins), given=flags
        )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OUTLAST_REMOTE", variable)
        found: str | None = (
            request_for(provider, RecipeWork(prepared), Terms(options=terms)).asked["values"].get("remote")
        )
    return found


def test_a_session_is_told_the_remote_of_the_environment_variable(provider: LocalProvider, tmp_path: Path) -> None:
    assert asked(provider) is None
    assert asked(provider, variable="bucket") == str(tmp_path / "bucket")
    assert asked(provider, "other", variable="bucket") == str(tmp_path / "other")
    (tmp_path / "configs/environment/local.yaml").write_text("environment:\n  remote: of-the-file\n")
    assert asked(provider, variable="bucket") == str(tmp_path / "of-the-file")


@pytest.fixture
def elsewhere(provider: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> LocalProvider:
    """A provider whose sessions get keys as those of Kaggle do."""
    there = dataclasses.replace(LocalProvider.capabilities, folders=False, secrets=True, keys=FIELDS)
    monkeypatch.setattr(LocalProvider, "capabilities", there)
    monkeypatch.setattr(LocalProvider, "environment", "kaggle")
    return provider


@pytest.mark.parametrize(
    ("address", "needed"),
    [
        ("s3://bucket/runs", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("gs://bucket/runs", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("sftp://me@host/runs", "~/.ssh"),
        ("hf://models/me/runs", "HF_TOKEN"),
        ("drive://abc/runs", "GDRIVE_USER_CREDENTIALS"),
    ],
)
def test_a_remote_whose_login_a_session_does_not_get_is_refused_by_its_names(
    elsewhere: LocalProvider, address: str, needed: str
) -> None:
    with pytest.raises(UsageError, match=f"^--remote.*{needed}"):
        asked(elsewhere, address)
    with pytest.raises(UsageError, match=f"^OUTLAST_REMOTE.*{needed}"):
        asked(elsewhere, variable=address)
    if needed in FIELDS:
        assert asked(elsewhere, variable=address, secrets=True) == address
        return
    with pytest.raises(UsageError, match=needed):
        asked(elsewhere, variable=address, secrets=True)


def test_the_environment_file_of_a_session_comes_before_the_variable(elsewhere: LocalProvider, tmp_path: Path) -> None:
    variable = "hf://models/me/runs"
    file = tmp_path / "configs/environment/kaggle.yaml"
    file.write_text("environment:\n  remote: /kaggle/working/bucket\n")
    assert asked(elsewhere, variable=variable) is None
    file.write_text("environment:\n  remote: gs://bucket/runs\n")
    with pytest.raises(UsageError, match=r"kaggle\.yaml is gs://bucket/runs.*GOOGLE_APPLICATION_CREDENTIALS"):
        asked(elsewhere, variable=variable, secrets=True)


def test_an_address_with_a_secret_is_not_sent(elsewhere: LocalProvider) -> None:
    with pytest.raises(UsageError) as refused:
        asked(elsewhere, variable="hf://me:hunter2hunter2@models/me/runs", secrets=True)
    assert "hunter2" not in str(refused.value)
