"""examples/optuna_trials.py: a session ends in the middle of a trial, and the next one continues it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY

from outlast.folder.layout import RunFolder

CUT = """
import os, runpy, signal, sys, torch
loss, calls = torch.nn.functional.mse_loss, []

def cut(*given):
    calls.append(1)
    if len(calls) == 100:
        os.kill(os.getpid(), signal.SIGTERM)
    return loss(*given)

torch.nn.functional.mse_loss = cut
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_optuna_goes_on_with_the_trial_that_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed (make test-frameworks)")
    monkeypatch.setenv("TRIALS", "2")
    found = {}
    for place, first in (("cut", ["-c", CUT]), ("twin", [])):
        folder = tmp_path / place
        folder.mkdir()
        script = str(REPOSITORY / "examples/optuna_trials.py")
        done = subprocess.run([sys.executable, *first, script], cwd=folder, check=False)
        assert done.returncode == (75 if first else 0)
        subprocess.run([sys.executable, script], cwd=folder, check=True)
        study = optuna.load_study(study_name="sine", storage=f"sqlite:///{folder}/optuna.db")
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
        found[place] = study.trials[0]
    assert RunFolder(tmp_path / "cut/runs/optuna-000").attempt_numbers() == [1, 2]
    assert found["cut"].params == found["twin"].params
    assert found["cut"].value == found["twin"].value
