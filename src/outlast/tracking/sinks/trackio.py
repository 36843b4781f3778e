"""trackio: one trackio run for a run, in all its sessions, in trackio's local database.

A second run of one name would be told apart by an id only, so the name ends with the beginning of the run's uid. Rows
cannot be taken back, and rows of a killed process may be missing: the database is asked what it has.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.terminal import command
from outlast.tracking.sinks.client import Mirrored, Picture, Sent


def open_client(project: str | None = None) -> Trackio:
    """The client; arguments as of `outlast.sinks.Trackio`."""
    return Trackio(project)


class Trackio:
    """Sends one run.

    Args:
        project: name of the project; default: TRACKIO_PROJECT, else "outlast".
    """

    final = True

    def __init__(self, project: str | None) -> None:
        import trackio

        self._trackio = trackio
        self._project = project or os.environ.get("TRACKIO_PROJECT") or "outlast"
        self._name, self._config = "", dict[str, Any]()
        self._shown: Any = None
        self.notes: list[str] = []

    def begin(self, run: Mirrored, state: Mapping[str, Any], known: Sent, last: Sent) -> Sent:  # noqa: ARG002
        """See `Client.begin`."""
        self.close()
        self._name, self._config = f"{run.id}-{run.uid[:8]}", dict(run.config)
        self.notes = [f"look at the run with: {command('trackio', 'show', '--project', self._project)}"]
        rows: dict[int, int] = {}
        for row in self._trackio.SQLiteStorage.get_logs(self._project, self._name):
            values = [value for name, value in row.items() if name not in ("step", "timestamp")]
            if not any(isinstance(value, dict) for value in values):  # a picture
                rows[row["step"]] = rows.get(row["step"], 0) + 1
        newest = max(rows, default=-1)
        return Sent(newest, rows.get(newest, 0))

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        """See `Client.send`."""
        for record in records:
            self._opened().log({name: value for name, value in record.items() if name != "step"}, step=record["step"])

    def picture(self, picture: Picture) -> None:
        """See `Client.picture`."""
        self._opened().log({picture.name: self._trackio.Image(str(picture.path))}, step=picture.step)

    def flush(self) -> Mapping[str, Any]:
        """See `Client.flush`. trackio writes twice a second, and `begin` asks what was written."""
        return {}

    def ended(self, reason: str, step: int) -> None:
        """See `Client.ended`. trackio has no place for it."""

    def close(self) -> None:
        """See `Client.close`."""
        shown, self._shown = self._shown, None
        if shown is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                shown.finish()

    def _opened(self) -> Any:
        if self._shown is None:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints how to look at the run
                self._shown = self._trackio.init(
                    project=self._project,
                    name=self._name,
                    config=self._config,
                    resume="allow",
                    embed=False,
                )
        return self._shown
