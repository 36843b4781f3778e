"""SYNTHETIC clips of 25 joints: made-up bodies that move by programs, to ask which part of a network solves which
property. Nobody was recorded.

Four families of fifteen classes. What tells the classes of a family apart is one property alone:
    order      a movement and its reverse (and one that does both): only the direction of time differs
    delay      one limb, then another, after a short, a middle or a long pause: the two moments are far apart
    speed      the same movement once, twice or four times in a clip of the same length
    bodies     two people: one moves first and the other answers, or they move together; which of them is stored first
               is chance

Nuisance: bone lengths of each subject, the camera's direction, start, speed, noise, and in half of the clips of one
person a second body that does something else far away for a while. Split by subject, so no body of the test was trained
on (`--set data.split=cameras` splits by direction instead).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.common.preparing import write
from outlast_recipes.skeleton.bodies import Body, Clip, assembled
from outlast_recipes.skeleton.layouts import KINECT_2
from outlast_recipes.skeleton.store import FORM, Store

FAMILIES = ("order", "delay", "speed", "bodies")
MOVES = ("left arm", "right arm", "left elbow", "left leg", "bow")
WAYS = 3
CLASSES = [f"{family}: {move}, {way}" for family in FAMILIES for move in MOVES for way in range(WAYS)]

# Joint -> where it is from its parent, in metres, standing with the arms down and facing the camera, which looks
# along +z.
_BONES = {
    1: (0, 0.30, 0), 20: (0, 0.25, 0), 2: (0, 0.08, 0), 3: (0, 0.14, 0), 4: (-0.18, -0.02, 0), 5: (-0.03, -0.27, 0),
    6: (0, -0.25, 0), 7: (0, -0.08, 0), 8: (0.18, -0.02, 0), 9: (0.03, -0.27, 0), 10: (0, -0.25, 0), 11: (0, -0.08, 0),
    12: (-0.09, -0.04, 0), 13: (0, -0.42, 0), 14: (0, -0.40, 0), 15: (0, -0.05, -0.12), 16: (0.09, -0.04, 0),
    17: (0, -0.42, 0), 18: (0, -0.40, 0), 19: (0, -0.05, -0.12), 21: (0, -0.08, 0), 22: (0.03, -0.04, 0),
    23: (0, -0.08, 0), 24: (-0.03, -0.04, 0),
}  # fmt: skip
_ORDER = (1, 20, 2, 3, 4, 5, 6, 7, 21, 22, 8, 9, 10, 11, 23, 24, 12, 13, 14, 15, 16, 17, 18, 19)
_FROM = {1: 0, 20: 1, 2: 20, 3: 2, 4: 20, 5: 4, 6: 5, 7: 6, 21: 7, 22: 7, 8: 20, 9: 8, 10: 9, 11: 10, 23: 11, 24: 11,
    12: 0, 13: 12,
         14: 13, 15: 14, 16: 0, 17: 16, 18: 17, 19: 18}  # fmt: skip
_HINGE = {
    "left arm": (4, 2, -2.4),
    "right arm": (8, 2, 2.4),
    "left elbow": (5, 0, 2.0),
    "left leg": (12, 0, 1.2),
    "bow": (0, 0, -0.9),
}
"""Movement -> joint about which everything beyond it turns, axis, and angle in radians at its height."""
_OTHER = {
    "left arm": "right arm",
    "right arm": "left arm",
    "left elbow": "left leg",
    "left leg": "left elbow",
    "bow": "right arm",
}


def store(folder: Path, *, clips: int = 60, subjects: int = 12, seed: int = 0) -> Store:
    """Write so many clips of each of the 60 classes."""
    found = []
    for label in range(len(CLASSES)):
        for number in range(clips):
            chance = np.random.default_rng((seed, label, number))
            subject, camera = 1 + number % subjects, 1 + number // subjects % 3
            found.append(_clip(label, subject, camera, f"synthetic-{label:02d}-{number:03d}", chance))
    return write(found, folder, FORM, layout=KINECT_2.name, classes=CLASSES)


def _clip(label: int, subject: int, camera: int, name: str, chance: np.random.Generator) -> Clip:
    family, move, way = FAMILIES[label // 15], MOVES[label // 3 % 5], label % 3
    length = int(chance.integers(56, 97))
    time = np.linspace(0, 1, length)
    angles: list[dict[str, NDArray[np.float64]]] = [{}]
    if family == "order":
        up = _rise(time, chance.uniform(0.25, 0.75))
        both = np.minimum(2 * up, 2 * (1 - up))
        angles[0][move] = (up, 1 - up, both)[way]
    elif family == "delay":
        first, pause = chance.uniform(0.08, 0.14), (0.12, 0.40, 0.68)[way] + chance.uniform(-0.03, 0.03)
        angles[0] = {move: _bump(time, first), _OTHER[move]: _bump(time, first + pause)}
    elif family == "speed":
        waves = (1, 2, 4)[way]
        angles[0][move] = 0.5 - 0.5 * np.cos(2 * np.pi * (waves * time + chance.uniform(0, 0.2)))
    else:
        first = chance.uniform(0.2, 0.35)
        second = first if way == 2 else first + chance.uniform(0.25, 0.4)
        answer = _OTHER[move]
        one, two = ((first, second), (second, first), (first, first))[way]
        angles = [{move: _bump(time, one)}, {answer: _bump(time, two)}]
    bodies = [_moved(length, each, subject + 20 * place, chance) for place, each in enumerate(angles)]
    if len(bodies) == 2:
        bodies[1][..., 0] = -bodies[1][..., 0]
        bodies[1] = bodies[1][:, list(KINECT_2.mirror)] + (1.1, 0, 0.2)
    yaw = (camera - 2) * 0.7 + chance.uniform(-0.25, 0.25)
    seen = [Body(np.arange(length, dtype=np.int32), _viewed(body, yaw, chance)) for body in bodies]
    if family != "bodies" and chance.random() < 0.5:
        seen.append(_stranger(length, yaw, chance))
    if chance.random() < 0.5 and len(bodies) == 2:
        seen.reverse()
    joints, mask = assembled(seen, spine=KINECT_2.spine)
    return Clip(name, label, subject, camera, joints, mask)


def _rise(time: NDArray[np.float64], middle: float, width: float = 0.12) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-(time - middle) / (width / 4)))


def _bump(time: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    return np.exp(-0.5 * ((time - at - 0.04) / 0.035) ** 2)


def _moved(
    length: int, angles: dict[str, NDArray[np.float64]], subject: int, chance: np.random.Generator
) -> NDArray[np.float64]:
    """(T, 25, 3): a body of this subject's size that moves by these angles, each 0 to 1."""
    size = np.random.default_rng(10_000 + subject)
    whole, limbs = size.uniform(0.85, 1.15), size.uniform(0.88, 1.12, 25)
    pose = np.zeros((length, 25, 3))
    for joint in _ORDER:
        pose[:, joint] = pose[:, _FROM[joint]] + whole * limbs[joint] * np.array(_BONES[joint])
    for move, curve in angles.items():
        joint, axis, most = _HINGE[move]
        _rotate(pose, joint, axis, most * chance.uniform(0.8, 1.1) * curve)
    sway = np.cumsum(chance.normal(scale=0.004, size=(length, 1, 3)), axis=0)
    return pose + sway


def _rotate(pose: NDArray[np.float64], joint: int, axis: int, angle: NDArray[np.float64]) -> None:
    """Turn everything beyond a joint about it, in place; a bow turns all above the hips."""
    beyond = [1, 20, *_beyond(20)] if joint == 0 else _beyond(joint)
    a, b = [number for number in range(3) if number != axis]
    from_joint = pose[:, beyond] - pose[:, [joint]]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    turned = from_joint.copy()
    turned[..., a] = cos * from_joint[..., a] - sin * from_joint[..., b]
    turned[..., b] = sin * from_joint[..., a] + cos * from_joint[..., b]
    pose[:, beyond] = pose[:, [joint]] + turned


def _beyond(joint: int) -> list[int]:
    found = [child for child, parent in _FROM.items() if parent == joint]
    return [*found, *(deeper for child in found for deeper in _beyond(child))]


def _viewed(pose: NDArray[np.float64], yaw: float, chance: np.random.Generator) -> NDArray[np.float32]:
    cos, sin = np.cos(yaw), np.sin(yaw)
    turned = pose @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]) + (0, 0, 3)
    return np.float32(turned + chance.normal(scale=0.008, size=turned.shape))


def _stranger(length: int, yaw: float, chance: np.random.Generator) -> Body:
    """Somebody in the background who does something else, seen for a part of the clip."""
    move = MOVES[chance.integers(len(MOVES))]
    first = int(chance.integers(0, length // 2))
    last = int(chance.integers(first + 15, length))
    curve = 0.4 * _bump(np.linspace(0, 1, length), chance.uniform(0.1, 0.9))
    away = np.array([-1.6, 0, 1.5])
    pose = away + _moved(length, {move: curve}, int(chance.integers(50, 90)), chance)
    return Body(np.arange(first, last, dtype=np.int32), _viewed(pose, yaw, chance)[first:last])
