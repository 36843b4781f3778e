"""What a trained network says of one file: of the whole clip, or of each window of a long one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outlast_recipes.common.clips import Floats, Mask
from outlast_recipes.common.saliency import spoken_for
from outlast_recipes.sign import npz
from outlast_recipes.sign.config import SignConfig
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.normalise import ASPECT
from outlast_recipes.sign.parts import batch_of, in_body
from outlast_recipes.sign.saved import Labels
from outlast_recipes.sign.sources import kind_of

GLOSSES, CATEGORIES = 5, 3  # that are named
_WINDOWS = 64  # in a batch


@dataclass(frozen=True)
class Recording:
    """The contents of a file.

    Attributes:
        values: (T, 78, 2) shares of the frame, or (T, 2048) features.
        seen: (T, 78), or (T,) True.
        aspect: width of the frame by its height.
        fault: what is wrong with the file's `meta`, when it would have given the aspect; else empty.
    """

    values: Floats
    seen: Mask
    aspect: float
    fault: str = ""

    def __len__(self) -> int:
        """T."""
        return len(self.values)


def read(path: Path, config: SignConfig) -> Recording:
    """The clip in a file, as a run with this config reads it; raises outlast.DataError."""
    if kind_of(config) == "features":
        values = npz.read_features(path, config.data.feature_key)
        return Recording(values, np.ones(len(values), np.bool_), 1.0)
    found = npz.read_keypoints(path, config.data.kp_key)
    fault = "" if config.data.aspect else found.fault
    return Recording(found.points, found.seen, config.data.aspect or found.aspect or ASPECT, fault)


def looked_at(network: SignNetwork, clip: Recording, config: SignConfig) -> tuple[Tensor, Tensor, Floats]:
    """The probabilities of a clip, and the frames that decided.

    Args:
        network: in evaluation mode.
        clip: at least one frame.
        config: of the run.

    Returns:
        Probabilities of the glosses (G,) and the categories (K,), and (T,): how much each frame spoke for the likeliest
        gloss, 0 to 1.
    """
    inputs = _inputs(clip, [(0, len(clip))], config)
    encoded = network.encoded(*inputs).detach().requires_grad_()
    gloss, category = network.head(network.pooled(encoded, inputs[-1]))
    spoken = spoken_for(gloss.max(), encoded, 2)[0].numpy()
    places = np.linspace(0, len(spoken) - 1, len(clip))
    weight = np.interp(places, np.arange(len(spoken)), spoken / max(float(spoken.max()), 1e-9))
    return gloss.detach().softmax(1)[0], category.detach().softmax(1)[0], np.float32(weight)


def windows(length: int, size: int, stride: int) -> list[tuple[int, int]]:
    """(begin, end) of each window of a clip; the last one ends with the clip, and a short clip is one window."""
    last = max(0, length - size)
    begins = [*range(0, last, stride), last]
    return [(begin, min(begin + size, length)) for begin in begins]


@torch.no_grad()
def in_windows(
    network: SignNetwork, clip: Recording, places: Sequence[tuple[int, int]], config: SignConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """The probabilities of the glosses (G,) and the categories (K,) of each window."""
    for start in range(0, len(places), _WINDOWS):
        gloss, category = network(*_inputs(clip, places[start : start + _WINDOWS], config))
        yield from zip(gloss.softmax(1), category.softmax(1), strict=True)


def _inputs(clip: Recording, places: Sequence[tuple[int, int]], config: SignConfig) -> tuple[Tensor, ...]:
    """Parts of a clip as a batch, which is normalised as a training's clips are."""
    lengths = torch.tensor([end - begin for begin, end in places])
    longest = int(lengths.max())
    values = torch.zeros(len(places), longest, *clip.values.shape[1:])
    seen = torch.zeros(len(places), longest, *clip.seen.shape[1:], dtype=torch.bool)
    for row, (begin, end) in enumerate(places):
        values[row, : end - begin] = torch.from_numpy(clip.values[begin:end])
        seen[row, : end - begin] = torch.from_numpy(clip.seen[begin:end])
    batch = batch_of(values, seen, lengths, config.data.frames)
    if config.data.normalise:
        batch = in_body(batch, torch.full((len(places),), clip.aspect))
    return batch.inputs


def named(gloss: Tensor, category: Tensor, labels: Labels) -> dict[str, Any]:
    """The likeliest glosses and categories, for JSON."""
    return {
        key: [
            {"name": names[number], "number": number, "probability": round(share, 6)}
            for share, number in zip(*(each.tolist() for each in shares.topk(min(most, len(names)))), strict=True)
        ]
        for key, shares, names, most in (
            ("gloss", gloss, labels.glosses, GLOSSES),
            ("category", category, labels.categories, CATEGORIES),
        )
    }


def segments(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring windows with the same likeliest gloss, as one.

    Args:
        found: windows with first, last and gloss, in order.

    Returns:
        first and last frame, gloss, and the largest probability of a window.
    """
    merged: list[dict[str, Any]] = []
    for window in found:
        best = window["gloss"][0] if window["gloss"] else {"name": None, "probability": 0.0}
        if merged and merged[-1]["gloss"] == best["name"]:
            merged[-1]["last"] = window["last"]
            merged[-1]["probability"] = max(merged[-1]["probability"], best["probability"])
        else:
            merged.append({"gloss": best["name"], "probability": best["probability"]} | _frames(window))
    return merged


def _frames(window: dict[str, Any]) -> dict[str, Any]:
    return {"first": window["first"], "last": window["last"]}
