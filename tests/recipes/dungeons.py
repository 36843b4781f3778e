"""Values that make a training of dungeons small."""

from __future__ import annotations

_SMALL = {"debug": "True", "save_every": "never", "keep_best": "0", "samples": "4", "device": "cpu", "ema": "0.5"}
MASKED = _SMALL | {
    "generator": "masked",
    "epochs": "6",
    "masked.width": "8",
    "masked.layers": "1",
    "masked.at_once": "42",
}
"""12 steps."""
LATENT = _SMALL | {
    "keep_best": "1", "epochs": "3", "latent_dim": "8", "num_embeddings": "16", "num_timesteps": "20",
    "embedding_dim": "16", "vq.width": "8", "vq.restart_after": "1", "diffusion.width": "16", "diffusion.layers": "1",
    "diffusion.sampling_steps": "4",
}  # fmt: skip
"""Three stages of 6 steps. Every step puts codes elsewhere."""


def flags(values: dict[str, str]) -> list[str]:
    """The values as they are typed."""
    return [f"--{name.replace('_', '-')}" + ("" if value == "True" else f"={value}") for name, value in values.items()]
