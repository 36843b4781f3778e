"""Keras: identical to its twin with the callback, not without it; with each backend in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import messages
from tests.conftest import REPOSITORY
from tests.integrations import twins

twins.need("keras", "h5py")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_identical_with_it_after_every_step_and_not_without_it(backend: str, tmp_path: Path) -> None:
    twins.need(backend)
    done = subprocess.run(
        [sys.executable, "-m", "tests.integrations.with_keras", backend, str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("refused ")]
    messages.said(said, "integrations/keras-steps")
    messages.said(said, "integrations/keras-array")
    messages.said(said, "integrations/keras-samples")
    messages.said(said, "integrations/keras-other-data")
    messages.said(said, "integrations/keras-again")
    messages.said(said, "integrations/keras-last")
    assert float(done.stdout.rpartition("without: ")[2]) > 1e-3  # other dropout masks, another order
