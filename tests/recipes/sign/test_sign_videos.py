"""Videos as .npz files: with trackers and weights that are made up, and the real OpenCV."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import outlast
from outlast.cli import main
from outlast_recipes.sign import inception, npz, tracking, video
from tests import messages

SIZE = (64, 48)  # pixels: width, height


def filmed(path: Path, frames: int, rate: float = 15.0) -> Path:
    """A video in which the red of frame n is 10 n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, SIZE)
    for number in range(frames):
        writer.write(np.full((SIZE[1], SIZE[0], 3), (0, 0, 10 * number), np.uint8))
    writer.release()
    return path


def landmarks(count: int, x: float, y: float) -> list[SimpleNamespace]:
    return [SimpleNamespace(x=x + number / 1000, y=y) for number in range(count)]


def made_up(frame: video.Frame) -> tuple[Any, ...]:
    """Places that the brightness of a frame decides; the left hand is lost in one of them, there is no face."""
    level = round(float(frame.picture[..., 0].mean()) / 10)
    left = None if level == 2 else landmarks(21, 0.1 * level, 0.5)
    return landmarks(33, 0.4, 0.1 * level), left, landmarks(21, 1.2, 0.5), None


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "tracker_of", lambda _: made_up)


def test_frames_come_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = filmed(tmp_path / "a.avi", 6)
    for rate, levels in ((15.0, [0, 1, 2, 3, 4, 5]), (30.0, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]), (5.0, [0, 3])):
        found = list(video.frames_of(path, rate))
        assert [round(float(frame.picture[..., 0].mean()) / 10) for frame in found] == levels
        assert [frame.time for frame in found] == [round(1000 * number / rate) for number in range(len(levels))]
        assert found[-1].picture[..., 2].mean() < 5, "RGB"
    path.write_bytes(b"not this")
    with messages.raises(outlast.DataError, "sign/no-video"):
        list(video.frames_of(path, 30.0))


def test_keypoints_are_156_numbers_a_frame(tmp_path: Path, fake: None, capsys: pytest.CaptureFixture[str]) -> None:
    filmed(tmp_path / "videos/sub/HELLO 1.avi", 5)
    filmed(tmp_path / "videos/b.avi", 3)
    (tmp_path / "videos/c.mp4").write_bytes(b"not this")
    words = ["data", "prepare", "sign", str(tmp_path / "videos"), "--to", str(tmp_path / "npz"), "--fps", "15"]
    assert main(words) == 0
    said = capsys.readouterr().out
    messages.said(said, "sign/videos-made", made=2, videos=3)
    messages.said(said, "sign/video-refused")
    with np.load(tmp_path / "npz/HELLO 1.npz", allow_pickle=False) as arrays:
        points = arrays["X"].reshape(5, 78, 2)
        seen, times, meta = arrays["mask"], arrays["timestamps_ms"], json.loads(str(arrays["meta"]))
    assert times.tolist() == [0, 67, 133, 200, 267]
    assert (meta["width"], meta["height"]) == SIZE
    np.testing.assert_allclose(points[3, :25, 0], 0.4 + np.arange(25) / 1000, atol=1e-6)
    np.testing.assert_allclose(points[:, 0, 1], 0.1 * np.arange(5), atol=1e-6)
    np.testing.assert_allclose(points[:, 25, 0], 0.1 * np.arange(5), atol=1e-6, err_msg="the gap is filled")
    assert seen[:, :46].all()
    assert not seen[:, 46:].any(), "the right hand is beyond the frame, and there is no face"
    assert (points[:, 46:67, 0] == 1).all(), "its coordinates are limited to it"
    assert not points[:, 67:].any()
    assert npz.read_keypoints(tmp_path / "npz/b.npz").aspect == pytest.approx(64 / 48)
    assert (tmp_path / "npz/occluded.csv").read_text() == "file,occluded\nHELLO 1,0\nb,0\n"
    before = (tmp_path / "npz/b.npz").stat().st_mtime_ns
    assert main(words) == 0
    messages.said(capsys.readouterr().out, "sign/videos-kept", files=2)
    assert (tmp_path / "npz/b.npz").stat().st_mtime_ns == before
    assert main(["data", "check", "sign", str(tmp_path / "npz")]) == 0


def test_videos_that_cannot_be_named(tmp_path: Path, fake: None, capsys: pytest.CaptureFixture[str]) -> None:
    filmed(tmp_path / "videos/a.avi", 2)
    filmed(tmp_path / "videos/sub/a.avi", 2)
    words = ["data", "prepare", "sign", str(tmp_path / "videos"), "--to", str(tmp_path / "npz")]
    assert main(words) == 1
    messages.said(capsys.readouterr().err, "sign/videos-of-one-name")
    assert main([*words[:3], str(tmp_path / "nowhere"), *words[4:]]) == 1
    messages.said(capsys.readouterr().err, "sign/no-folder-of-videos")
    (tmp_path / "empty").mkdir()
    assert main([*words[:3], str(tmp_path / "empty"), *words[4:]]) == 1
    messages.said(capsys.readouterr().err, "sign/no-videos")
    assert main([*words, "--fps", "0"]) == 2


def test_short_gaps_are_filled() -> None:
    points = np.zeros((12, 1, 2), np.float32)
    found = np.zeros((12, 1), bool)
    found[[1, 3, 10], 0] = True
    points[found] = [(1, 1), (3, 5), (10, 0)]
    filled, known = tracking.without_gaps(points, found)
    assert known[:, 0].tolist() == [False, True, True, True, *[False] * 6, True, False], "six frames are too many"
    assert filled[2, 0].tolist() == [2, 3]
    _, known = tracking.without_gaps(points, found, most=6)
    assert known[1:11].all()


def test_a_finger_before_the_head_for_five_frames_is_an_occlusion() -> None:
    points = np.zeros((9, 78, 2), np.float32)
    points[:, [0, 7, 8]] = [(0.5, 0.2), (0.55, 0.2), (0.45, 0.2)]
    points[:, 25:67] = (0.5, 0.9)
    seen = np.ones((9, 78), bool)
    points[2:6, 46 + 8] = (0.5, 0.22)
    assert not tracking.is_occluded(points, seen, 16 / 9)
    points[6, 46 + 8] = (0.5, 0.22)
    assert tracking.is_occluded(points, seen, 16 / 9)
    seen[4, 46 + 8] = False
    assert not tracking.is_occluded(points, seen, 16 / 9)


class _Solutions:
    """MediaPipe up to 0.10.21, as far as it is used."""

    def __init__(self, **options: Any) -> None:
        assert options == {"static_image_mode": False, "model_complexity": 1}

    def process(self, picture: Any) -> Any:
        part = SimpleNamespace(landmark=landmarks(33, 0.25, 0.5))
        face = SimpleNamespace(landmark=landmarks(468, 0.0, 0.5))
        return SimpleNamespace(
            pose_landmarks=part, left_hand_landmarks=None, right_hand_landmarks=part, face_landmarks=face
        )


class _Landmarker:
    """MediaPipe 1.2, as far as it is used."""

    @classmethod
    def create_from_options(cls, options: Any) -> _Landmarker:
        assert options.running_mode == "video"
        return cls()

    def detect_for_video(self, image: Any, time: int) -> Any:
        assert image.data.flags.c_contiguous
        return SimpleNamespace(
            pose_landmarks=landmarks(33, 0.25, 0.5),
            left_hand_landmarks=[],
            right_hand_landmarks=landmarks(21, 0.25, 0.5),
            face_landmarks=landmarks(478, 0.0, 0.5),
        )


def _module(name: str, **values: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(values)
    return module


def old(monkeypatch: pytest.MonkeyPatch) -> None:
    holistic = SimpleNamespace(holistic=SimpleNamespace(Holistic=_Solutions))
    monkeypatch.setitem(sys.modules, "mediapipe", _module("mediapipe", __version__="0.10.21", solutions=holistic))


def new(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _module("mediapipe", __version__="1.2.3", Image=SimpleNamespace, ImageFormat=SimpleNamespace(SRGB="srgb"))
    vision = SimpleNamespace(
        HolisticLandmarker=_Landmarker,
        HolisticLandmarkerOptions=SimpleNamespace,
        RunningMode=SimpleNamespace(VIDEO="video"),
    )
    parts = {
        "mediapipe": whole,
        "mediapipe.tasks": _module("mediapipe.tasks"),
        "mediapipe.tasks.python": _module("mediapipe.tasks.python", BaseOptions=SimpleNamespace, vision=vision),
    }
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("version", [old, new])
def test_both_interfaces_of_mediapipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: Callable[[pytest.MonkeyPatch], None]
) -> None:
    version(monkeypatch)
    model = tmp_path / "holistic_landmarker.task"
    model.touch()
    tracker = tracking.tracker_of(None if version is old else model)
    frames = [video.Frame(33 * number, np.zeros((4, 4, 3), np.uint8)) for number in range(2)]
    points, seen = tracking.tracked(frames, tracker)
    assert seen.sum(1).tolist() == [25 + 21 + 11] * 2
    assert not seen[:, 25:46].any()
    np.testing.assert_allclose(points[0, 67:, 0], np.array(tracking.FACE_POINTS) / 1000, atol=1e-6)


def test_what_mediapipe_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new(monkeypatch)
    with messages.raises(outlast.OutlastError, "sign/mediapipe-without-models"):
        tracking.tracker_of(None)
    with messages.raises(outlast.ConfigError, "sign/no-holistic-model"):
        tracking.tracker_of(tmp_path / "nowhere.task")
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with messages.raises(outlast.OutlastError, "sign/mediapipe-is-missing"):
        tracking.tracker_of(None)


def test_features_are_2048_numbers_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = inception.untrained()
    filmed(tmp_path / "videos/a.avi", 2)
    with monkeypatch.context() as patch:
        patch.setattr(inception, "backbone", lambda _: network)
        words = ["data", "prepare", "sign", str(tmp_path / "videos"), "--to", str(tmp_path / "npz"), "--fps", "15"]
        assert main([*words, "--write", "features"]) == 0
    found = npz.read_features(tmp_path / "npz/a.npz")
    assert found.shape == (2, 2048)
    assert np.abs(found[0] - found[1]).max() > 0.01 * np.abs(found).max(), "random weights make small numbers"
    picture = np.full((10, 20, 3), (255, 0, 0), np.uint8)
    torch.testing.assert_close(
        inception._input(video.Frame(0, picture))[:, 0, 0],
        torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
    )
    (tmp_path / "weights.pth").write_bytes(b"not this")
    capsys.readouterr()
    assert main([*words, "--write", "both", "--inception-weights", str(tmp_path / "weights.pth")]) == 1
    messages.said(capsys.readouterr().err, "sign/weights-of-inception")
