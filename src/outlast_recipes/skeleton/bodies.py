"""One clip in the form of all readers, and the preprocessing of raw bodies.

Order of the steps after the chain that most published models share (facts: NTU RGB+D's FAQ; CTR-GCN, PYSKL): drop
noise, keep the two bodies that move most, and put the origin at the first valid frame's spine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.common.clips import Floats, Mask, hash_points

LARGEST = 2**28
"""Bytes of a file of skeletons. A clip has some hundred frames of a few kilobytes."""

SHORTEST = 11  # frames; a body that is seen for fewer, beside a longer one, is a flicker of the tracker
WIDE, MOSTLY = 0.8, 0.7  # a body that is wider than 0.8 of its height in most frames is a table or a seat
BODIES = 2


@dataclass(frozen=True)
class Body:
    """One body as a sensor tracked it.

    Attributes:
        frames: (t,) numbers of the frames in which it was seen, ascending.
        joints: (t, V, 3) metres, x to the right, y up, z away from the camera.
    """

    frames: NDArray[np.int32]
    joints: Floats

    @property
    def motion(self) -> float:
        """Sum of the variances of x, y and z over all joints and frames."""
        return float(self.joints.reshape(-1, 3).var(axis=0).sum())


@dataclass(frozen=True)
class Clip:
    """One recording of one action.

    Attributes:
        name: its name in its data set, such as S001C002P003R002A013.
        label: class, from 0.
        subject, camera, setup: who did it and how it was seen; 0 where the data set does not say.
        joints: (T, M, V, 3) metres, centred; zero where the mask is.
        mask: (T, M) whether a body was seen in a frame.
    """

    name: str
    label: int
    subject: int
    camera: int
    joints: Floats
    mask: Mask
    setup: int = 0

    @property
    def points(self) -> Floats:
        """The joints, for `common.clips`."""
        return self.joints

    @property
    def hash(self) -> str:
        """The hash of the positions alone: equal for copies under other names."""
        return hash_points(self.joints)


def denoised(bodies: Sequence[Body]) -> list[Body]:
    """Without flickers and furniture; never fewer than one body when there was one."""
    if len(bodies) < 2:
        return list(bodies)
    kept = [body for body in bodies if len(body.frames) > SHORTEST] or list(bodies)
    upright = [body for body in kept if not _is_wide(body)]
    return upright or [max(kept, key=lambda body: len(body.frames))]


def _is_wide(body: Body) -> bool:
    spread = np.ptp(body.joints, axis=1)
    return bool((spread[:, 0] > WIDE * spread[:, 1]).mean() > MOSTLY)


def tracks(bodies: Sequence[Body], count: int = BODIES) -> list[Body]:
    """The bodies that move most, most first; one that is never seen together with a chosen one is taken for the same
    person.

    A sensor that loses someone gives them a new number when they are found again.
    """
    chosen: list[Body] = []
    for body in sorted(bodies, key=lambda body: body.motion, reverse=True):
        same = next((n for n, other in enumerate(chosen) if not np.isin(body.frames, other.frames).any()), None)
        if same is not None:
            chosen[same] = _joined(chosen[same], body)
        elif len(chosen) < count:
            chosen.append(body)
    return chosen


def _joined(one: Body, other: Body) -> Body:
    frames = np.concatenate([one.frames, other.frames])
    order = np.argsort(frames, kind="stable")
    return Body(frames[order], np.concatenate([one.joints, other.joints])[order])


def assembled(bodies: Sequence[Body], *, spine: int, count: int = BODIES) -> tuple[Floats, NDArray[np.bool_]]:
    """Bodies as one array and its mask, from the first frame in which anybody is seen to the last, centred.

    Args:
        bodies: most important first.
        spine: joint whose place in the first body's first frame becomes the origin, for all frames and bodies alike.
        count: M of the result; absent bodies are zero and masked.

    Returns:
        (T, M, V, 3) metres and (T, M).
    """
    first, last = min(body.frames[0] for body in bodies), max(body.frames[-1] for body in bodies)
    joints = np.zeros((last - first + 1, count, *bodies[0].joints.shape[1:]), np.float32)
    mask = np.zeros(joints.shape[:2], bool)
    origin = bodies[0].joints[0, spine]
    for number, body in enumerate(bodies[:count]):
        joints[body.frames - first, number] = body.joints - origin
        mask[body.frames - first, number] = True
    return joints, mask
