#!/usr/bin/env bash
# d3rlpy 2.8.1: a loaded algorithm begins at gradient step 0, so that PLAS and BEAR warm up again after
# each resume, and in short sessions never leave the warm-up.
#
# Guess:    algo.save() and load_learnable() keep an algorithm with its optimizers, as the
#           documentation says; with the random generators restored, the updates go on.
# Happens:  the number of updates is not in the file, and three kinds of things depend on it. PLAS
#           trains its imitator alone for warmup_steps updates (500,000 by default), and then its
#           policy and value functions alone. In four sessions that are shorter than that these two
#           never change; and a session that resumes after the warm-up trains the imitator again,
#           under a policy that stands still. BEAR's warm-up (40,000) and BCQ's rl_start_step begin
#           anew, too. TD3 and DQN update policy and target networks at other steps than the twin. The
#           losses are logged as ever. Without such a count (SAC, CQL, IQL, ...) the resume is exact.
# Version:  d3rlpy 2.8.1, torch 2.13.0 (CPU), gymnasium 1.0.0, numpy 2.1.3, Python 3.11.
# Known:    set_grad_step() exists for a restart, "which has effects on periodic functions". That save()
#           leaves the number out, and that a warm-up depends on it, is in no document that was
#           found. d3rlpy issue 396 (2024) asks how to resume, and is told to load the model.
# Matters:  the warm-ups are as long as a session of a notebook. Save algo.grad_step beside the file, and
#           call set_grad_step() after the load.
# outlast:  has no adapter for d3rlpy; offer grad_step with the bytes of save().
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet d3rlpy==2.8.1 torch==2.13.0 gymnasium==1.0.0 numpy==2.1.3
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import random

import d3rlpy
import numpy as np
import torch
from d3rlpy.algos import BCQConfig, BEARConfig, PLASConfig, SACConfig, TD3Config
from d3rlpy.models.encoders import VectorEncoderFactory

draws = np.random.default_rng(0)
SMALL = {name: VectorEncoderFactory(hidden_units=[16]) for name in ("actor_encoder_factory", "critic_encoder_factory")}
DATA = d3rlpy.dataset.MDPDataset(
    draws.normal(size=(400, 3)).astype(np.float32),
    draws.uniform(-1, 1, size=(400, 2)).astype(np.float32),
    draws.normal(size=400).astype(np.float32),
    (np.arange(400) % 20 == 19).astype(np.float32),
)


def weights(algorithm):
    """The weights of each network, by the parts that the algorithm trains."""
    networks = algorithm.impl.modules.get_torch_modules()
    return {name: torch.cat([p.detach().flatten() for p in network.parameters()]) for name, network in networks.items()}


def train(config, lengths, *, keep_count=False):
    """Sessions of these many updates: the weights before and after."""
    d3rlpy.seed(1)
    algorithm = config.create(device=False)
    algorithm.build_with_dataset(DATA)
    before = weights(algorithm)
    for number, length in enumerate(lengths):
        if number:
            states = np.random.get_state(), random.getstate(), torch.get_rng_state()
            algorithm.save("algorithm.d3")
            count = algorithm.grad_step
            algorithm = d3rlpy.load_learnable("algorithm.d3", device=False)
            np.random.set_state(states[0])
            random.setstate(states[1])
            torch.set_rng_state(states[2])
            if keep_count:
                algorithm.set_grad_step(count)
        for _ in range(length):
            algorithm.update(DATA.sample_transition_batch(32))
    return before, weights(algorithm)


CASES = {
    "SAC": SACConfig(batch_size=32, **SMALL),
    "TD3": TD3Config(batch_size=32, **SMALL),
    "BCQ, rl_start_step=30": BCQConfig(batch_size=32, rl_start_step=30, **SMALL),
    "BEAR, warmup_steps=30": BEARConfig(batch_size=32, warmup_steps=30, **SMALL),
    "PLAS, warmup_steps=30": PLASConfig(batch_size=32, warmup_steps=30, **SMALL),
}
for name, config in CASES.items():
    _, whole = train(config, [60])
    for lengths in ([15] * 4, [45, 15]):
        before, stopped = train(config, lengths)
        _, kept = train(config, lengths, keep_count=True)
        equal = all(torch.equal(stopped[part], whole[part]) for part in whole)
        mended = all(torch.equal(kept[part], whole[part]) for part in whole)
        still = [part for part in whole if torch.equal(before[part], stopped[part])]
        print(f"{name}, sessions of {lengths}: as one session {equal}, with set_grad_step {mended}", end="")
        print(f"; {len(still)} of {len(whole)} parts never changed" if still else "")
PY
cat >"$work/known" <<'TXT'
SAC, sessions of [15, 15, 15, 15]: as one session True, with set_grad_step True
SAC, sessions of [45, 15]: as one session True, with set_grad_step True
TD3, sessions of [15, 15, 15, 15]: as one session False, with set_grad_step True
TD3, sessions of [45, 15]: as one session False, with set_grad_step True
BCQ, rl_start_step=30, sessions of [15, 15, 15, 15]: as one session False, with set_grad_step True; 4 of 6 parts never changed
BCQ, rl_start_step=30, sessions of [45, 15]: as one session False, with set_grad_step True
BEAR, warmup_steps=30, sessions of [15, 15, 15, 15]: as one session False, with set_grad_step True; 2 of 7 parts never changed
BEAR, warmup_steps=30, sessions of [45, 15]: as one session False, with set_grad_step True
PLAS, warmup_steps=30, sessions of [15, 15, 15, 15]: as one session False, with set_grad_step True; 4 of 6 parts never changed
PLAS, warmup_steps=30, sessions of [45, 15]: as one session False, with set_grad_step True
TXT
# d3rlpy logs to stdout, in colours.
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/all") || { cat "$work/errors"; exit 2; }
sed '/^.\[2m/d' "$work/all" >"$work/seen"
echo "Expected: as one session True, and nothing that never changed."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
