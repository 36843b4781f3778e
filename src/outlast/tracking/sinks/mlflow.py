"""MLflow: one MLflow run for a run, in all its sessions, found by a tag with the run's uid.

MLflow shows the value at the highest step as the latest one, and takes nothing back, so only final lines are sent. What
it has is asked at the beginning. MLflow takes a run for finished in ways of its own; its status is set from the end
reason of the attempt here.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.terminal import command
from outlast.tracking import reading
from outlast.tracking.sinks.client import Mirrored, Picture, Sent

_TAG = "outlast.uid"
_MOST = 1000  # metrics of one call
_LONGEST = 500  # characters of a parameter
_STATUS = {"finished": "FINISHED", "failed": "FAILED"}
_NAME = re.compile(r"[^A-Za-z0-9_\-. :/]")


def open_client(uri: str | None = None, experiment: str | None = None) -> MLflow:
    """The client; arguments as of `outlast.sinks.MLflow`."""
    return MLflow(uri, experiment)


class MLflow:
    """Sends one run.

    Args:
        uri: of the tracking server or database; default: MLFLOW_TRACKING_URI, else mlflow.db beside the run folder.
        experiment: name; default: MLFLOW_EXPERIMENT_NAME, else "outlast".
    """

    final = True

    def __init__(self, uri: str | None, experiment: str | None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient, entities

        self._client_class, self._entities = MlflowClient, entities
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "outlast"
        self._client: Any = None
        self._id = ""
        self.notes: list[str] = []

    def begin(self, run: Mirrored, state: Mapping[str, Any], known: Sent, last: Sent) -> Sent:  # noqa: ARG002
        """See `Client.begin`."""
        own = f"sqlite:///{run.folder.parent / 'mlflow.db'}"
        uri = self._uri or own
        self._client = client = self._client_class(uri)
        look = f"; look at it with: {command('mlflow', 'ui', '--backend-store-uri', uri)}" if uri == own else ""
        self.notes = [f"the run {run.id} is in the experiment {self._experiment}{look}"]  # a given uri may have a login
        found = client.get_experiment_by_name(self._experiment)
        place = (run.folder.parent / "mlflow-artifacts").as_uri() if uri == own else None
        number = found.experiment_id if found else client.create_experiment(self._experiment, place)
        runs = client.search_runs([number], f"tags.`{_TAG}` = '{run.uid}'", max_results=1)
        made = runs[0] if runs else client.create_run(number, tags={_TAG: run.uid}, run_name=run.id)
        self._id = made.info.run_id
        new = {name: value for name, value in run.config.items() if _clean(name) not in made.data.params}
        param = self._entities.Param
        for group in _groups([param(_clean(name), str(value)[:_LONGEST]) for name, value in new.items()], 100):
            client.log_batch(self._id, params=group)
        return self._sent(made.data.metrics, run.journal)

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        """See `Client.send`."""
        now, metric = int(time.time() * 1000), self._entities.Metric
        metrics = [
            metric(_clean(name), float(value), now, record["step"])
            for record in records
            for name, value in record.items()
            if name not in reading.PLACE and not isinstance(value, str)
        ]
        for group in _groups(metrics, _MOST):
            self._client.log_batch(self._id, metrics=group)

    def picture(self, picture: Picture) -> None:
        """See `Client.picture`."""
        folder = str(Path(picture.name).parent)
        self._client.log_artifact(self._id, str(picture.path), None if folder == "." else folder)

    def flush(self) -> Mapping[str, Any]:
        """See `Client.flush`: each call is durable."""
        return {}

    def ended(self, reason: str, step: int) -> None:
        """See `Client.ended`."""
        self._client.set_tag(self._id, "outlast.end", f"{reason} at step {step}")
        self._client.set_terminated(self._id, _STATUS.get(reason, "KILLED"))

    def close(self) -> None:
        """See `Client.close`."""
        self._client = None

    def _sent(self, names: Mapping[str, Any], journal: Path) -> Sent:
        """The last step that MLflow has, and how many of its lines: those whose metrics are all there."""
        last: dict[str, int] = {}
        for name in names:
            last[name] = max(each.step for each in self._client.get_metric_history(self._id, name))
        newest = max(last.values(), default=-1)
        there, lines = {name for name, step in last.items() if step == newest}, 0
        for record in reading.records(journal) if there else ():
            if record["step"] > newest:
                break
            numbers = {
                _clean(name)
                for name, value in record.items()
                if name not in reading.PLACE and not isinstance(value, str)
            }
            lines += record["step"] == newest and numbers <= there
        return Sent(newest, lines)


def _clean(name: str) -> str:
    """A name that MLflow takes."""
    return _NAME.sub("_", name)[:250] or "_"


def _groups(each: list[Any], most: int) -> list[list[Any]]:
    return [each[at : at + most] for at in range(0, len(each), most)]
