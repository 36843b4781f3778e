"""Keypoints of the frames of a video, by MediaPipe Holistic: 25 of the pose, 21 of each hand, 11 of the face.

MediaPipe up to 0.10.21 has its models in the package (`mediapipe.solutions`). Later ones need a file with them,
holistic_landmarker.task, and nothing is downloaded here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import outlast
from outlast_recipes.common.clips import Floats, Mask
from outlast_recipes.sign.batch import FACE, LEFT, POINTS, POSE, RIGHT
from outlast_recipes.sign.video import Frame

FACE_POINTS = (1, 33, 263, 133, 362, 61, 291, 105, 334, 199, 4)
"""Points of MediaPipe's FaceMesh that are kept, in this order."""
GAP = 5  # frames that are filled by interpolation
HEAD = 0.6
"""Radius of the head, in distances between the ears."""
TOUCH = 5  # frames in a row with a finger tip before the head, after which a clip counts as occluded
_TIPS = [start + tip for start in (LEFT.start, RIGHT.start) for tip in (4, 8, 12, 16, 20)]

Landmarks = Sequence[Any] | None
"""What MediaPipe gives of one part: objects with x and y in shares of the frame; None or empty when it is not seen."""
Tracker = Callable[[Frame], tuple[Landmarks, Landmarks, Landmarks, Landmarks]]
"""A frame -> pose, left hand, right hand, face. It is called with the frames of one video in order."""


def tracker_of(model: Path | None) -> Tracker:
    """A tracker for one video.

    Args:
        model: holistic_landmarker.task; not needed with MediaPipe up to 0.10.21.

    Raises:
        outlast.OutlastError: MediaPipe is not installed, or needs the file.
    """
    try:
        import mediapipe
    except ImportError as error:
        raise outlast.OutlastError(
            f"Keypoints need MediaPipe, which is not installed ({error}): pip install 'outlast[sign]'"
        ) from error
    if model is not None:
        return _of_tasks(mediapipe, model)
    if not hasattr(mediapipe, "solutions"):
        raise outlast.OutlastError(
            f"MediaPipe {mediapipe.__version__} has no models of its own. Give --holistic-model with the file "
            "holistic_landmarker.task, or install mediapipe==0.10.21."
        )
    return _of_solutions(mediapipe)


def _of_solutions(mediapipe: Any) -> Tracker:
    holistic = mediapipe.solutions.holistic.Holistic(static_image_mode=False, model_complexity=1)

    def track(frame: Frame) -> tuple[Landmarks, Landmarks, Landmarks, Landmarks]:
        found = holistic.process(frame.picture)
        pose, left, right, face = (
            part.landmark if part is not None else None
            for part in (
                found.pose_landmarks,
                found.left_hand_landmarks,
                found.right_hand_landmarks,
                found.face_landmarks,
            )
        )
        return pose, left, right, face

    return track


def _of_tasks(mediapipe: Any, model: Path) -> Tracker:
    from mediapipe.tasks.python import BaseOptions, vision

    if not model.is_file():
        raise outlast.ConfigError(f"--holistic-model is {str(model)!r}, which is no file.")
    options = vision.HolisticLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)), running_mode=vision.RunningMode.VIDEO
    )
    try:
        landmarker = vision.HolisticLandmarker.create_from_options(options)
    except (RuntimeError, ValueError, OSError) as error:
        raise outlast.OutlastError(
            f"{model} cannot be loaded as models of MediaPipe ({error}). Give --holistic-model with the file "
            "holistic_landmarker.task."
        ) from error

    def track(frame: Frame) -> tuple[Landmarks, Landmarks, Landmarks, Landmarks]:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame.picture))
        found = landmarker.detect_for_video(image, frame.time)
        return found.pose_landmarks, found.left_hand_landmarks, found.right_hand_landmarks, found.face_landmarks

    return track


def tracked(frames: Iterable[Frame], tracker: Tracker) -> tuple[Floats, Mask]:
    """The keypoints of a video: (T, 78, 2) shares of the frame, and (T, 78) which are seen.

    Coordinates are limited to the frame. A keypoint beyond its edge has the coordinates of the edge and is not seen.
    One that was not found is (0, 0); gaps of up to 5 frames are filled.
    """
    rows = [_row(*tracker(frame)) for frame in frames]
    points = np.array([row for row, _ in rows], np.float32).reshape(len(rows), POINTS, 2)
    found = np.array([known for _, known in rows], np.bool_).reshape(len(rows), POINTS)
    points, found = without_gaps(points, found)
    inside = ((points >= 0) & (points <= 1)).all(-1)
    return np.float32(points.clip(0, 1)), found & inside


def _row(pose: Landmarks, left: Landmarks, right: Landmarks, face: Landmarks) -> tuple[Floats, Mask]:
    """(78, 2) and (78,) of one frame."""
    points: Floats = np.zeros((POINTS, 2), np.float32)
    found: Mask = np.zeros(POINTS, np.bool_)
    for place, part, chosen in (
        (POSE, pose, range(25)),
        (LEFT, left, range(21)),
        (RIGHT, right, range(21)),
        (FACE, face, FACE_POINTS),
    ):
        if part:
            points[place] = [(part[number].x, part[number].y) for number in chosen]
            found[place] = np.isfinite(points[place]).all(-1)
    points[~found] = 0
    return points, found


def without_gaps(points: Floats, found: Mask, most: int = GAP) -> tuple[Floats, Mask]:
    """Fill gaps between two frames in which a keypoint was found, along a line.

    Args:
        points: (T, V, 2).
        found: (T, V).
        most: frames of the longest gap that is filled.
    """
    points, found = points.copy(), found.copy()
    for number in range(found.shape[1]):
        known = np.flatnonzero(found[:, number])
        for before, after in itertools.pairwise(known):
            if 1 < after - before <= most + 1:
                share = (np.arange(before + 1, after) - before)[:, None] / (after - before)
                points[before + 1 : after, number] = (1 - share) * points[before, number] + share * points[
                    after, number
                ]
                found[before + 1 : after, number] = True
    return points, found


def is_occluded(points: Floats, seen: Mask, aspect: float) -> bool:
    """Whether a finger tip is before the head in 5 frames in a row.

    Args:
        points: (T, 78, 2) shares of the frame.
        seen: (T, 78).
        aspect: width of the frame by its height.
    """
    places = points * np.array((aspect, 1.0), np.float32)
    nose, ears = places[:, 0], places[:, 7:9]
    radius = HEAD * np.linalg.norm(ears[:, 0] - ears[:, 1], axis=-1)
    near = np.linalg.norm(places[:, _TIPS] - nose[:, None], axis=-1) < radius[:, None]
    touches = (near & seen[:, _TIPS]).any(1) & seen[:, 0] & seen[:, 7] & seen[:, 8]
    run = 0
    for touch in touches:
        run = run + 1 if touch else 0
        if run == TOUCH:
            return True
    return False
