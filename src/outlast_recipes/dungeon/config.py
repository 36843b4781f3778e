"""The values of a training of dungeons."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

import outlast
from outlast import Section, setting


def _epochs() -> int | None:
    epochs: int | None = setting(
        None, "passes over the data in this stage; those of --epochs when not given", on_resume="free", ge=1
    )
    return epochs


def _rate() -> float | None:
    rate: float | None = setting(None, "peak learning rate of this stage; that of --learning-rate when not given", ge=0)
    return rate


class VQ(Section):
    epochs: int | None = _epochs()
    learning_rate: float | None = _rate()
    quantizer: Literal["ema", "fsq"] = setting(
        "ema", "codes: a codebook of moving averages (ema), or rounded numbers (fsq)", on_resume="fixed"
    )
    halvings: int = setting(2, "halvings of a room: 2 for 4 x 3 codes, 1 for 8 x 6", on_resume="fixed", ge=1, le=2)
    width: int = setting(64, "channels at 8 x 6; 1.5 times as many at 4 x 3", on_resume="fixed", ge=2, multiple_of=2)
    decay: float = setting(0.99, "decay of the codebook's moving averages", gt=0, lt=1)
    commitment: float = setting(0.25, "weight of the distance between the encoder's output and its code", ge=0)
    restart_after: int = setting(100, "batches in which a code may be unused, before it is put elsewhere", ge=1)
    rare_weight: float = setting(5.0, "weight of a rare tile, such as a monster, in the loss", gt=0)


class Diffusion(Section):
    epochs: int | None = _epochs()
    learning_rate: float | None = _rate()
    width: int = setting(128, "length of a token; there is one for each code", on_resume="fixed", ge=4, multiple_of=4)
    layers: int = setting(4, "layers of the denoiser", on_resume="fixed", ge=1)
    heads: int = setting(4, "heads of attention", on_resume="fixed", ge=1)
    dropout: float = setting(0.1, "dropout rate of the denoiser", ge=0, lt=1)
    min_snr: float = setting(5.0, "signal-to-noise ratio at which the weight of the loss is cut off", gt=0)
    sampling_steps: int = setting(50, "steps of DDIM when rooms are drawn", on_resume="free", ge=1)
    guidance: float = setting(1.0, "scale of classifier-free guidance; 1 for none", on_resume="free", ge=0)


class Joint(Section):
    epochs: int | None = _epochs()
    learning_rate: float | None = setting(
        None, "peak learning rate of this stage; a tenth of --learning-rate when not given", ge=0
    )


class Masked(Section):
    epochs: int | None = _epochs()
    learning_rate: float | None = _rate()
    width: int = setting(64, "channels of the network", on_resume="fixed", ge=1)
    layers: int = setting(4, "residual blocks of the network", on_resume="fixed", ge=1)
    dropout: float = setting(0.3, "dropout rate of the network", ge=0, lt=1)
    entropy: float = setting(
        1.0, "nats of the tiles that are drawn in one step; 0 for one tile a step", on_resume="free", ge=0
    )
    at_once: int = setting(84, "tiles of a room that are drawn in one step at most", on_resume="free", ge=1, le=84)
    temperature: float = setting(1.0, "temperature of the distribution of a tile", on_resume="free", gt=0)
    guidance: float = setting(1.0, "scale of classifier-free guidance; 1 for none", on_resume="free", ge=0)


class Config(outlast.SupervisedConfig):
    generator: Literal["latent", "masked"] = setting(
        "latent",
        "generator: latent trains the stages vqvae, diffusion and joint; masked trains one diffusion of tiles",
        on_resume="fixed",
    )
    data_root: Path | None = setting(
        None,
        "folder of a corpus: levels (.txt) and mission graphs (.dot); a synthetic one of our own when not given",
        on_resume="place",
        flags=("--data-path", "--data", "--data-dir"),
        aliases=("data_dir",),
    )
    held_out: tuple[str, ...] = setting(("4", "8"), "dungeons for the test", on_resume="fixed")
    validation: tuple[str, ...] = setting(("2", "6"), "dungeons for validation", on_resume="fixed")
    results_dir: Path | None = setting(
        None,
        "folder for artifacts, instead of the run's own",
        on_resume="session",
        flags=("--output-dir",),
        aliases=("results_root", "output_dir"),
    )
    epochs: int = setting(
        100,
        "passes over the data in each stage",
        on_resume="free",
        flags=("-e", "--num-epochs"),
        aliases=("max_epochs", "num_epochs"),
        ge=1,
    )
    batch_size: int = setting(32, "batch size: rooms per optimizer step", flags=("-b",), ge=1)
    learning_rate: float = setting(1e-3, "peak learning rate", flags=("--lr",), aliases=("lr",), ge=0)
    weight_decay: float = setting(1e-5, "weight decay; not applied to norms and biases", ge=0)
    warmup: float = setting(0.05, "warm-up, as a share of the steps", ge=0, le=1)
    ema: float = setting(0.999, "decay of the exponential moving average of the weights (EMA)", ge=0, lt=1)
    latent_dim: int = setting(64, "length of the vector of a code", on_resume="fixed", ge=1)
    num_embeddings: int = setting(512, "codes of the VQ-VAE", on_resume="fixed", ge=2)
    num_timesteps: int = setting(1000, "steps of the noise schedule", on_resume="fixed", ge=2)
    embedding_dim: int = setting(256, "length of the vector of time and condition", on_resume="fixed", ge=2)
    condition_dropout: float = setting(0.1, "share of rooms that are learnt without what is asked of them", ge=0, lt=1)
    neighbour_dropout: float = setting(0.5, "share of rooms that are learnt without the rooms beside them", ge=0, le=1)
    mixed_precision: bool = setting(
        default=False,
        help="train in bfloat16, or in float16 with loss scaling where bfloat16 is not supported",
        flags=("--use-amp",),
        aliases=("use_amp",),
    )
    save_every: str = setting(
        "auto",
        'save interval: auto, every step, or for example "10m", "500 steps" or "10m, 1 epoch"; a number alone: epochs',
        on_resume="free",
        flags=("--checkpoint-every",),
        aliases=("checkpoint_every",),
    )
    auto_resume: bool = setting(
        default=True, help="continue a run that has checkpoints; otherwise it is refused", on_resume="session"
    )
    val_every: int = setting(1, "epochs between two validations", on_resume="free", ge=1)
    redraws: int = setting(
        4,
        "times that a room is drawn again while it is not valid, or is a training room; then it is repaired",
        on_resume="free",
        ge=0,
    )
    samples: int = setting(64, "rooms that are drawn for the test and the pictures, at the end", on_resume="free", ge=2)
    vq: VQ = setting(VQ(), "VQ-VAE")
    diffusion: Diffusion = setting(Diffusion(), "latent diffusion")
    joint: Joint = setting(Joint(), "joint fine-tuning")
    masked: Masked = setting(Masked(), "masked diffusion")

    @field_validator("save_every", mode="before")
    @classmethod
    def _as_epochs(cls, value: Any) -> Any:
        """The original counts epochs."""
        return f"{value} epochs" if str(value).isdecimal() and not isinstance(value, bool) else value
