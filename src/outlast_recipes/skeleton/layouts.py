"""The joint layout of each sensor: parents, sides, the origin."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The joints of one kind of skeleton.

    Attributes:
        name: of the sensor.
        parents: joint -> the next one towards the root, which is its own parent.
        mirror: joint -> the same one on the other side.
        spine: the joint that becomes the origin.
        names: of the joints.
    """

    name: str
    parents: tuple[int, ...]
    mirror: tuple[int, ...]
    spine: int
    names: tuple[str, ...]

    @property
    def joints(self) -> int:
        """V."""
        return len(self.parents)


KINECT_2 = Layout(
    "kinect-2",
    parents=(1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 7, 7, 11, 11),
    mirror=(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22),
    spine=1,
    names=(
        "spine base", "spine", "neck", "head", "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand", "left hip", "left knee", "left ankle",
        "left foot", "right hip", "right knee", "right ankle", "right foot", "spine shoulder", "left hand tip",
        "left thumb", "right hand tip", "right thumb",
    ),
)  # fmt: skip
"""NTU RGB+D: 25 joints; the root is the shoulder centre, 20. Thumbs and hand tips (21-24) hang on the hands."""

KINECT_1 = Layout(
    "kinect-1",
    parents=(1, 2, 2, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    mirror=(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15),
    spine=1,
    names=(
        "hip centre", "spine", "shoulder centre", "head", "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand", "left hip", "left knee", "left ankle",
        "left foot", "right hip", "right knee", "right ankle", "right foot",
    ),
)  # fmt: skip
"""NW-UCLA and UTKinect: 20 joints; the root is the shoulder centre, 2."""

LAYOUTS = {layout.name: layout for layout in (KINECT_2, KINECT_1)}
