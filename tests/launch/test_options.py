"""Options of providers: flags, settings and records give the same values, and nothing of another provider is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outlast.cli import main
from outlast.cli.launch import read
from outlast.errors import ConfigError, UnknownName, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch import providers
from outlast.launch.kaggle.terms import OPTIONS
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.settings import Settings, read_settings, write_settings
from tests import messages


def options(*words: str) -> dict:
    return dict(read("outlast launch", list(words), {}).options)


def test_flags_win_over_settings_which_win_over_defaults(tmp_path: Path) -> None:
    usual = {"accelerator": "t4x2", "internet": True, "secrets": False, "dataset": None, "wheels": None}
    assert options("digits", "--on", "kaggle") == usual
    write_settings(Settings("kaggle", "ada", "digits", {"accelerator": "tpu", "internet": False}))
    assert read_settings().options == {"accelerator": "tpu", "internet": False, "secrets": False}
    assert options() == usual | {"accelerator": "tpu", "internet": False}
    assert options("--accelerator", "cpu", "--dataset", "a/b", "--dataset", "c/d") == usual | {
        "accelerator": "cpu",
        "internet": False,
        "dataset": ["a/b", "c/d"],
    }
    assert options("--on", "local", "--session", "20s") == {"session": 20.0}


def test_an_option_of_another_provider_is_refused() -> None:
    with messages.raises(UsageError, "launch/session-is-an-option"):
        options("digits", "--on", "kaggle", "--session", "20s")
    with messages.raises(UsageError, "launch/no-internet-is-an-option-internet"):
        options("digits", "--on", "local", "--no-internet")


@pytest.mark.parametrize("text", ["0s", "-3s", "long", "20"])
def test_a_session_has_a_length(text: str) -> None:
    with pytest.raises(UsageError, match="--session"):
        options("digits", "--on", "local", f"--session={text}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("where: nowhere\n", messages.says("launch/where-is-expected-one-of-kaggle", name="nowhere")),
        ("session: long\n", messages.says("launch/outlast-launch-yaml-session", name="long")),
        ("accelerator: p100\n", messages.says("launch/outlast-launch-yaml-accelerator", name="p100")),
    ],
)
def test_settings_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "outlast-launch.yaml").write_text(text)
    with messages.raises(ConfigError, words):
        read_settings()


def test_a_record_of_the_time_before_providers_is_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs/old")
    folder.launches.mkdir(parents=True)
    record = {
        "format": 1, "number": 1, "time": "2026-01-01T00:00:00Z", "state": "fetched", "on": "kaggle",
        "slug": "outlast-old-001", "user": "ada", "accelerator": "cpu", "datasets": ["outlast-code-1"],
        "asked": {"source": "digits", "recipe": "digits", "values": {"epochs": 3}},
        "terms": {"seconds": 60.0, "accelerator": "cpu", "internet": False, "secrets": True, "wheels": None,
            "datasets": ["a/b"]},
    }  # fmt: skip
    (folder.launches / "0001.json").write_text(json.dumps(record))
    (found,) = all_launches(folder)
    assert (found.provider, found.name) == ("kaggle", "outlast-old-001")
    assert found.handle == {"slug": "outlast-old-001", "user": "ada", "datasets": ["outlast-code-1"]}
    asked = read("outlast launch", ["old"], {})
    assert asked.on == "kaggle"
    assert asked.options == {
        "accelerator": "cpu",
        "internet": False,
        "secrets": True,
        "dataset": ["a/b"],
        "wheels": None,
    }
    assert asked.request.flags["epochs"] == "3"
    assert asked.request.flags["budget"] == "60s"
    found.learn(step=3)
    assert all_launches(folder)[0].handle == found.handle


def test_values_of_a_record_are_typed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs/odd")
    asked = {"source": "digits", "recipe": "digits", "values": {}}
    LaunchRecord.begin(
        folder, 1, provider="local", name="outlast-odd-001", handle={"session": "outlast-odd-001"},
        accelerator="this machine", asked=asked, terms={"seconds": None, "session": {"a": 1}},
    )  # fmt: skip
    with messages.raises(UsageError, "launch/terms-session-is-expected-duration", file="0001.json"):
        read("outlast relay", ["odd"], {})


def test_a_record_of_an_unknown_provider(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs/odd")
    record = LaunchRecord.begin(folder, 1, provider="nowhere", name="outlast-odd-001", handle={}, accelerator="cpu")
    with messages.raises(UnknownName, "launch/there-is-no-provider-expected-one", provider="nowhere"):
        providers.of(record)


def test_no_two_providers_give_one_flag_two_meanings() -> None:
    every = [option for name in providers.NAMES for option in providers.module(name).OPTIONS]
    assert len({option.name for option in every}) == len(every)
    assert {option.name for option in OPTIONS} == {"accelerator", "internet", "secrets", "dataset", "wheels"}


def test_a_provider_without_hours_has_no_quota(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quota", "--on", "local"]) == 2
    messages.said(capsys.readouterr().err, "launch/local-counts-no-hours")


def test_a_dry_run_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "digits", "--on", "local", "--session", "20s", "--dry-run"]) == 0
    messages.said(capsys.readouterr().out, "launch/would-train-digits")
    assert not (tmp_path / "runs").exists()


def test_a_number_of_nodes(tmp_path: Path) -> None:
    assert options("digits", "--on", "slurm", "--nodes", "2")["nodes"] == 2
    assert options("digits", "--on", "slurm")["nodes"] is None
    write_settings(Settings("slurm", None, "digits", {"nodes": 3}))
    assert options()["nodes"] == 3
    for text in ("0", "-1", "1.5", "two", "10000", "", "²", "1_0"):
        with pytest.raises(UsageError, match="--nodes"):
            options("digits", "--on", "slurm", f"--nodes={text}")
    (tmp_path / "outlast-launch.yaml").write_text("where: slurm\nnodes: many\n")
    with messages.raises(ConfigError, "launch/nodes-many"):
        read_settings()
