"""Plots of how good predictions are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.yolo.precision import RECALLS

_MOST = 20  # classes that are named; more of them are thin lines


def draw_precision(curves: Mapping[str, Mapping[str, NDArray[np.float64]]], path: Path) -> bool:
    """Draw the precision of each class at each recall as a PNG, side by side for boxes and keypoints.

    Args:
        curves: title -> class -> precision (101,); see `precision.curves`.
        path: of the file.

    Returns:
        Whether it was drawn: matplotlib is installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(5.6 * len(curves), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, classes) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for name, precision in classes.items():
            named = len(classes) <= _MOST
            label = f"{name[:24]} {precision.mean():.3f}" if named else None
            axes.plot(RECALLS, precision, linewidth=1.3 if named else 0.6, label=label, clip_on=False)
        if len(classes) != 1:
            mean = np.mean(list(classes.values()), axis=0) if classes else np.zeros(len(RECALLS))
            label = f"all classes {mean.mean():.3f}"
            axes.plot(RECALLS, mean, color="black", linewidth=2.2, label=label, clip_on=False)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title(f"{title}, with average precision", loc="left", fontsize=10, parse_math=False)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        for text in axes.legend(loc="lower left", fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)
    figure.savefig(path, dpi=100, format="png", metadata={"Software": None})
    return True
