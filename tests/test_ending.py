"""The ways in which an attempt ends: signals, errors in every place, exits; the lock and the handlers always come back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from outlast.errors import SessionEnded
from tests.test_run import Counter, attempts


def test_a_batch_systems_warning_saves_and_says_its_name(opened, tmp_path: Path, capfd) -> None:
    with pytest.raises(SessionEnded) as caught, opened(total_steps=9, progress="plain") as run:
        run.track(counter=Counter())
        for step in run.steps():
            if step == 4:
                os.kill(os.getpid(), signal.SIGUSR1)
    assert caught.value.code == 75
    assert [c.step for c in run._store.committed()] == [4]
    end = attempts(tmp_path)[0]["end"]
    assert (end["reason"], end["signal"], end["step"]) == ("preempted", "SIGUSR1", 4)
    shown = capfd.readouterr().err
    assert "outlast: SIGUSR1 received; saving at the end of this step\n" in shown
    assert "outlast: step 4 of 9: stopped (SIGUSR1 received); start it again to go on\n" in shown
    assert "taken back" not in shown
