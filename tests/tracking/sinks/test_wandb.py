"""What W&B has offline after kills and resumes: each step once, in one W&B run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests import messages
from tests.tracking.sinks.runs import kill, points, send, train

pytest.importorskip("wandb", reason="needs wandb: pip install 'outlast[wandb]'")
from wandb.proto import wandb_internal_pb2

import outlast
from outlast.errors import UsageError
from outlast.tracking.sinks import wandb as client


def records(folder: Path) -> list:
    """The records of all offline files, in W&B's own messages."""
    found = []
    for path in sorted(folder.glob("trackers/wandb/wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name):
        for data in client._records(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.append(record)
    return found


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records(folder):
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for key, value in row.items():
            if key != "step" and not key.startswith("_"):
                found.setdefault(key, []).append((row["step"], value))
    return found


def open_client() -> client.WandB:
    return client.open_client(mode="offline")


def test_each_step_is_there_once_in_one_wandb_run(opened, tmp_path: Path) -> None:
    for number, leave_at in enumerate((8, 14, None)):
        train(opened, 20, leave_at=leave_at, add=number / 4)
        if leave_at == 14:
            kill(tmp_path)
        send(tmp_path, open_client(), "wandb", keep=number != 1)
    found = shown(tmp_path / "r")
    assert found == points(tmp_path)
    assert [step for step, _ in found["value"]] == list(range(1, 21))
    uid = json.loads((tmp_path / "r/run.json").read_text())["uid"]
    assert {record.run.run_id for record in records(tmp_path / "r") if record.WhichOneof("record_type") == "run"} == {
        uid
    }


def test_a_mode_that_there_is_not_is_refused() -> None:
    with messages.raises(UsageError, "tracking/wandb-mode", mode="sometimes"):
        outlast.sinks.WandB(mode="sometimes")


def test_nothing_to_send_opens_nothing(opened, tmp_path: Path) -> None:
    train(opened, 6)
    send(tmp_path, open_client(), "wandb")
    before = sorted((tmp_path / "r/trackers/wandb/wandb").iterdir())
    assert send(tmp_path, open_client(), "wandb").lines == 0
    assert sorted((tmp_path / "r/trackers/wandb/wandb").iterdir()) == before


def test_a_folder_that_was_uploaded_and_deleted_is_not_sent_again(opened, tmp_path: Path) -> None:
    train(opened, 6)
    send(tmp_path, open_client(), "wandb")
    (folder,) = (tmp_path / "r").glob("trackers/wandb/wandb/offline-run-*")
    shutil.rmtree(folder)
    client = open_client()
    assert send(tmp_path, client, "wandb").lines == 0
    (note,) = client.notes
    messages.said(note, "tracking/wandb-uploaded", place=str(tmp_path / "r/trackers/wandb"))
    train(opened, 9)
    send(tmp_path, open_client(), "wandb")
    assert [step for step, _ in shown(tmp_path / "r")["value"]] == [7, 8, 9]


def test_no_key_is_written(opened, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary" * 7)
    train(opened, 6)
    send(tmp_path, open_client(), "wandb")
    files = [path for path in (tmp_path / "r").rglob("*") if path.is_file()]
    assert not [path for path in files if b"canary" in path.read_bytes()]


def test_rows_that_a_killed_process_lost_are_written_again(opened, tmp_path: Path) -> None:
    train(opened, 9)
    send(tmp_path, open_client(), "wandb")
    (path,) = (tmp_path / "r").glob("trackers/wandb/wandb/offline-run-*/*.wandb")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    lost = 9 - len(shown(tmp_path / "r")["value"])
    assert lost > 0
    send(tmp_path, open_client(), "wandb")
    assert shown(tmp_path / "r") == points(tmp_path)
