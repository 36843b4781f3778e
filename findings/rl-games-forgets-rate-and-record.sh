#!/usr/bin/env bash
# rl_games 1.6.5: after a restore the adaptive learning rate begins at the configured one, and the best
# checkpoint is replaced by the first model of the session, however bad it is.
#
# Guess:    a checkpoint has the optimizer with its rate, and the best reward so far, which a comment in the
#           source explains by the restart of an experiment. A restored training goes on with both.
# Happens:  lr_schedule "adaptive" keeps its rate in agent.last_lr, which is in no checkpoint. restore()
#           brings the optimizer's rate back, and the first update overwrites it with one that is made of
#           the configured rate: 0.01 becomes 0.00225. The best reward is restored as well, and train()
#           sets it to -1000000000 when it begins. So the first epoch of a session is the best one, and is
#           written over the best file, whose reward falls from -3.58 to -4.92 here, in a session with
#           harder tasks.
# Version:  rl_games 1.6.5, torch 2.13.0 (CPU), gymnasium 1.4.0, numpy 2.4.6, Python 3.11.
# Known:    the same rate was mended in rsl_rl (leggedrobotics/rsl_rl issue 221, 2026; 5.5.1 is right). No
#           issue of rl_games was found on either.
# Matters:  long trainings (robots, mostly) are resumed with a checkpoint, under the name of the first run.
#           Set agent.last_lr from the optimizer after restore(), and copy the best file away before each
#           session.
# outlast:  has no adapter for rl_games.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet rl-games==1.6.5 torch==2.13.0 gymnasium==1.4.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import contextlib
import glob
import io

import gymnasium
import numpy as np
import torch
from rl_games.common import env_configurations, vecenv
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner

ACTORS = 16


class Near(IVecEnv):
    """Episodes of 8 steps. An action should be the first of the two numbers that are seen."""

    def __init__(self, harder=0.0):
        self.draws, self.steps, self.harder = np.random.default_rng(0), 0, harder

    def reset(self):
        self.seen = self.draws.uniform(-1, 1, (ACTORS, 2)).astype(np.float32)
        return self.seen

    def step(self, actions):
        self.steps += 1
        reward = -np.abs(actions - self.seen[:, :1]).sum(1) - self.harder
        return self.reset(), reward.astype(np.float32), np.full(ACTORS, self.steps % 8 == 0), {}

    def get_env_info(self):
        low = np.float32(-1)
        return {
            "observation_space": gymnasium.spaces.Box(low, -low, (2,)),
            "action_space": gymnasium.spaces.Box(low, -low, (1,)),
        }


vecenv.register("NEAR", lambda name, actors, harder=0.0: Near(harder))
env_configurations.register("near", {"vecenv_type": "NEAR", "env_creator": None})


def settings(epochs, harder):
    sigma = {"name": "const_initializer", "val": 0}
    space = {
        "mu_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_activation": "None",
        "sigma_init": sigma,
        "fixed_sigma": True,
    }
    layers = {"units": [16], "activation": "elu", "initializer": {"name": "default"}}
    config = {
        "name": "near",
        "full_experiment_name": "run",
        "env_name": "near",
        "env_config": {"harder": harder},
        "device": "cpu",
        "num_actors": ACTORS,
        "max_epochs": epochs,
        "learning_rate": 1e-3,
        "lr_schedule": "adaptive",
        "kl_threshold": 0.008,
        "horizon_length": 8,
        "minibatch_size": 128,
        "mini_epochs": 2,
        "ppo": True,
        "gamma": 0.9,
        "tau": 0.9,
        "e_clip": 0.2,
        "entropy_coef": 0.0,
        "critic_coef": 1,
        "clip_value": True,
        "bounds_loss_coef": 0.0,
        "grad_norm": 1.0,
        "truncate_grads": True,
        "normalize_advantage": True,
        "normalize_input": False,
        "normalize_value": False,
        "reward_shaper": {"scale_value": 1.0},
        "save_best_after": 0,
        "save_frequency": 0,
        "print_stats": False,
        "use_smooth_clamp": False,
    }
    network = {"name": "actor_critic", "separate": False, "space": {"continuous": space}, "mlp": layers}
    names = {"algo": {"name": "a2c_continuous"}, "model": {"name": "continuous_a2c_logstd"}}
    return {"params": {"seed": 1, **names, "network": network, "config": config}}


def train(epochs, *, harder=0.0, checkpoint=None, keep_rate=False):
    """The rates: restored, and after each epoch; and what was restored as the best reward."""
    runner = Runner()
    runner.load(settings(epochs, harder))
    runner.params["config"]["env_config"].pop("seed")
    agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
    if checkpoint:
        agent.restore(checkpoint)
    rates, record = [agent.optimizer.param_groups[0]["lr"]], float(agent.last_mean_rewards)
    if keep_rate:
        agent.last_lr = rates[0]
    one_epoch = agent.train_epoch

    def watched():
        seen = one_epoch()
        rates.append(agent.optimizer.param_groups[0]["lr"])
        return seen

    agent.train_epoch = watched
    agent.train()
    return [f"{rate:.3g}" for rate in rates], record


def best():
    stored = torch.load("runs/run/nn/near.pth", weights_only=False)
    return f"{stored['last_mean_rewards']:.2f} of epoch {stored['epoch']}"


with contextlib.redirect_stdout(io.StringIO()):
    rates, _ = train(20)
last, before = glob.glob("runs/run/nn/last_near_ep_20_*.pth")[0], best()
print("first session: rate", *rates[:3], "...", rates[-1], "- best reward", before)
with contextlib.redirect_stdout(io.StringIO()):
    rates, record = train(22, harder=0.25, checkpoint=last)
print(f"second session: rate restored {rates[0]}, then", *rates[1:], f"- best reward restored {record:.2f}")
print("the best file after it:", best())
with contextlib.redirect_stdout(io.StringIO()):
    rates, _ = train(22, harder=0.25, checkpoint=last, keep_rate=True)
print("with last_lr set from the optimizer: rate", *rates)
PY
cat >"$work/known" <<'TXT'
first session: rate 0.001 0.00225 0.00506 ... 0.01 - best reward -3.58 of epoch 20
second session: rate restored 0.01, then 0.00225 0.00506 - best reward restored -3.58
the best file after it: -4.92 of epoch 22
with last_lr set from the optimizer: rate 0.01 0.01 0.01
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: the rate goes on from 0.01, and the best file stays the best."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
