"""Requests to Kaggle and their answers, as plain values."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SHAPES = {"t4x2": "NvidiaTeslaT4", "tpu": "TpuV5E8", "cpu": ""}
"""Name of an accelerator -> Kaggle's machine shape."""


@dataclass(frozen=True)
class Quota:
    """Accelerator time of this week in seconds, used and in total, and the time of its renewal (UTC)."""

    gpu_used: float
    gpu_total: float
    tpu_used: float
    tpu_total: float
    refresh: dt.datetime | None

    @property
    def gpu_left(self) -> float:
        """Remaining seconds of GPU sessions."""
        return max(0.0, self.gpu_total - self.gpu_used)

    def left(self, accelerator: str) -> float:
        """Remaining seconds of sessions with this accelerator; infinite for "cpu"."""
        return {"t4x2": self.gpu_left, "tpu": max(0.0, self.tpu_total - self.tpu_used)}.get(accelerator, math.inf)


@dataclass(frozen=True)
class PushRequest:
    """A request to run one kernel.

    Attributes:
        slug: its name, unique for every attempt; at least 5 letters, digits and dashes.
        text: its code.
        accelerator: "t4x2", "tpu" or "cpu".
        internet: whether it has internet access.
        seconds: seconds after which Kaggle should stop it, if it does not stop by itself.
        kernels: "owner/slug" of the kernels whose outputs are mounted.
        datasets: "owner/slug" of the datasets to mount.
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
    """A kernel that Kaggle accepted."""

    ref: str
    version: int
    url: str


@dataclass(frozen=True)
class Status:
    """Kaggle's state of a session.

    Attributes:
        state: "queued", "running", "saving" (after a cancel), "complete", "error" or "stopped".
        message: Kaggle's message about a failure.
    """

    state: str
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether the session has ended and its files, if any, are available."""
        return self.state in ("complete", "error", "stopped")


@dataclass(frozen=True)
class Output:
    """A file that a session left. Its address expires soon."""

    name: str
    url: str = field(repr=False)
