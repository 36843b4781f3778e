"""A masked language model of Hugging Face, whose collator draws the masks."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tests.integrations.twins import Stops

import outlast
from outlast.integrations.huggingface import OutlastCallback

WORDS, MASK = 32, 3


class Sentences(torch.utils.data.Dataset):
    """42 sentences: 11 batches, 6 steps of two batches, the last of one."""

    def __init__(self, count: int = 42) -> None:
        self.words = torch.randint(4, WORDS, (count, 12), generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.words[index]


def collate(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    words = torch.stack(rows)
    masked = torch.rand(words.shape) < 0.3
    return {"input_ids": words.masked_fill(masked, MASK), "labels": words.masked_fill(~masked, -100)}


class Asking(transformers.TrainerCallback):
    def __init__(self, function: Any) -> None:
        self.function = function

    def on_step_end(self, args, state, control, **_) -> None:
        self.function(state.global_step, control)


def trainer(folder: Path, *callbacks: transformers.TrainerCallback, **options: Any) -> transformers.Trainer:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    given = {
        "num_train_epochs": 3,
        "save_strategy": "no",
        "gradient_accumulation_steps": 2,
        "logging_steps": 3,
        "eval_steps": 4,
        **options,
    }
    return transformers.Trainer(
        transformers.BertForMaskedLM(config),
        transformers.TrainingArguments(
            str(folder),
            per_device_train_batch_size=4,
            eval_strategy="steps",
            learning_rate=1e-2,
            warmup_steps=3,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **given,
        ),
        train_dataset=Sentences(),
        eval_dataset=Sentences(8),
        data_collator=collate,
        callbacks=[*callbacks, transformers.EarlyStoppingCallback(early_stopping_patience=50)],
    )


def fit(run: outlast.Run, stops: Stops, folder: Path, **options: Any) -> transformers.Trainer:
    callback = OutlastCallback(run)
    scaler = options.pop("scaler", None)
    made = trainer(folder, callback, Asking(lambda step, _: stops(step)), metric_for_best_model="loss", **options)
    if scaler:  # the Trainer makes one on a GPU only
        made.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**125, growth_interval=2)
    callback.train(made)
    return made


def alone(folder: Path, stop: int | None = None, resume: bool = False, **options: Any) -> torch.Tensor:
    """The Trainer with its own checkpoints, all parameters in one vector."""

    def leave(step: int, control: transformers.TrainerControl) -> None:
        control.should_training_stop |= step == stop

    options = {"metric_for_best_model": "loss", "save_strategy": "steps", "save_steps": 4, **options}
    made = trainer(folder, Asking(leave), **options)
    made.train(resume_from_checkpoint=resume or None)
    return torch.cat([each.detach().flatten() for each in made.model.parameters()])
