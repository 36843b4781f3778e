"""What Lightning's own checkpoint holds besides network, optimizers and schedules."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

_APART = ("optimizer_states", "lr_schedulers", "hparams_name", "hyper_parameters", "datamodule_hyper_parameters")


class Rest:
    """Loops, callbacks, scaler, datamodule, and what they have measured.

    Args:
        trainer: Lightning's.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer, self._connector = trainer, trainer._checkpoint_connector
        self._means: Any = trainer.fit_loop.epoch_loop._results
        self._kept: dict[str, Any] = {}  # of the running epoch, until the module logs them again

    def state_dict(self) -> dict[str, Any]:
        held = self._connector.dump_checkpoint(weights_only=False)
        held["loops"]["fit_loop"]["state_dict"].pop("combined_loader", None)  # tracked as "data"
        own = self._trainer.lightning_module.state_dict()
        if all(name in own and value.data_ptr() == own[name].data_ptr() for name, value in held["state_dict"].items()):
            del held["state_dict"]  # no averaging callback has put other weights there
        means = {name: each.metric_state for name, each in self._means.items() if each.is_tensor and not each.has_reset}
        metrics = {name: value.clone() for name, value in self._trainer.callback_metrics.items()}
        for each in held["callbacks"].values():
            if "time_elapsed" in each:
                each["time_elapsed"] = {"train": each["time_elapsed"]["train"]}  # a Timer continues no other
            if "current_score" in each:
                each["current_score"] = deepcopy(each["current_score"])  # else it may be one of the best scores
        held |= {"metrics": metrics, "means": {**self._kept, **means}, "counters": self._counters()}
        held["saved_at"] = {each.state_key: each._last_global_step_saved for each in self._checkpoints()}
        return {name: value for name, value in held.items() if name not in _APART}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        connector, module = self._connector, self._trainer.lightning_module
        connector._loaded_checkpoint = held = {"state_dict": module.state_dict(), **state}
        module.on_load_checkpoint(held)
        for each in ("datamodule", "callbacks", "precision_plugin_state", "loops"):
            getattr(connector, f"restore_{each}")()
        connector._loaded_checkpoint = {}
        for each in self._checkpoints():
            each.current_score = state["callbacks"].get(each.state_key, {}).get("current_score")
            each._last_global_step_saved = state["saved_at"].get(each.state_key, 0)
        self._continue(state["counters"])
        self._trainer._logger_connector._callback_metrics.update(state["metrics"])
        means, kept, update = self._means, dict(state["means"]), self._means.update_metrics
        self._kept = kept

        def update_metrics(name: str, *facts: Any) -> None:  # the means of the running epoch go on
            for each, value in kept.pop(name, {}).items():
                setattr(means[name], each, value)
            update(name, *facts)

        means.update_metrics = update_metrics

    def _counters(self) -> dict[str, Any]:
        """What torchmetrics of the module have counted in this epoch; they put it into no state."""
        return {
            name: {"states": each.metric_state, "updates": each._update_count}
            for name, each in self._metrics()
            if each._update_count
        }

    def _continue(self, counters: Mapping[str, Any]) -> None:
        for name, each in self._metrics():
            for state, value in counters[name]["states"].items() if name in counters else ():
                setattr(each, state, value)
            each._update_count = counters[name]["updates"] if name in counters else 0

    def _checkpoints(self) -> list[Any]:
        """Callbacks that save files and do not load all of their state: they would save a step twice."""
        return [each for each in self._trainer.checkpoint_callbacks if hasattr(each, "_last_global_step_saved")]

    def _metrics(self) -> list[tuple[str, Any]]:
        kind: Any = importlib.import_module("torchmetrics").Metric  # Lightning needs it
        found = self._trainer.lightning_module.named_modules()
        return [(name, each) for name, each in found if isinstance(each, kind)]
