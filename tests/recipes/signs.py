"""The recipe sign in miniature, on generated clips."""

from __future__ import annotations

TINY = {
    "data.smoke_test": True, "data.num_gloss": "12", "data.num_cat": "3", "batch_size": "4", "network.width": "16",
    "epochs": "2", "log_every": "1", "save_every": "never", "keep_best": "0",
}  # fmt: skip
"""12 steps of 6 batches an epoch."""
