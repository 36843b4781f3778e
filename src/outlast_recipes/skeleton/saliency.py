"""The prediction of a network for one clip, and the joints that decided it, as a picture and an animation.

A joint's part in the decision is gradient times activation on the last features, as in Grad-CAM (Selvaraju et al., ICCV
2017), kept by joint and frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from outlast_recipes.common.clips import Floats
from outlast_recipes.common.saliency import spoken_for
from outlast_recipes.skeleton.augment import centre, collate
from outlast_recipes.skeleton.bodies import Clip
from outlast_recipes.skeleton.layouts import Layout
from outlast_recipes.skeleton.model import Last

POSES = 6  # in the still picture
SECONDS = 0.08  # between two pictures of the moving one: 64 frames take five seconds


@dataclass(frozen=True)
class Saliency:
    """A clip as the network saw it.

    Attributes:
        shares: (C,) probabilities.
        joints: (T, M, V, 3) metres.
        mask: (T, M).
        weight: (T, M, V) how much a joint spoke for the likeliest class, 0 to 1.
    """

    shares: Tensor
    joints: Floats
    mask: NDArray[np.bool_]
    weight: Floats


def looked_at(network: Last, clip: Clip, frames: int) -> Saliency:
    """Classify a clip and ask which joints decided."""
    batch = collate([(torch.from_numpy(clip.joints), torch.from_numpy(clip.mask), 0, 0)])
    joints, mask = centre(batch, frames, torch.device("cpu"))
    features, there = network.features(joints, mask)
    features = features.detach().requires_grad_()
    logits = network.classified(features, there)[0]
    spoken = spoken_for(logits.max(), features, 2)[0]  # (M, T/4, V)
    smooth = F.interpolate(spoken.transpose(1, 2), size=frames, mode="linear", align_corners=False)  # (M, V, T)
    weight = (smooth / smooth.max().clamp(min=1e-9)).permute(2, 0, 1)
    seen = mask[0, :, : weight.shape[1]]
    return Saliency(
        logits.softmax(0).detach(),
        joints[0, :, : weight.shape[1]].numpy(),
        seen.numpy(),
        (weight * seen[..., None]).numpy(),
    )


def draw(found: Saliency, layout: Layout, path: Path, title: str) -> None:
    """Poses at equal distances in time, and below them each joint's part over time."""
    from matplotlib.figure import Figure

    frames = np.linspace(0, len(found.mask) - 1, POSES).round().astype(int)
    figure = Figure(figsize=(2.1 * POSES, 6.4), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(2, POSES, height_ratios=(1.2, 1.0))
    limits = _limits(found)
    for place, frame in enumerate(frames):
        axes = figure.add_subplot(grid[0, place])
        _pose(axes, found, layout, int(frame), limits)
        axes.set_title(f"frame {frame + 1}", fontsize=9)
    axes = figure.add_subplot(grid[1, :])
    parts = found.weight.max(axis=1)
    order = np.argsort(-parts.mean(axis=0))[:10]
    picture = axes.imshow(
        parts[:, order].T,
        aspect="auto",
        cmap="Reds",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0.5, len(parts) + 0.5, len(order) - 0.5, -0.5),
    )
    axes.set(xlabel="frame of the view", title="the ten joints that decided most")
    axes.set_yticks(range(len(order)), [layout.names[joint] for joint in order], fontsize=8)
    figure.colorbar(picture, label="part in the decision", pad=0.01)
    figure.savefig(path, dpi=110, format="png")


def animate(found: Saliency, layout: Layout, path: Path, title: str) -> None:
    """The clip as a moving picture."""
    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    limits = _limits(found)

    def step(frame: int) -> list[Any]:
        axes.clear()
        _pose(axes, found, layout, frame, limits)
        axes.set_title(title, fontsize=9)
        return []

    moving = FuncAnimation(figure, step, frames=len(found.mask), blit=False)
    moving.save(path, writer=PillowWriter(fps=round(1 / SECONDS)), dpi=80)


def _limits(found: Saliency) -> tuple[tuple[float, float], tuple[float, float]]:
    seen = found.joints[found.mask]
    low, high = seen.reshape(-1, 3).min(axis=0), seen.reshape(-1, 3).max(axis=0)
    half = 0.55 * max(float(high[0] - low[0]), float(high[1] - low[1]), 0.5)
    x, y = (float(low[axis] + high[axis]) / 2 for axis in (0, 1))
    return (x - half, x + half), (y - half, y + half)


def _pose(axes: Any, found: Saliency, layout: Layout, frame: int, limits: Any) -> None:
    for body in range(found.mask.shape[1]):
        if not found.mask[frame, body]:
            continue
        x, y = found.joints[frame, body, :, 0], found.joints[frame, body, :, 1]
        for joint, parent in enumerate(layout.parents):
            axes.plot([x[joint], x[parent]], [y[joint], y[parent]], color="0.6", lw=1.6, zorder=1)
        weight = found.weight[frame, body]
        axes.scatter(
            x,
            y,
            c=weight,
            s=10 + 60 * weight,
            cmap="Reds",
            vmin=-0.3,
            vmax=1,
            zorder=2,
            edgecolors="0.4",
            linewidths=0.4,
        )
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal", xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
