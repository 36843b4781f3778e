"""Corners, straightened plates and container numbers, against values that are known from elsewhere."""

from __future__ import annotations

import itertools
from string import ascii_uppercase

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from outlast_recipes.yolo import corners, iso6346
from outlast_recipes.yolo.rectify import rectified, size_of
from tests import messages

SQUARE = np.array([(0, 0), (4, 0), (4, 4), (0, 4)], float)
angles = st.floats(-180, 180)


def turned(points: np.ndarray, degrees: float, at: tuple[float, float] = (50, 50)) -> np.ndarray:
    """Rotated clockwise in the picture, about the middle."""
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - points.mean(0)) @ matrix.T + np.array(at)


@st.composite
def plates(draw: st.DrawFn) -> np.ndarray:
    """A convex quadrilateral like a plate seen from the side, in reading order, level."""
    wide, high = draw(st.floats(40, 90)), draw(st.floats(15, 35))
    push = np.array([[draw(st.floats(-4, 4)) for _ in range(2)] for _ in range(4)])
    return np.array([(0, 0), (wide, 0), (wide, high), (0, high)]) + push


@settings(max_examples=60, deadline=None)
@given(plates(), angles)
def test_a_rotated_plate_is_in_order_and_a_mirrored_one_is_not(plate: np.ndarray, degrees: float) -> None:
    rotated = turned(plate, degrees)
    assert corners.order_error(rotated) is None
    assert (corners.angle(rotated) - corners.angle(plate) - degrees + 180) % 360 == pytest.approx(180, abs=1e-3)
    for mirrored in (rotated * [-1, 1], rotated * [1, -1], rotated[::-1]):
        messages.said([corners.order_error(mirrored) or ""], "yolo/corners-order-mirrored")
    assert corners.order_error(rotated[[0, 2, 1, 3]]) is not None


@settings(max_examples=60, deadline=None)
@given(plates(), st.floats(-30, 30), st.permutations(range(4)))
def test_corners_in_any_order_are_sorted(plate: np.ndarray, degrees: float, order: list[int]) -> None:
    rotated = turned(plate, degrees)
    np.testing.assert_allclose(corners.in_reading_order(rotated[order]), rotated)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(0, 0), (1, 0), (1, 0), (0, 1)], messages.says("yolo/corners-one-line")),
        ([(0, 0), (1, 1), (2, 2), (3, 3)], messages.says("yolo/corners-one-line")),
        ([(0, 0), (4, 0), (1, 1), (0, 4)], messages.says("yolo/corners-inside")),
    ],
)
def test_corners_of_no_plate(points: list[tuple[float, float]], words: messages.Message) -> None:
    messages.said([corners.order_error(points) or ""], words)


@pytest.mark.parametrize(
    ("found", "iou"),
    [
        (SQUARE, 1.0),
        (SQUARE + np.array([2, 0]), 1 / 3),
        (SQUARE + np.array([9, 9]), 0.0),
        (SQUARE + np.array([4, 0]), 0.0),
        (SQUARE / 2 + 1, 1 / 4),
        ([(2, 0), (4, 2), (2, 4), (0, 2)], 1 / 2),
        (SQUARE[::-1], 1.0),  # the IoU is of areas; a wrong order is counted by itself
        (SQUARE[[0, 2, 1, 3]], 0.0),
        (SQUARE * np.nan, 0.0),
        ([(0, 0), (4, 0), (1, 1), (0, 4)], 1 / 4),  # not convex
    ],
)
def test_quad_iou(found: np.ndarray, iou: float) -> None:
    assert corners.quad_iou(found, SQUARE) == pytest.approx(iou)


@settings(max_examples=15, deadline=None)
@given(plates(), plates(), angles, angles)
def test_quad_iou_against_counted_pixels(one: np.ndarray, other: np.ndarray, a: float, b: float) -> None:
    first, second = turned(one, a, (60, 60)) * 4, turned(other, b, (70, 55)) * 4
    masks = []
    for points in (first, second):
        image = Image.new("1", (560, 560))
        ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=1)
        masks.append(np.asarray(image))
    counted = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert corners.quad_iou(first, second) == pytest.approx(counted, abs=0.02)
    assert corners.quad_iou(first, second) == pytest.approx(corners.quad_iou(second, first))


def test_the_mean_error_is_a_share_of_the_size() -> None:
    moved = SQUARE + np.array([[0.4, 0], [0, 0], [0, 0], [0, 0]])
    assert corners.corner_error(moved, SQUARE) == pytest.approx(0.1 / 4)
    assert corners.best_shift(np.roll(SQUARE, 1, 0), SQUARE) == 3
    assert corners.best_shift(moved, SQUARE) == 0


@settings(max_examples=10, deadline=None)
@given(plates(), angles)
def test_a_plate_is_straightened(plate: np.ndarray, degrees: float) -> None:
    """A quadrilateral of four colours in perspective becomes a rectangle with each colour in its corner."""
    points = turned(plate, degrees)
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    image = Image.new("RGB", (100, 100))
    draw = ImageDraw.Draw(image)
    middle = points.mean(0)
    for number, colour in enumerate(colours):
        before, after = (points[number] + points[number - 1]) / 2, (points[number] + points[(number + 1) % 4]) / 2
        draw.polygon([tuple(point) for point in (points[number], after, middle, before)], fill=colour)
    made = rectified(image, points, height=40)
    assert made.size == size_of(points, 40)
    assert made.size[1] == 40
    wide, high = made.size
    for colour, (x, y) in zip(colours, [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)], strict=True):
        assert np.abs(np.array(made.getpixel((int(x * wide), int(y * high)))) - colour).max() < 60


def test_straightening_nothing_changes_nothing() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8))
    whole = [(0, 0), (50, 0), (50, 30), (0, 30)]
    assert np.array_equal(np.asarray(rectified(image, whole)), np.asarray(image))
    part = [(10, 5), (30, 5), (30, 25), (10, 25)]
    assert np.array_equal(np.asarray(rectified(image, part)), np.asarray(image)[5:25, 10:30])
    wider = rectified(image, part, margin=0.25)
    assert np.abs(np.asarray(wider).astype(int) - np.asarray(image)[0:30, 5:35]).max() <= 1
    with messages.raises(ValueError, "yolo/corners-mirrored"):
        rectified(image, part[::-1])
    assert max(rectified(image, whole, height=9000).size) == 4096


@pytest.mark.parametrize(
    "number", ["CSQU3054383", "csqu 305438-3", "ZEPU0037255", "MSCU7512387", "MSKU9070323", "TGHU7599330"]
)
def test_numbers_of_real_containers(number: str) -> None:
    assert iso6346.is_valid(number)


def test_values_of_letters() -> None:
    """By the table of ISO 6346, of all letters."""
    table = [10, *range(12, 22), *range(23, 33), *range(34, 39)]
    for letter, value in zip(ascii_uppercase, table, strict=True):
        # As the second letter it counts twice; the others of UxAU000000 make 32 + 4 * 10 + 8 * 32.
        assert iso6346.check_digit(f"U{letter}AU000000") == (32 + 4 * 10 + 8 * 32 + 2 * value) % 11 % 10


def test_a_remainder_of_ten_is_the_digit_zero() -> None:
    remainders = {serial: (10 + 20 + 40 + 8 * 32 + serial * 512) % 11 for serial in range(10)}
    (ten,) = [serial for serial, remainder in remainders.items() if remainder == 10]
    assert iso6346.check_digit(f"AAAU00000{ten}") == 0
    assert iso6346.is_valid(f"AAAU00000{ten}0")


def test_one_wrong_or_two_exchanged_characters_are_noticed() -> None:
    number = "CSQU3054383"
    for place, digit in itertools.product(range(4, 11), "0123456789"):
        changed = f"{number[:place]}{digit}{number[place + 1 :]}"
        assert iso6346.is_valid(changed) == (changed == number)
    for place in range(4, 9):
        swapped = f"{number[:place]}{number[place + 1]}{number[place]}{number[place + 2 :]}"
        assert iso6346.is_valid(swapped) == (swapped == number)


@pytest.mark.parametrize("number", ["", "CSQ3054383", "CSQX3054383", "CSQU30543", "CSQU30543833", "CSQU305438\u0663"])
def test_what_is_no_number(number: str) -> None:
    assert not iso6346.is_valid(number)
    with messages.raises(ValueError, "yolo/no-container-number", number=repr(number)):
        iso6346.check_digit(number)
