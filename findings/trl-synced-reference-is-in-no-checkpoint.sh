#!/usr/bin/env bash
# trl 1.16.0: with sync_ref_model the reference model is trained along, and is in no checkpoint: a
# resumed training is measured against the model of the beginning again.
#
# Guess:    `resume_from_checkpoint` continues with all that training changes; the reference model that is
#           mixed with the policy every ref_model_sync_steps is one of these.
# Happens:  the checkpoint holds the policy, its optimizer and the generators. The trainer builds the
#           reference model from the first weights and nothing loads it. Without the sync a resume is exact
#           here, so that the loss says nothing; with it all losses after the resume are others, the
#           policy goes elsewhere, and the reference model stays away from what it was. The margins of
#           the first batch jump, as the policy is compared with a model of long ago.
# Version:  trl 1.16.0, transformers 5.24.0, accelerate 1.15.0, datasets 5.2.0, torch 2.13.0 (CPU), numpy 2.4.6,
#           Python 3.11.
# Known:    the documentation of sync_ref_model does not say it; no issue was found. DPO is run here; KTO, GRPO
#           and RLOO use the same callback, which has no state (read, not run).
# Matters:  the penalty of GRPO and the margins of DPO pull a resumed policy back to the first one, in each
#           session anew, which the sync is there to avoid.
# outlast:  OutlastCallback saves the networks that other callbacks hold: this training, killed after step 6
#           and continued, is equal to its twin (by hand; a stand-in in integrations/test_huggingface.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet trl==1.16.0 transformers==5.24.0 accelerate==1.15.0 datasets==5.2.0 \
  torch==2.13.0 numpy==2.4.6
python="$work/venv/bin/python"

cat >"$work/case.py" <<'PY'
import random

import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

WORDS = ["<pad>", "<eos>", "<unk>", *"abcdefghijklmnopqrst"]
STEPS, STOP = 12, 6

words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
torch.manual_seed(0)
config = GPT2Config(
    vocab_size=len(WORDS), n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1,
    resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
)
GPT2LMHeadModel(config).save_pretrained("tiny")
tokenizer.save_pretrained("tiny")
draw = random.Random(0)


def text():
    return " ".join(draw.choice(WORDS[3:]) for _ in range(4))


rows = Dataset.from_list([{"prompt": text(), "chosen": " " + text(), "rejected": " " + text()} for _ in range(48)])


class StopAt(transformers.TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == STOP


def train(folder, callbacks=(), resume=None, **options):
    config = DPOConfig(
        folder, max_steps=STEPS, per_device_train_batch_size=4, learning_rate=0.01, lr_scheduler_type="constant",
        save_steps=STOP, logging_steps=1, report_to=[], use_cpu=True, disable_tqdm=True, bf16=False,
        gradient_checkpointing=False, **options,
    )
    trainer = DPOTrainer("tiny", args=config, train_dataset=rows, processing_class=tokenizer, callbacks=list(callbacks))
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def losses(trainer):
    return [line["loss"] for line in trainer.state.log_history if "loss" in line][STOP:]


SYNC = {"sync_ref_model": True, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.6}
for name, options in {"fixed reference": {}, "sync_ref_model": SYNC}.items():
    whole = train(f"{name} whole", **options)
    train(f"{name} stopped", callbacks=[StopAt()], **options)
    resumed = train(f"{name} stopped", resume=f"{name} stopped/checkpoint-{STOP}", **options)
    others = sum(a != b for a, b in zip(losses(whole), losses(resumed), strict=True))
    print(
        f"{name}: other losses {others} of {STEPS - STOP}, equal policy {equal(whole.model, resumed.model)},"
        f" equal reference {equal(whole.ref_model, resumed.ref_model)}"
    )
PY
cat >"$work/known" <<'TXT'
fixed reference: other losses 0 of 6, equal policy True, equal reference True
sync_ref_model: other losses 6 of 6, equal policy False, equal reference False
TXT
(cd "$work" && "$python" case.py 2>"$work/errors" >"$work/seen") || { cat "$work/errors"; exit 2; }
echo "Expected: both lines as the first."
echo "Seen:"
cat "$work/seen"
diff "$work/known" "$work/seen" || { echo "CHANGED: this is no longer what was known."; exit 1; }
echo "As known."
