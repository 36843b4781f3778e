"""The metrics of a run as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from outlast.errors import UsageError
from outlast.folder import durable
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder
from outlast.report.history import history
from outlast.report.runs import read_run
from outlast.terminal import shortened

MOST_METRICS = 60  # metrics in one picture
_WIDTH, _HEIGHT, _COLUMNS = 5.2, 3.0, 3  # inches of one picture; pictures in a row
_LINE = 0.15  # inches of a line of text
_LARGEST = 1e300  # beyond it, matplotlib's own arithmetic overflows
_MOST_ONCE = 14  # values of metrics that were logged once, in one picture


class Known(Protocol):
    """The lines to draw: `History`, or `thinning.Thinned`."""

    @property
    def series(self) -> Mapping[str, tuple[Sequence[float], Sequence[float]]]:
        """Metric -> its steps and values."""

    @property
    def thinned(self) -> str:
        """A sentence if these are not all values; otherwise empty."""

    @property
    def counted(self) -> str:
        """How many there are, in a few words."""


def draw_curves(folder: Path, target: Path, known: Known | None = None) -> Path:
    """Draw every metric of a run over its steps, with marks at the ends of sessions.

    Metrics that were logged once, such as those of a test, are listed with their values beside the curves.

    If the journal is long, only chosen lines are drawn, and the title states this.

    Args:
        folder: the run folder.
        target: a .png, .svg or .pdf file. An existing file is replaced.
        known: the lines to draw, if they have been read already. By default, lines are chosen as `history` does,
            which is fast and may miss a peak.

    Raises:
        UsageError: matplotlib is not installed, or nothing was logged yet.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError("Drawing curves needs matplotlib: pip install 'outlast[plots]'.") from error
    place = RunFolder(folder)
    if known is None:
        info = read_run(folder)
        known = history(place.journal, info.latest, info.renamed)
    drawn: Mapping[str, tuple[Sequence[float], Sequence[float]]] = known.series
    logged = len(drawn)
    if not drawn:
        raise UsageError(f"{folder} has logged nothing yet, so there are no curves to draw.")
    drawn = dict(list(drawn.items())[:MOST_METRICS])
    ends = _ends(place, max(steps[-1] for steps, _ in drawn.values()))
    curves = {name: one for name, one in drawn.items() if len(one[0]) > 1} or drawn
    once = {name: values[-1] for name, (_, values) in drawn.items() if name not in curves}
    pictures = len(curves) + bool(once)
    columns = min(_COLUMNS, pictures)
    rows = -(-pictures // columns)
    heights = [_HEIGHT] * rows
    if once and rows > 1 and len(curves) % columns == 0:  # the list has a row of its own: no higher than its lines
        heights[-1] = min(_HEIGHT, 0.6 + _LINE * min(len(once), _MOST_ONCE + 1))
    figure = Figure(figsize=(_WIDTH * columns, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights).flatten()
    for axis, (name, (steps, values)) in zip(axes, curves.items(), strict=False):
        axis.vlines(ends, 0, 1, transform=axis.get_xaxis_transform(), color="0.8", linewidth=1, zorder=0)
        bounded = [min(max(value, -_LARGEST), _LARGEST) for value in values]
        axis.plot(steps, bounded, color="#2a6f97", linewidth=1.3, marker="o" if len(steps) < 3 else "", markersize=4)
        axis.set_title(f"{shortened(name, 60)} {values[-1]:.4g}", loc="left", fontsize=10, parse_math=False)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        if _spread(values):
            axis.set_yscale("log")
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    if once:
        _list_once(axes[len(curves)], once)
    figure.suptitle(
        " · ".join(
            [
                shortened(folder.resolve().name),
                *(["grey: a session ended"] if ends else []),
                *([f"the first {MOST_METRICS} of {logged} metrics"] if logged > MOST_METRICS else []),
                *([f"thinned: {known.counted}"] if known.thinned else []),
            ]
        ),
        fontsize=11,
        x=0.01,
        ha="left",
        parse_math=False,
    )
    durable.make_folder(target.parent)
    figure.savefig(target, dpi=120)
    return target


def _list_once(axis: Any, values: Mapping[str, float]) -> None:
    """The values of metrics that were logged once, as text in the place of a picture."""
    lines = [f"{shortened(name, 40)}  {value:.4g}" for name, value in list(values.items())[:_MOST_ONCE]]
    if len(values) > _MOST_ONCE:
        lines.append(f"and {len(values) - _MOST_ONCE} more")
    axis.set_title("logged once", loc="left", fontsize=10)
    axis.text(0, 0.97, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=8, parse_math=False)


def _ends(place: RunFolder, last: float) -> list[int]:
    """Steps after which a later session continued, without the last step."""
    attempts = [read_record(place, number) for number in place.attempt_numbers()]
    found = {attempt["resume"]["step"] for attempt in attempts if attempt.get("resume")}
    return sorted(step for step in found if step < last)


def _spread(values: Sequence[float]) -> bool:
    """Whether the values span more than two decades, and a logarithmic axis can hold them."""
    return min(values) > 1 / _LARGEST and max(values) / min(values) > 100
