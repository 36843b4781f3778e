"""Requests to Kaggle and their answers, as plain values."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SHAPES = {"t4x2": "NvidiaTeslaT4", "tpu": "TpuV5E8", "cpu": ""}
"""Names of accelerators -> Kaggle's machine shapes."""


@dataclass(frozen=True)
class Quota:
    """Accelerator time of this week, in seconds: used and in all; and when it is given again (UTC)."""

    gpu_used: float
    gpu_total: float
    tpu_used: float
    tpu_total: float
    refresh: dt.datetime | None

    @property
    def gpu_left(self) -> float:
        """Seconds of GPU sessions left."""
        return max(0.0, self.gpu_total - self.gpu_used)

    def left(self, accelerator: str) -> float:
        """Seconds left for sessions with this accelerator; without end for "cpu"."""
        return {"t4x2": self.gpu_left, "tpu": max(0.0, self.tpu_total - self.tpu_used)}.get(accelerator, math.inf)


@dataclass(frozen=True)
class PushRequest:
    """One kernel to be run.

    Attributes:
        slug: its name; a fresh one for every attempt, at least 5 letters, digits and dashes.
        text: its code.
        accelerator: "t4x2", "tpu" or "cpu".
        internet: whether it may reach the outside.
        seconds: after which Kaggle is to stop it, as a backstop.
        kernels: "owner/slug" whose outputs are mounted.
        datasets: "owner/slug" that are mounted.
    """

    slug: str
    text: str
    accelerator: str = "cpu"
    internet: bool = True
    seconds: int | None = None
    kernels: Sequence[str] = ()
    datasets: Sequence[str] = ()


@dataclass(frozen=True)
class PushAnswer:
    """A kernel that Kaggle has taken."""

    ref: str
    version: int
    url: str


@dataclass(frozen=True)
class Status:
    """Kaggle's state of a session.

    Attributes:
        state: "queued", "running", "saving" (after a cancel), "complete", "error" or "stopped".
        message: Kaggle's sentence on a failure.
    """

    state: str
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether the session has ended and its files, if any, are there."""
        return self.state in ("complete", "error", "stopped")


@dataclass(frozen=True)
class Output:
    """A file that a session left; its address lives for a short time."""

    name: str
    url: str = field(repr=False)
