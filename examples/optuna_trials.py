"""Optuna chooses the values, outlast trains each trial in sessions: kill it at any time and start it again.

    pip install optuna
    python examples/optuna_trials.py                        # OUTLAST_BUDGET=30s: stops in time, with exit code 75

The study is in Optuna's own storage, and each trial is a run of outlast with the number of the trial in its name. A
session that ends leaves a trial in the state RUNNING. The next one begins with it: it has the values that Optuna chose,
and its run continues at its last checkpoint. Several processes may share a study only if each has trials of its own.
"""

import os

import optuna
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

import outlast

TRIALS = int(os.environ.get("TRIALS", "8"))
SPACE = {"lr": FloatDistribution(1e-3, 1.0, log=True), "hidden": CategoricalDistribution([4, 16])}


def train(number, lr, hidden):
    """Train one trial to its end; returns its loss. Ends this process with exit code 75 when the session does."""
    outlast.seed_everything(number)
    x = torch.linspace(-2, 2, 64).unsqueeze(1)
    model = torch.nn.Sequential(torch.nn.Linear(1, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with outlast.open_run(f"optuna-{number:03d}", total_steps=200) as run:
        run.track(model=model, optimizer=optimizer)
        for _ in run.steps():
            loss = torch.nn.functional.mse_loss(model(x), x.sin())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(loss=loss)
    with torch.no_grad():
        return torch.nn.functional.mse_loss(model(x), x.sin()).item()


def trials(study):
    """The trials to train: those that a session has left, then new ones."""
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        if trial.params:
            yield trial
        else:  # killed before its values were chosen
            study.tell(trial.number, state=TrialState.FAIL)
    while len(study.get_trials(states=[TrialState.COMPLETE])) < TRIALS:
        yield study.ask(SPACE)


study = optuna.create_study(
    storage="sqlite:///optuna.db",
    study_name="sine",
    sampler=optuna.samplers.TPESampler(seed=0),
    load_if_exists=True,
)
for trial in trials(study):
    study.tell(trial.number, train(trial.number, **trial.params))
print("best:", study.best_trial.number, study.best_params, f"loss {study.best_value:.4f}")
