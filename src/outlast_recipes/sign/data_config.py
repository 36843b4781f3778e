"""The values of a run that concern its clips: splits, lengths and augmentation."""

from __future__ import annotations

from typing import Literal

from outlast import Section, setting

Split = Literal["given", "group", "random"]


class Data(Section):
    split: Split = setting(
        "given", "split: given by the folders (given), by signer (group), or random clips", flags=("--split",)
    )
    test_groups: tuple[str, ...] = setting((), "groups (signers) of the test, with --split group")
    validate_groups: tuple[str, ...] = setting(
        (), "groups (signers) of the validation, with --split group; a tenth of the others when not given"
    )
    frames: int = setting(128, "longest clip in frames; longer clips are resampled to it", ge=2, le=4096)
    aspect: float | None = setting(
        None, "width of a frame by its height; as the npz files say, else 16:9, when not given", gt=0.1, lt=10
    )


class Augment(Section):
    warp: float = setting(0.3, "maximum change of the speed of a clip, as a share", ge=0, lt=1)
    crop: float = setting(0.2, "maximum share of a clip that is cut off", ge=0, lt=1)
    drop: float = setting(0.2, "maximum share of the frames that are dropped", ge=0, lt=1)
    turn: float = setting(0.23, "maximum rotation in the plane of the frame, in radians", ge=0)
    squeeze: float = setting(0.15, "maximum scaling of each axis, as a share", ge=0, lt=1)
    perspective: float = setting(0.1, "maximum perspective: change of scale for one shoulder width", ge=0, lt=0.5)
    arms: float = setting(0.1, "maximum rotation of an arm at shoulder and elbow, in radians", ge=0)
    noise: float = setting(0.02, "noise of coordinates, in shoulder widths", ge=0)
    occlude: float = setting(0.3, "probability of hiding a hand, the face or the finger tips for a while", ge=0, le=1)
    mirror: float = setting(0.5, "probability of mirroring a clip whose gloss may be mirrored", ge=0, le=1)
    mirror_glosses: tuple[str, ...] = setting(
        (), "glosses (names or numbers) that mean the same when mirrored; all: every gloss"
    )
