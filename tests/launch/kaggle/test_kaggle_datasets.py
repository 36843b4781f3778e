"""What travels as a dataset: code that is too large, and keys. What a session installs, and both of its GPUs."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")

from outlast.errors import LaunchError
from outlast.kaggle import datasets
from outlast.launch.kaggle import Kaggle, find_credential
from tests import messages
from tests.launch.helpers import launch, over
from tests.standins.kaggle import Fault, Standin


@pytest.fixture
def kaggle(standin: Standin) -> Kaggle:
    return Kaggle(find_credential(), patience=20.0, sleep=lambda seconds: __import__("time").sleep(min(seconds, 0.05)))


def held(standin: Standin, slug: str) -> dict[str, bytes]:
    return standin.world.datasets["ada", slug].versions[-1].files


def test_folders_empty_files_and_broken_uploads_arrive(kaggle: Kaggle, standin: Standin, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(random.Random(0).randbytes(3_000_000))
    standin.faults += [
        Fault("upload", "503"),
        Fault("StartBlobUpload", "429", retry_after=0.01),
        Fault("upload", "500", skip=1),
    ]
    contents = {"top.json": b"{}", "a/b/large.bin": large, "a/empty.txt": b""}
    told = []
    datasets.create(kaggle, "outlast-test", contents, progress=lambda *pair: told.append(pair))
    files = held(standin, "outlast-test")
    assert {name: len(data) for name, data in files.items()} == {
        "top.json": 2,
        "a/b/large.bin": 3_000_000,
        "a/empty.txt": 0,
    }
    assert files["a/b/large.bin"] == large.read_bytes()
    assert told[-1] == (3_000_002, 3_000_002)
    assert datasets.state(kaggle, "outlast-test") == "READY"


def test_a_lost_answer_makes_no_second_dataset(kaggle: Kaggle, standin: Standin) -> None:
    standin.faults.append(Fault("CreateDataset", "drop after"))
    datasets.create(kaggle, "outlast-test", {"a.txt": b"a"})
    before = len(standin.requests)
    datasets.create(kaggle, "outlast-test", {"a.txt": b"other"})
    assert held(standin, "outlast-test") == {"a.txt": b"a"}
    assert {method for method, _ in standin.requests[before:]} == {"GetDatasetStatus"}
    assert [method for method, _ in standin.requests].count("CreateDataset") == 2


def test_a_version_waits_until_the_one_before_is_ready(kaggle: Kaggle, standin: Standin) -> None:
    standin.world.knobs.dataset_ready = 0.5
    datasets.replace(kaggle, "outlast-test", {"a.txt": b"1"})
    standin.world.datasets["ada", "outlast-test"].versions[-1].ready_at += 0.5  # being processed again
    datasets.replace(kaggle, "outlast-test", {"a.txt": b"2"})
    assert [version.files for version in standin.world.datasets["ada", "outlast-test"].versions] == [{"a.txt": b"2"}]
    datasets.delete(kaggle, "outlast-test")
    datasets.delete(kaggle, "outlast-test")
    assert standin.world.datasets == {}


def test_a_dataset_that_never_becomes_ready_is_reported(kaggle: Kaggle, standin: Standin, monkeypatch) -> None:
    monkeypatch.setattr(datasets, "READY_WITHIN", 0.2)
    standin.world.knobs.dataset_ready = 1000.0
    with messages.raises(LaunchError, "kaggle/dataset-not-ready", minutes=0):
        datasets.create(kaggle, "outlast-test", {"a.txt": b"a"})


def test_code_that_is_too_large_for_a_push_is_sent_once_as_a_dataset(laptop, standin: Standin) -> None:
    numbers = random.Random(0)
    (laptop.folder / "walk/table.py").write_text("ROWS = " + repr([numbers.random() for _ in range(80_000)]))
    dry = laptop("launch", "walk", "--on", "kaggle", "--dry-run")
    messages.said(dry.stdout, "kaggle/preview-with-dataset")
    standin.world.knobs.layouts = ("old",)
    launch(laptop)
    over(standin, "outlast-walk-001")
    ((_, name),) = standin.world.datasets
    metadata = standin.world.kernels["ada", "outlast-walk-001"].versions[0].metadata
    assert len(metadata["text"]) < 20_000
    assert metadata["datasetDataSources"] == [f"ada/{name}"]
    assert laptop("logs", "walk", "-f").stdout.splitlines()[-1] == "outlast-walk-001: stopped"
    launch(laptop)
    assert len(standin.world.datasets) == 1
    over(standin, "outlast-walk-002")
    dataset = standin.world.datasets["ada", name].versions[-1]
    dataset.files = {file: data[:-1] + b"x" for file, data in dataset.files.items()}
    launch(laptop)
    log = laptop("logs", "walk", "-f").stdout
    messages.said(log, "kaggle/code-missing-or-changed", before=messages.ANY)
    assert log.splitlines()[-1] == "outlast-walk-003: failed(4)"


PLANTED = {"WANDB_API_KEY": "planted-wandb-key", "GDRIVE_USER_CREDENTIALS": {"refresh_token": "planted-refresh"}}
TELL_KEYS = """
import os
import outlast

def train(run, config):
    found = {name: len(os.environ.get(name, "")) for name in ("WANDB_API_KEY", "GITHUB_TOKEN", "GDRIVE_USER_CREDENTIALS")}
    print("lengths", found, flush=True)
    state = run.restore({"x": 0})
    for step in run.steps(2):
        run.offer(state, value=step)

recipe = outlast.Recipe(name="walk", summary="tells lengths of keys", Config=outlast.Config, train=train)
"""  # noqa: E501 - code of a recipe


def test_keys_reach_the_training_and_nothing_else(laptop, standin: Standin) -> None:
    place = laptop.folder.parent / "elsewhere/secrets.json"
    place.parent.mkdir()
    place.write_text(json.dumps(PLANTED | {"AWS_KEY": "planted-other"}))
    refused = laptop("kaggle", "secrets", "push", str(place))
    messages.said(refused.stderr, "kaggle/secrets-unknown-key")
    for _ in range(2):
        place.write_text(json.dumps(PLANTED))
        done = laptop("kaggle", "secrets", "push", str(place))
        messages.said(done.stdout, "kaggle/secrets-pushed")
    assert len(standin.world.datasets["ada", "outlast-secrets"].versions) == 1
    assert standin.world.datasets["ada", "outlast-secrets"].private
    standin.world.secrets["GITHUB_TOKEN"] = "planted-attached"
    (laptop.folder / "walk/recipe.py").write_text(TELL_KEYS)
    launch(laptop, "--secrets")
    log = laptop("logs", "-f").stdout
    messages.said(log, "kaggle/keys-for-the-training")
    assert "lengths {'WANDB_API_KEY': 17, 'GITHUB_TOKEN': 16, 'GDRIVE_USER_CREDENTIALS': 36}" in log
    assert laptop("fetch").returncode == 0
    session = standin.world.kernels["ada", "outlast-walk-001"].versions[0].session
    texts = [json.dumps(session.log).encode(), *(path.read_bytes() for path in session.files.values())]
    texts += [path.read_bytes() for path in laptop.folder.rglob("*") if path.is_file()]
    texts += [kernel.versions[0].metadata["text"].encode() for kernel in standin.world.kernels.values()]
    texts += [command.encode() for command in standin.world.commands]
    assert standin.world.commands, "process argument lists were looked at"
    assert not any(b"planted-" in text or b"key-of-ada" in text for text in texts)
    without = laptop("launch", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "other")
    assert without.returncode == 0
    assert standin.world.kernels["ada", "outlast-other-001"].versions[0].metadata.get("datasetDataSources", []) == []


def test_wheels_and_requirements(laptop, standin: Standin) -> None:
    wheels = laptop.folder / "wheels"
    wheels.mkdir()
    done = laptop("launch", "walk", "--on", "kaggle", "--wheels", "wheels")
    messages.said(done.stderr, "launch/no-wheels")
    with zipfile.ZipFile(wheels / "outlast_test_tiny-1.0-py3-none-any.whl", "w") as wheel:
        about = "outlast_test_tiny-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: outlast-test-tiny\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
        wheel.writestr("outlast_test_tiny.py", "ANSWER = 42\n")
    (laptop.folder / "walk/requirements.txt").write_text("outlast-test-missing\n")
    launch(laptop, "--wheels", "wheels", "--no-internet")
    log = laptop("logs", "-f").stdout
    messages.said(log, "kaggle/packages-cannot-be-installed")
    assert log.splitlines()[-1] == "outlast-walk-001: failed(5)"
    assert standin.world.kernels["ada", "outlast-walk-001"].versions[0].metadata.get("enableInternet", False) is False
    (laptop.folder / "walk/requirements.txt").write_text("outlast-test-tiny\n")
    recipe = laptop.folder / "walk/recipe.py"
    recipe.write_text(
        recipe.read_text().replace(
            "    outlast.seed_everything", "    import outlast_test_tiny\n    outlast.seed_everything"
        )
    )
    launch(laptop, "--wheels", "wheels", "--no-internet")
    assert laptop("logs", "-f").stdout.splitlines()[-1] == "outlast-walk-002: stopped", "installed from the wheel alone"


RANKS = """
import time

import numpy as np
import outlast

def train(run, config):
    import torch

    state = run.restore({"x": np.zeros(4)})
    for step in run.steps(8):
        time.sleep(0.3)
        together = torch.ones(4)
        torch.distributed.all_reduce(together)
        state = {"x": state["x"] + together.numpy()}
        run.offer(state, ranks=float(torch.distributed.get_world_size()), x=state["x"][0])
        if step == 2:
            run.session.request_stop("budget", "the test's session is short")

recipe = outlast.Recipe(name="walk", summary="tells its ranks", Config=outlast.Config, train=train, ranks=True)
"""


@pytest.mark.long
def test_both_gpus_are_used_where_the_recipe_takes_ranks(laptop, standin: Standin) -> None:
    (laptop.folder / "walk/recipe.py").write_text(RANKS)
    for number, end in ((1, "stopped"), (2, "succeeded")):
        done = laptop("launch", "walk", "--on", "kaggle", "--experiment-name", "walk")
        assert done.returncode == 0, done.stderr
        log = laptop("logs", "walk", "-f").stdout
        assert log.splitlines()[-1] == f"outlast-walk-00{number}: {end}", log
    assert laptop("fetch").returncode == 0
    lines = [json.loads(line) for line in (laptop.folder / "runs/walk/journal.jsonl").read_text().splitlines()]
    found = [(line["step"], line["ranks"], line["x"]) for line in lines]
    assert found == [(step, 2.0, 2.0 * step) for step in range(1, 9)]
