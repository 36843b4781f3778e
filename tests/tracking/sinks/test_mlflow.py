"""What MLflow has after kills and resumes, read back with its own client: each step once, in one MLflow run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.counting import Counter
from tests.tracking.sinks.runs import kill, points, send, train

pytest.importorskip("mlflow", reason="needs mlflow: pip install 'outlast[mlflow]'")
from mlflow import MlflowClient

from outlast.tracking.sinks.mlflow import open_client

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run_of(root: Path):
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("outlast").experiment_id])
    return client, run


def shown(root: Path) -> dict[str, list[tuple[int, float]]]:
    client, run = run_of(root)
    return {
        name: sorted((each.step, each.value) for each in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }


@pytest.mark.long
def test_each_step_is_there_once_in_one_mlflow_run(opened, tmp_path: Path) -> None:
    for number, leave_at in enumerate((8, 14, None)):
        train(opened, 20, leave_at=leave_at, add=number / 4)
        if leave_at == 14:
            kill(tmp_path)
        send(tmp_path, open_client(), "mlflow", keep=number != 1)
        send(tmp_path, open_client(), "mlflow")
    assert shown(tmp_path) == points(tmp_path)
    _, run = run_of(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "r"
    assert run.data.tags["outlast.end"] == "finished at step 20"
    assert run.data.tags["outlast.uid"] == json.loads((tmp_path / "r/run.json").read_text())["uid"]
    assert run.data.metrics == {"value": points(tmp_path)["value"][-1][1], "seldom": points(tmp_path)["seldom"][-1][1]}


def test_config_pictures_and_a_failure_arrive(opened, tmp_path: Path) -> None:
    from outlast.config import Config, resolve, setting

    class Values(Config):
        rate: float = setting(0.5, "a rate")
        wandb_api_key: str | None = setting("canary-key", "a key")

    with pytest.raises(RuntimeError), opened(total_steps=9, save="3 steps", config=resolve(Values)) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(**{"a metric, oddly=named": step, "text": "no number"})
            if step == 3:
                with run.artifact("plots/a.png") as path:
                    path.write_bytes(b"\x89PNG")
            if step == 5:
                raise RuntimeError("the script's own")
    send(tmp_path, open_client(), "mlflow")
    client, found = run_of(tmp_path)
    assert found.info.status == "FAILED"
    assert found.data.params["rate"] == "0.5"
    assert "canary-key" not in str(found.data)
    history = client.get_metric_history(found.info.run_id, "a metric_ oddly_named")
    assert [each.step for each in history] == [1, 2, 3], "4 and 5 are repeated by the next attempt"
    assert [each.path for each in client.list_artifacts(found.info.run_id, "plots")] == ["plots/a.png"]
    with opened(total_steps=9, config=resolve(Values, flags={"rate": "0.25"})) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(**{"a metric, oddly=named": step})
    send(tmp_path, open_client(), "mlflow")
    client, found = run_of(tmp_path)
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "a metric_ oddly_named")
    assert sorted(each.step for each in history) == list(range(1, 10))
