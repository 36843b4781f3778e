"""A training in sessions, and its twin: what the tests of each framework compare."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.counting import attempts
from tests.folders import committed

import outlast
from outlast.errors import SessionEnded

INSTALL = "is not installed; `make test-frameworks` runs this test"
IN_DEV = "is not installed; `make test` runs this test"


def need(*names: str) -> None:
    """Skip the module where one of these packages is absent; nothing is imported."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} {IN_DEV if 'ultralytics' in names else INSTALL}", allow_module_level=True)


def quietly_import(name: str) -> object:
    """A module of these tests that imports a framework, whose warnings at its import are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if importlib.util.find_spec("torchvision"):
            from outlast_recipes.common import torchvision_operators

            torchvision_operators.provide()
        return importlib.import_module(name)


class Stops:
    """Steps after which a session is asked to end; a framework's callback calls it after each step."""

    def __init__(self, run: outlast.Run, at: int | None) -> None:
        self.run, self.at = run, at

    def __call__(self, step: int) -> None:
        if step == self.at:
            self.run.session.request_stop("preempted", "a test asks")


def train(root: Path, fit: Callable[[outlast.Run, Stops], None], stops: Iterable[int] = ()) -> bytes:
    """Train in sessions that end after these steps; returns the journal and the tensors of the last checkpoint."""
    for stop in [*stops, None]:
        ends = contextlib.nullcontext() if stop is None else pytest.raises(SessionEnded)
        with ends as ended, outlast.open_run("r", root=root, save="never", progress="none") as run:
            fit(run, Stops(run, stop))
        if stop is not None:
            assert (ended.value.code, run.step) == (75, stop)
        assert all("not exact" not in sentence for sentence in attempts(root)[-1]["told"])
    (*_, last) = committed(run.folder)
    tensors = sorted(last.path.glob("*.safetensors"))
    assert tensors
    return b"".join(path.read_bytes() for path in (run.folder / "journal.jsonl", *tensors))
