"""What ultralytics is given, and what is taken from it: labels, mirrors, mosaics, metrics, gradients and weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import outlast
from outlast.config import resolve
from outlast_recipes.yolo import backends, plain
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.detector import Place
from outlast_recipes.yolo.images import ImageRefused, decode, read_header
from outlast_recipes.yolo.reading import read_dataset
from outlast_recipes.yolo.square import picture_of
from outlast_recipes.yolo.ultralytics_adapter import trainer as adapter
from outlast_recipes.yolo.ultralytics_adapter import training as stepping
from tests.recipes.pictures import dataset

STILL = {f"augmentation.{name}": "0" for name in ("hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic")}
BOX, POINTS = (20, 8, 60, 32), ((24, 10), (52, 12), (40, 30))
SEEN = (2, 1, 0)


def config(architecture: str, **values: str) -> YoloConfig:
    flags = {"model.architecture": architecture, "model.image_size": "64", "epochs": "4", "batch_size": "2"}
    made: YoloConfig = resolve(YoloConfig, flags={**flags, **values}).config
    return made


def build(data: Any, architecture: str, **values: str) -> Any:
    return backends.training_of(config(architecture, **values), data, torch.device("cpu"))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Pictures of 80 x 40 with one object, two of whose three points a mirror exchanges."""
    root = tmp_path_factory.mktemp("faces")
    left, top, right, bottom = BOX
    numbers = [(left + right) / 160, (top + bottom) / 80, (right - left) / 80, (bottom - top) / 40]
    points = [each for (x, y), seen in zip(POINTS, SEEN, strict=True) for each in (x / 80, y / 40, seen)]
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (80, 40), (50 * number, 9, 9)).save(root / f"images/{split}/{split}{number}.png")
            line = " ".join(map(str, [0, *numbers, *points]))
            (root / f"labels/{split}/{split}{number}.txt").write_text(line + "\n")
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [face]\nkpt_shape: [3, 3]\nflip_idx: [1, 0, 2]\n"
    )
    return read_dataset(root)


@pytest.fixture(params=["0", "1"], ids=["as it is", "mirrored"])
def mirror(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_labels_and_their_mirror_arrive_at_the_network(faces: Any, mirror: str) -> None:
    training = build(faces, "yolo11n-pose", **{**STILL, "augmentation.fliplr": mirror, "training.close_mosaic": "4"})
    sample = training.batches.dataset[0]
    training.close()
    # 80 x 40 becomes 64 x 32, with grey above and below.
    x, y = (lambda value: 0.8 * value / 64), (lambda value: (0.8 * value + 16) / 64)
    left, top, right, bottom = BOX
    box = [x((left + right) / 2), y((top + bottom) / 2), x(right - left), 0.8 * (bottom - top) / 64]
    points = [[x(one), y(other), float(seen)] for (one, other), seen in zip(POINTS, SEEN, strict=True)]
    if mirror == "1":
        box[0] = 1 - box[0]
        points = [[1 - one, other, seen] for one, other, seen in (points[1], points[0], points[2])]
    np.testing.assert_allclose(sample["bboxes"][0], box, atol=1e-3)
    np.testing.assert_allclose(sample["keypoints"][0][:2], points[:2], atol=1e-3)
    assert sample["keypoints"][0][2, 2] == 0, "a point that is not labelled stays so"
    assert sample["im_file"].endswith("train0.png")


def test_the_last_epochs_have_no_mosaics(faces: Any) -> None:
    values = {**STILL, "augmentation.mosaic": "1", "training.close_mosaic": "2"}
    training = build(faces, "yolo11n-pose", **values)
    colours = []
    for epoch in range(4):
        training.batches.sampler.epoch = epoch
        outlast.seed_everything(1)
        image = training.batches.dataset[0]["img"].reshape(3, -1).T
        colours.append({tuple(each) for each in image.tolist()} - {(114, 114, 114)})
    training.close()
    assert [len(each) > 1 for each in colours] == [True, True, False, False]


def pictures_of_many_kinds(folder: Path) -> None:
    """Files of one picture (60 x 80) as cameras and tools write them."""
    chance = np.random.default_rng(0)
    small = Image.fromarray(chance.integers(0, 255, (8, 6, 3), np.uint8))
    base = small.resize((60, 80), Image.Resampling.BICUBIC)
    grey, clear, palette = base.convert("L"), base.copy(), base.convert("P", palette=Image.Palette.ADAPTIVE)
    clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (80, 1))))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    turned = base.transpose(Image.Transpose.ROTATE_180)
    for kind, made in {"rgb": base, "grey": grey, "deep": deep, "palette": palette, "bit": base.convert("1")}.items():
        made.save(folder / f"{kind}.png")
        made.save(folder / f"{kind}.tif")
    for name, made in {
        "clear.png": clear, "clear.tif": clear, "clear.webp": clear, "clear-grey.png": clear.convert("LA"),
        "palette.bmp": palette, "rgb.bmp": base, "print.jpg": base.convert("CMYK"), "grey.jpg": grey,
        "print.tif": base.convert("CMYK"), "lab.tif": base.convert("LAB"),
    }.items():  # fmt: skip
        made.save(folder / name, **({"lossless": True} if name.endswith("webp") else {}))
    base.save(folder / "seen-through.png", transparency=(10, 10, 10))
    for name, more in {"pages.tif": {}, "moves.webp": {"lossless": True}, "moves.png": {}}.items():
        base.save(folder / name, save_all=True, append_images=[turned], **more)
    for value in range(1, 9):
        rotation = Image.Exif()
        rotation[0x0112] = value
        for ending in ("jpg", "png", "webp", "tif"):
            base.save(folder / f"turned{value}.{ending}", exif=rotation)


def test_a_dataset_has_only_images_that_all_readers_see_alike(tmp_path: Path) -> None:
    """Ultralytics trains on what OpenCV reads; predict, evaluate, tiny and RF-DETR see what Pillow reads."""
    from ultralytics.utils.patches import imread

    pictures_of_many_kinds(tmp_path)
    refused = []
    for path in sorted(tmp_path.iterdir()):
        try:
            header = read_header(path)
        except ImageRefused:
            refused.append(path.name)
            continue
        ours, theirs = np.asarray(decode(path)).astype(int), imread(str(path))[..., ::-1].astype(int)
        assert ours.shape == theirs.shape == (header.height, header.width, 3), path.name
        assert np.abs(ours - theirs).max() <= 2, path.name
        none = np.zeros(0, np.int64)
        sample = Sample(path, header.width, header.height, np.zeros((0, 4), np.float32), none)
        np.testing.assert_array_equal(picture_of(sample), ours)
    turned = [f"turned{value}.{ending}" for value in range(2, 9) for ending in ("png", "tif", "webp")]
    assert refused == sorted(["clear.tif", "lab.tif", *turned])


def test_another_library_that_is_installed_changes_no_image(faces: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ultralytics blurs some images where it finds albumentations, and draws a number more for each."""
    from ultralytics.data.augment import Albumentations

    def changed(_self: Any, _labels: Any) -> Any:
        raise AssertionError("albumentations is asked")

    monkeypatch.setattr(Albumentations, "__call__", changed)
    training = build(faces, "yolo11n-pose", **{"training.close_mosaic": "2"})
    for epoch in (0, 3):  # with mosaics and without
        training.batches.sampler.epoch = epoch
        assert training.batches.dataset[0]["img"].shape == (3, 64, 64)
    training.close()


def test_corners_are_not_mirrored_and_have_a_sigma_that_means_something(tmp_path: Path, faces: Any) -> None:
    corners = dataset(tmp_path / "corners", keypoints=True, counts=(2, 1, 1))
    assert adapter.arguments(config("yolo11n-pose"), corners)["fliplr"] == 0.0
    assert adapter.description(config("yolo11n-pose"), corners)["kpt_oks_sigmas"] == [0.025] * 4
    assert "kpt_oks_sigmas" not in adapter.description(config("yolo11n-pose"), faces)
    assert adapter.description(config("yolo11n-pose"), faces)["flip_idx"] == [1, 0, 2]
    boxes = dataset(tmp_path / "boxes", counts=(2, 1, 1))
    assert adapter.arguments(config("yolo11n"), boxes)["fliplr"] == 0.5


def test_the_metric_that_chooses_is_that_of_keypoints() -> None:
    results = {"metrics/mAP50-95(B)": 0.1, "metrics/mAP50-95(P)": 0.2, "metrics/mAP50(P)": 0.3, "val/box_loss": 4.0}
    assert adapter.measured(results, keypoints=True) == {"box_map": 0.1, "map": 0.2, "map50": 0.3, "box_loss": 4.0}
    assert adapter.measured({"metrics/mAP50-95(B)": 0.1}, keypoints=False) == {"map": 0.1}


def test_the_metric_of_plain_detectors_is_that_of_keypoints(faces: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "mean_precision", lambda *_, sigma=None: {"map": sigma or 0.0, "map50": sigma or 0.0})
    training = build(faces, "tiny", **{"training.oks_sigma": "0.07"})
    assert training.evaluate("val") == {"map": 0.07, "map50": 0.07, "box_map": 0.0, "box_map50": 0.0}
    training.close()


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return dataset(tmp_path_factory.mktemp("boxes") / "pictures", counts=(4, 2, 2))


@pytest.fixture(scope="module", params=["tiny", "yolo11n"])
def trained(request: pytest.FixtureRequest, boxes: Any) -> Iterator[Any]:
    training = build(boxes, request.param, **{"training.nominal_batch": "2", "training.warmup_epochs": "0"})
    for step, batch in enumerate(training.batches, 1):
        training.step(batch, Place(step, 1, 4, 2))
    yield training
    training.close()


def test_what_is_evaluated(trained: Any) -> None:
    asked: list[str] = []
    average, other = trained.parts()["ema"], trained.detector().network
    for name, network in (("average", average), ("other", other)):
        network.register_forward_hook(lambda *_, name=name: asked.append(name))
    trained.evaluate("val")
    assert set(asked) == {"average"}
    asked.clear()
    trained.evaluate("test", other)
    assert set(asked) == {"other"}


def test_the_detector_has_the_averaged_weights(trained: Any) -> None:
    parts = trained.parts()
    found = dict(trained.detector().network.named_parameters())
    assert all(torch.equal(found[name], each) for name, each in parts["ema"].named_parameters())
    assert any(not torch.equal(found[name], each) for name, each in parts["model"].named_parameters())


def test_the_network_sees_the_same_colours_in_a_prediction_as_in_training(faces: Any) -> None:
    """Ultralytics reads files as blue, green, red and trains on red, green, blue."""
    training = build(faces, "yolo11n-pose", **{**STILL, "training.close_mosaic": "4"})
    trained = training.batches.dataset[3]["img"].float() / 255  # a picture of the colour 150, 9, 9
    seen: list[torch.Tensor] = []
    detector = training.detector()
    detector.network.register_forward_pre_hook(lambda _network, given: seen.append(given[0][0]))
    detector.predict([picture_of(faces.splits["train"][3])])
    training.close()
    for image in (trained, seen[0]):
        np.testing.assert_allclose(image[:, image.shape[1] // 2, 32].numpy(), np.array([150, 9, 9]) / 255, atol=0.01)


@pytest.mark.parametrize("architecture", ["tiny", "yolo11n"])
def test_weight_decay_is_that_of_the_nominal_batch(architecture: str, boxes: Any) -> None:
    for nominal, expected in (("4", 5e-4), ("3", 5e-4 * 2 * 2 / 3)):
        training = build(boxes, architecture, **{"training.nominal_batch": nominal})
        training.step(next(iter(training.batches)), Place(1, 1, 4, 2))
        found = {group["weight_decay"] for group in training.parts()["optimizer"].param_groups}
        training.close()
        assert sorted(found) == pytest.approx([0.0, expected])


def test_gradients_of_ranks_are_added_up_as_those_of_one_batch(boxes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DDP takes their mean, and the loss is a sum over samples."""
    gradients = []
    for ranks in (1, 2):
        training = build(boxes, "yolo11n", **{"training.nominal_batch": "64", "training.warmup_epochs": "0"})
        monkeypatch.setattr(stepping, "several_ranks", lambda ranks=ranks: ranks > 1)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda ranks=ranks: ranks)
        training.step(next(iter(training.batches)), Place(1, 1, 40, 2))
        gradients.append(next(each.grad.clone() for each in training.parts()["model"].parameters()))
        training.close()
    torch.testing.assert_close(gradients[1], 2 * gradients[0])


def test_a_validation_waits_for_all_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(adapter, "non_max_suppression", lambda *_, **options: given.update(options) or [])
    arguments = SimpleNamespace(conf=0.1, iou=0.5, max_det=300)
    adapter._Patient.postprocess(SimpleNamespace(args=arguments, nc=2, end2end=False), torch.zeros(1))
    assert given["max_time_img"] > 1e6


def test_an_image_that_is_damaged_after_the_start_is_named(boxes: Any, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own", counts=(4, 2, 2))
    training = build(own, "yolo11n", **STILL, **{"training.close_mosaic": "4"})
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:200]), lambda path: path.unlink()):
        damage(own.splits["train"][1].path)
        with pytest.raises(outlast.DataError, match="train01.png"):
            training.batches.dataset[1]
    training.close()
