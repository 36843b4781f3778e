#!/usr/bin/env bash
# pytorch-lightning 2.6.6: resumed within an epoch, GradientAccumulationScheduler accumulates one
# batch and not four, to the end of that epoch.
#
# Guess:    a Trainer that continues a checkpoint of its own makes the updates that are left of the
#           epoch: with 16 batches, four in each update, and a checkpoint after two updates, two.
# Happens:  it makes eight, each of a single batch, without a message; the epoch has ten updates. The
#           callback sets the number when an epoch begins; Lightning does not call this hook in an
#           epoch that it continues, and the number is in no state. With accumulate_grad_batches=4 of
#           the Trainer itself, it makes two.
# Version:  pytorch-lightning 2.6.6, torch 2.13.0 (CPU), Python 3.11.
# Known:    github.com/Lightning-AI/pytorch-lightning/issues/5334 (2021) was about a dict as the
#           Trainer's own argument, which is gone, and was closed. Any callback that prepares an epoch
#           in on_train_epoch_start is concerned.
# Matters:  for the rest of the epoch batches are four times smaller at the same rate, and a schedule
#           by steps runs four times faster.
# outlast:  calls the hook again: tests/integrations/test_lightning_cases.py.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 pytorch-lightning==2.6.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import logging
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        return self.net(batch[0]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SaveAndStop(pl.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        if number == 7:
            trainer.save_checkpoint("half.ckpt")
            trainer.should_stop, trainer.fit_loop.min_epochs = True, 0


def updates(callback, *more, path=None):
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*([GradientAccumulationScheduler({0: 4})] if callback else []), *more],
        accumulate_grad_batches=1 if callback else 4,
    )
    trainer.fit(Model(), DataLoader(TensorDataset(torch.ones(16, 1)), 1), ckpt_path=path)
    return trainer.global_step


for callback in (False, True):
    name = "GradientAccumulationScheduler({0: 4})" if callback else "accumulate_grad_batches=4"
    whole, half = updates(callback), updates(callback, SaveAndStop())
    resumed = updates(callback, path="half.ckpt")
    print(f"{name}: {whole} updates; stopped after {half} and resumed: {resumed}")
PY
cat >"$work/known" <<'TXT'
accumulate_grad_batches=4: 4 updates; stopped after 2 and resumed: 4
GradientAccumulationScheduler({0: 4}): 4 updates; stopped after 2 and resumed: 10
TXT

(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: 4 updates in all cases."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
