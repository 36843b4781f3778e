"""Sinks that show a run in a tracker: `open_run(..., sinks=[outlast.sinks.TensorBoard()])`.

Each needs its tracker's library, for example `pip install 'outlast[tensorboard]'`, and imports it in a process of its
own. docs/how-to/trackers.md says what arrives where.
"""

from __future__ import annotations

from outlast.tracking.sinks.tracker import MLflow, TensorBoard, Trackio, WandB

__all__ = ["MLflow", "TensorBoard", "Trackio", "WandB"]
