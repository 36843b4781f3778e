"""Hugging Face's Trainer: identical to its twin with the callback, not without it."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
from tests import messages
from tests.integrations import twins

import outlast
from outlast.errors import UsageError

twins.need("transformers", "accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers deprecates much


@pytest.fixture(scope="module")
def with_huggingface() -> Any:
    module = twins.quietly_import("tests.integrations.with_huggingface")
    for name in ("transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return module


def test_identical_with_it(with_huggingface: Any, tmp_path: Path) -> None:
    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        made = with_huggingface.fit(run, stops, tmp_path / "own")
        if not run.finished:
            return
        version = tuple(map(int, with_huggingface.transformers.__version__.split(".")[:2]))
        counted, evaluated = made.state, 5 if version >= (5, 12) else 4  # 5.0 does not evaluate at the end
        assert (counted.global_step, counted.epoch, len(counted.log_history)) == (18, 3.0, 6 + evaluated + 1)

    twin = twins.train(tmp_path / "twin", fit)
    assert twins.train(tmp_path / "cut", fit, (1, 4, 6, 11)) == twin  # in the middle and at the end of an epoch


def test_not_without_it(with_huggingface: Any, tmp_path: Path) -> None:
    twin = with_huggingface.alone(tmp_path / "twin")
    with_huggingface.alone(tmp_path / "cut", stop=4)
    resumed = with_huggingface.alone(tmp_path / "cut", resume=True)
    assert (twin - resumed).abs().max() > 1e-3  # other masks: the collator's generator starts elsewhere


BEST = {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 4, "save_total_limit": 2}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(BEST, id="best"),
        pytest.param({"logging_steps": 0.2, "eval_steps": 0.3}, id="parts-of-all-steps"),
        pytest.param({"ignore_data_skip": True}, id="no-skip"),
        pytest.param({"scaler": True}, id="scaler"),
    ],
)
def test_identical_with_what_a_trainer_may_be_given(options: Any, with_huggingface: Any, tmp_path: Path) -> None:
    ends = []

    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        made = with_huggingface.fit(run, stops, tmp_path / f"own{stops.at}", **options)
        ends.append((made.state.best_metric, [each.tolist() for each in made.model.parameters()]))
        assert not options.get("scaler") or "scaler" in run._loop.parts.names

    twin = twins.train(tmp_path / "twin", fit)
    assert twins.train(tmp_path / "cut", fit, (3, 9)) == twin
    assert ends[0] == ends[1]  # with the best weights, which are loaded after the last step


def test_not_without_it_when_the_best_is_kept(with_huggingface: Any, tmp_path: Path) -> None:
    twin = with_huggingface.alone(tmp_path / "twin", **BEST)
    with_huggingface.alone(tmp_path / "cut", stop=4, **BEST)
    assert (twin - with_huggingface.alone(tmp_path / "cut", resume=True, **BEST)).abs().max() > 1e-3


def test_early_stopping_counts_on(with_huggingface: Any, tmp_path: Path) -> None:
    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        callback = with_huggingface.OutlastCallback(run)
        strict = with_huggingface.transformers.EarlyStoppingCallback(2, early_stopping_threshold=9.0)
        asking = with_huggingface.Asking(lambda step, _: stops(step))
        made = with_huggingface.trainer(tmp_path / "own", callback, strict, asking, metric_for_best_model="loss")
        callback.train(made)
        assert made.state.global_step == 12  # evaluated after steps 4, 8 and 12, and none was better than the first

    assert twins.train(tmp_path / "cut", fit, (9,)) == twins.train(tmp_path / "twin", fit)


def test_networks_that_other_callbacks_hold_are_state(with_huggingface: Any, tmp_path: Path) -> None:
    torch = with_huggingface.torch

    class Average(with_huggingface.transformers.TrainerCallback):  # as that of trl's reference model
        kept: Any = None

        def on_init_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            self.kept, self.trained = copy.deepcopy(model), model

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            with torch.no_grad():
                for mean, value in zip(self.kept.parameters(), model.parameters(), strict=True):
                    mean.lerp_(value, 0.3)

    ends = []

    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        average = Average()
        callback = with_huggingface.OutlastCallback(run)
        asking = with_huggingface.Asking(lambda step, _: stops(step))
        options = {"metric_for_best_model": "loss", "num_train_epochs": 1}
        callback.train(with_huggingface.trainer(tmp_path / "own", callback, average, Average(), asking, **options))
        assert [name for name in run._loop.parts.names if "." in name] == ["Average.kept", "Average.kept-1"]
        ends.append([each.tolist() for each in average.kept.parameters()])

    assert twins.train(tmp_path / "cut", fit, (4,)) == twins.train(tmp_path / "twin", fit)
    assert ends[0] == ends[1]


def test_a_save_that_a_callback_asks_for_is_one_of_its_step(with_huggingface: Any, tmp_path: Path) -> None:
    class Left(Exception):
        pass

    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        def ask(step: int, _: Any) -> None:
            if leaving and step == 4:
                run.save()  # the Trainer has made the step, and outlast counts it when the next one begins
            if leaving and step == 6:
                raise Left

        callbacks = (with_huggingface.OutlastCallback(run), with_huggingface.Asking(ask))
        options = {"metric_for_best_model": "loss", "num_train_epochs": 2}
        callbacks[0].train(with_huggingface.trainer(tmp_path / "own", *callbacks, **options))

    leaving = True
    with pytest.raises(Left):
        twins.train(tmp_path / "cut", fit)
    leaving = False
    with outlast.open_run("r", root=tmp_path / "cut", save="never", progress="none") as run:
        assert run.step == 4
        fit(run, twins.Stops(run, None))
    (*_, last) = twins.committed(run.folder)
    tensors = b"".join(path.read_bytes() for path in sorted(last.path.glob("*.safetensors")))
    assert twins.train(tmp_path / "twin", fit) == (run.folder / "journal.jsonl").read_bytes() + tensors


def test_a_run_that_stopped_early_stays_finished(with_huggingface: Any, tmp_path: Path) -> None:
    class Patient(with_huggingface.transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= state.global_step == 8

    def with_patience(run: outlast.Run, stops: twins.Stops) -> None:
        callback = with_huggingface.OutlastCallback(run)
        made = with_huggingface.trainer(tmp_path / "own", callback, Patient(), metric_for_best_model="loss")
        callback.train(made)
        assert made.state.global_step == 8
        assert made.accelerator.sync_gradients  # else nothing else in this process steps
        position = callback._loader.source.sampler
        assert (position.epoch, position.batch) == (1, 4)  # 6 steps of two batches an epoch, the last of one

    assert twins.train(tmp_path / "early", with_patience) == twins.train(tmp_path / "early", with_patience)


def test_what_has_no_position_is_refused(with_huggingface: Any, tmp_path: Path) -> None:
    class Stream(with_huggingface.torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            return iter(())

    with outlast.open_run("r", root=tmp_path, progress="none") as run:
        callback = with_huggingface.OutlastCallback(run)
        made = with_huggingface.trainer(tmp_path / "own", callback, metric_for_best_model="loss")
        made.train_dataset = Stream()
        with messages.raises(UsageError, "integrations/huggingface-no-position"):
            callback.train(made)


def test_a_training_that_the_callback_does_not_see_is_refused(with_huggingface: Any, tmp_path: Path) -> None:
    def given(run: outlast.Run, *callbacks: Any) -> Any:
        return with_huggingface.trainer(tmp_path / "own", *callbacks, metric_for_best_model="loss")

    with outlast.open_run("r", root=tmp_path, progress="none") as run:
        callback = with_huggingface.OutlastCallback(run)
        with messages.raises(UsageError, "integrations/huggingface-without-it"):
            callback.train(given(run))
        made = given(run, callback)
        with messages.raises(UsageError, "integrations/huggingface-by-itself"):
            made.train()
        callback.train(given(run, callback))
        with messages.raises(UsageError, "integrations/huggingface-again"):
            callback.train(made)
