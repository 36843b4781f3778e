"""Outlines of four points that are taken for corners: in the order of the labels, if they have one.

Tools write them in three ways: from the text's first corner on (as ICDAR does), from any corner on (OpenCV's
`boxPoints`, and exports made with it), and in either direction (outlines of masks). No format says which. So the
dataset is asked: if most outlines begin at an upper left corner, that is no chance, and an outline that begins
elsewhere belongs to a text that is upside down or on its side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.common.problems import Problems
from outlast_recipes.yolo import corners
from outlast_recipes.yolo.corners import Points

_LEVEL = 45.0  # degrees


@dataclass(frozen=True)
class Outlines:
    """How the outlines of a dataset become corners.

    Attributes:
        are_ordered: whether they begin at the text's first corner.
        problems: receives what is wrong.
    """

    are_ordered: bool
    problems: Problems

    @classmethod
    def of(cls, quads: Iterable[Points], place: object, problems: Problems) -> Outlines:
        """Look at all outlines of a dataset, and note what they are taken for.

        Args:
            quads: outlines, each (4, 2).
            place: the dataset or its file, for the message.
            problems: receives the note.
        """
        with np.errstate(all="ignore"):  # numbers that are out of range are not refused yet
            begun = [corners.order_error(quad) is None and abs(corners.angle(quad)) < _LEVEL for quad in quads]
        made = cls(2 * sum(begun) > len(begun), problems)
        how = (
            f"{sum(begun)} of {len(begun)} begin at the upper left, so the order of the labels is kept"
            if made.are_ordered
            else f"only {sum(begun)} of {len(begun)} begin at the upper left, so the labels have no order: they are "
            f"sorted for text that is rotated by less than {_LEVEL:.0f} degrees. Label other text with keypoints "
            "(kpt_shape: [4, 3])"
        )
        problems.warning("polygons", place, f"all objects are polygons of four points, used as corners. {how}.")
        return made

    def corners(self, outline: Points, at: str) -> NDArray[np.float64]:
        """The corners (4, 2) of an outline in pixels, in reading order.

        Args:
            outline: (4, 2).
            at: file and line, for a message.
        """
        wrong = corners.order_error(outline)
        if self.are_ordered and wrong is None:
            return np.asarray(outline, np.float64)
        made = corners.in_reading_order(outline)
        if self.are_ordered and corners.order_error(made) is None:
            self.problems.warning(
                "corner-sorted",
                at,
                f"the four points {wrong}; they are sorted for text that is rotated by less than {_LEVEL:.0f} degrees.",
            )
        return made
