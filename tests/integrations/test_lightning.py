"""Lightning's Trainer: identical to its twin with the callback, not without it."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest
from tests import messages
from tests.integrations import twins

import outlast
from outlast.errors import UsageError

LIGHTNING = "lightning" if importlib.util.find_spec("lightning") else "pytorch_lightning"
twins.need(LIGHTNING)
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises much


@pytest.fixture(scope="module")
def with_lightning() -> Any:
    module = twins.quietly_import("tests.integrations.with_lightning")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return module


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 1, "max_epochs": 2}, {"max_steps": 15}])
def test_identical_with_it_after_every_step(options: dict[str, Any], with_lightning: Any, tmp_path: Path) -> None:
    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        made = with_lightning.fit(run, stops, tmp_path, **options)
        assert made.global_step == run.total_steps
        assert run.total_steps == options.get("max_steps", 22 if "max_epochs" in options else 18)

    twin = twins.train(tmp_path / "twin", fit)
    assert twins.train(tmp_path / "cut", fit, range(1, 15)) == twin


def test_not_without_it(with_lightning: Any, tmp_path: Path) -> None:
    twin = with_lightning.alone(tmp_path)
    with_lightning.alone(tmp_path, stop=4)
    resumed = with_lightning.alone(tmp_path, resume=True)
    assert (twin - resumed).abs().max() > 1e-3  # other batches, other noise


def test_a_finished_run_is_not_trained_again(with_lightning: Any, tmp_path: Path) -> None:
    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        with_lightning.fit(run, stops, tmp_path, max_epochs=1)

    assert twins.train(tmp_path / "runs", fit) == twins.train(tmp_path / "runs", fit)


def test_a_run_that_stopped_early_stays_finished(with_lightning: Any, tmp_path: Path) -> None:
    def stop(step: int, trainer: Any) -> None:
        trainer.should_stop |= step == 8

    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        callbacks = with_lightning.OutlastCallback(run), with_lightning.Asking(stop)
        made = with_lightning.trainer(tmp_path, *callbacks)
        made.fit(with_lightning.module(), outlast.DataLoader(with_lightning.Noisy(), 4), with_lightning.VALIDATION)
        assert made.global_step == 8

    assert twins.train(tmp_path / "runs", fit) == twins.train(tmp_path / "runs", fit)


def test_a_loader_without_a_position_is_refused(with_lightning: Any, tmp_path: Path) -> None:
    with outlast.open_run("r", root=tmp_path, progress="none") as run:
        plain = with_lightning.torch.utils.data.DataLoader(with_lightning.Noisy(), 4, shuffle=True)
        made = with_lightning.trainer(tmp_path, with_lightning.OutlastCallback(run))
        with messages.raises(UsageError, "integrations/lightning-loader"):
            made.fit(with_lightning.module(), plain, with_lightning.VALIDATION)
