"""A finished run that is started again elsewhere is the same publication, byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from outlast.config import leaves
from outlast.config.layers import fingerprint
from outlast.publish.contents import plan_of
from outlast.publish.plan import Plan
from outlast.recipe.registry import find
from tests.durability.digits import SMALL, train


def planned(folder: Path, scratch: Path) -> Plan:
    scratch.mkdir()
    return plan_of(folder, scratch, part="model", best=None)[0]


def test_another_folder_and_another_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {**SMALL, "epochs": "1", "experiment_name": "again"}
    assert train(tmp_path / "here", small=small, device="cpu") == "finished"
    shutil.copytree(tmp_path / "here/again", tmp_path / "elsewhere/again")
    monkeypatch.chdir(tmp_path)
    again = {"checkpoint_dir": "elsewhere", "log_csv": "own.csv", "budget": "1h", "num_workers": "1"}
    assert train(Path("elsewhere"), small={**small, **again}) == "finished"
    records = [json.loads((tmp_path / where / "again/config.json").read_text()) for where in ("here", "elsewhere")]
    assert records[0]["values"]["budget"] is None
    assert (records[1]["values"]["budget"], records[1]["origins"]["budget"]) == (3600, "flag --budget")

    plans = [planned(tmp_path / where / "again", tmp_path / f"of-{where}") for where in ("here", "elsewhere")]
    first, second = ([(file.path, file.sha256) for file in plan.files] for plan in plans)
    assert first == second
    assert plans[0].about == plans[1].about

    rules = {leaf.key: leaf.on_resume for leaf in leaves(find("digits").Config)}
    files = {file.path: file.source for file in plans[1].files}
    values = yaml.safe_load(files["train/args.yaml"].read_text())
    assert set(values) == {key for key, rule in rules.items() if rule != "session"}
    config = json.loads(files["train/config.json"].read_text())
    assert (config["values"], config["fingerprint"]) == (values, fingerprint(values))
    assert set(config["origins"]) == {key for key, rule in rules.items() if rule not in ("session", "place")}
    assert plans[1].about["config"] == config["fingerprint"]


def test_the_place_of_the_data_is_given_once(tmp_path: Path) -> None:
    """The second time nothing names the data: they are where they were before."""
    (tmp_path / "data").mkdir()
    small = {**SMALL, "epochs": "1"}
    assert train(tmp_path / "runs", small={**small, "data_root": str(tmp_path / "data")}) == "finished"
    first = planned(tmp_path / "runs/digits", tmp_path / "first")
    assert train(tmp_path / "runs", small=small) == "finished"
    record = json.loads((tmp_path / "runs/digits/config.json").read_text())
    assert record["origins"]["data_root"] == "run (was there before)"
    second = planned(tmp_path / "runs/digits", tmp_path / "second")
    assert [(file.path, file.sha256) for file in first.files] == [(file.path, file.sha256) for file in second.files]
    assert "data_root: data\n" in {file.path: file.source for file in second.files}["train/args.yaml"].read_text()
