"""The numbers of a journal as arrays, and curves thinned without losing peaks."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.report import bulk, digits, thinning
from outlast.report.thinning import Curve, Curves
from outlast.tracking import reading

NUMBERS = st.one_of(
    st.floats(),
    st.integers(-(10**6), 10**6),
    st.sampled_from([1e-300, 1e300, 0, -0.0, 5e-324, 10**400, 2**53 + 1, "NaN", "-Infinity", "text", True, None, [1]]),
)
NAMES = st.sampled_from(["loss", "val/loss", "e", "inf", "naif", "a b", 'q"', "µ", "step2", "epoch", "1", "-", "x, y"])


@st.composite
def journals(draw: st.DrawFn) -> bytes:
    """A journal of some forms of lines, most of them often; some lines damaged."""
    forms = draw(st.lists(st.lists(NAMES, max_size=4, unique=True), min_size=1, max_size=4))
    values = draw(st.lists(NUMBERS, min_size=1, max_size=6))
    ascii_only = draw(st.booleans())
    chosen = random.Random(draw(st.integers(0, 10**6)))
    lines = []
    for step in range(draw(st.integers(0, 300))):
        names = forms[0] if chosen.random() < 0.8 else chosen.choice(forms)
        record = {"step": step, **{name: chosen.choice(values) for name in names}}
        lines.append(json.dumps(record, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    for damage in draw(
        st.lists(
            st.sampled_from(
                [
                    b"", b" ", b"{", b'{"step": 1, "loss": }', b'{"step": 1, "loss": 1-2}',
                    b'{"step": -1, "loss": 1.5}',
                    b'{"step": 1.5, "loss": 1}', b'{"loss": 2.5, "step": 3}', b'{"step": 7, "loss": 1.0', b"\x00\xff",
                    b'{"step": 4, "loss": 1.0}}', b'{"step": 4, "loss": 1.0}x',
                    b'{"step": 9, "loss": 1.0, "loss": 2.0}',
                    b'x{"step": 5, "loss": 1.0}', b'{"step": 5,"loss": 1.0}', b"[]",
                    b'{"step": 12, "loss": 1_0}',
                    b'{"step": 12, "loss": 1 2}',
                ]
            ),
            max_size=5,
        )
    ):  # fmt: skip
        lines.insert(chosen.randint(0, len(lines)), damage)
    return b"".join(line + b"\n" for line in lines) + draw(
        st.sampled_from([b"", b'{"step": 1', b'{"step": 9, "loss": 1}'])
    )


def one_by_one(path: Path) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for record in reading.read(path):
        for name, value in record.items():
            if name not in reading.PLACE and isinstance(value, int | float) and (abs(value) < 1e308 or value != value):
                found.setdefault(name, []).append((record["step"], float(value)))
    return found


def in_blocks(path: Path) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for block in bulk.blocks(path):
        for name, pieces in block.series.items():
            for steps, values in pieces:
                found.setdefault(name, []).extend(zip(steps.tolist(), values.tolist(), strict=True))
    return found


def comparable(found: dict[str, list[tuple[float, float]]]) -> dict[str, list[str]]:
    return {
        name: sorted(f"{step:.0f} {value:.13e}" for step, value in pairs if abs(value) < 1e308 or value != value)
        for name, pairs in found.items()
        if any(abs(value) < 1e308 or value != value for _, value in pairs)
    }


@settings(max_examples=150, deadline=None)
@given(data=journals(), size=st.sampled_from([256, 5000, bulk.SIZE]))
def test_blocks_hold_what_the_lines_hold_one_by_one(tmp_path_factory, data: bytes, size: int) -> None:
    path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "SIZE", size)
        patch.setattr(bulk, "_FEW", 3)
        assert comparable(in_blocks(path)) == comparable(one_by_one(path))


@pytest.mark.parametrize(
    "texts",
    [
        ["0", "1", "7", "12345678", "123456789", "1234567890123456", "9007199254740993", "99999999999999999999"],
        ["0.5", "1.5", "-0.25", "-0.0", "0.1", "123456.75", "1234567.5", "12345678.5", "123456789.5", "1234567890.123"],
        [
            "0.13436424411240122",
            "0.00012345678901234567",
            "1.7976931348623157",
            "-9.999999999999999",
            "0.30000000000000004",
        ],
        ["1e-05", "-1.5e+300", "5e-324", "1E5", '"NaN"', '"Infinity"', '"-Infinity"', "0.1234567890123456789012345"],
        ["0.12345678901234567890123e5", "123.45678901234567890123456e-7", "0.000000000000000000000000001"],
    ],
)
def test_numbers_are_those_that_python_reads(texts: list[str]) -> None:
    text = ",".join(texts) + "\n"
    ends = np.array([at for at, char in enumerate(text) if char in ",\n"])
    starts = np.append(0, ends[:-1] + 1)
    found, readable = digits.Text(text.encode()).numbers(starts, ends, np.ones(len(texts), dtype=bool))
    assert readable.all()
    expected = [float(json.loads(each)) for each in texts]
    assert found == pytest.approx(expected, rel=5e-16, abs=0, nan_ok=True)
    short = [len(each.lstrip("-")) <= 16 for each in texts]
    assert found[short].tolist() == pytest.approx(np.array(expected)[short].tolist(), rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    "text", ["1-2", "-", ".", "e", "1e", "--1", "1_0", "1.2.3", "", "x", "+-1", "1e5e5", "1 2", "null"]
)
def test_what_is_no_number_is_not_read(text: str) -> None:
    parsed = digits.Text(f"{text}\n".encode())
    _, readable = parsed.numbers(np.array([0]), np.array([len(text)]), np.array([True]))
    assert not readable.any()


def test_most_lines_are_not_read_one_by_one(tmp_path: Path, monkeypatch) -> None:
    read = []
    real = reading.parse
    monkeypatch.setattr(reading, "parse", lambda line: read.append(line) or real(line))
    path = tmp_path / "journal.jsonl"
    with path.open("w") as file:
        for step in range(1, 20_001):
            loss = "NaN" if step == 777 else -1 / step
            file.write(json.dumps({"step": step, "epoch": 1 + step // 1000, "loss": loss, "lr": 1e-05}) + "\n")
            if step % 100 == 0:
                file.write(json.dumps({"step": step, "val/loss": 1 / step}) + "\n")
        file.write("damaged\n")
    curves = Curves()
    assert curves.more(path)
    assert len(read) < 3 * bulk._FEW  # of 20,201: the damaged line, and forms of which a block has few lines
    assert (curves.by_name["loss"].count, curves.by_name["val/loss"].count, curves.broken) == (19_999, 200, 1)
    assert (curves.by_name["loss"].odd, curves.by_name["loss"].odd_at) == (1, 777)
    assert "epoch" not in curves.by_name


def test_the_first_value_that_is_no_number_is_kept() -> None:
    curve = Curve()
    for step in (7.0, 3.0, 9.0):
        curve.add(np.array([step, step + 0.0]), np.array([1.0, math.inf]))
    assert (curve.odd, curve.odd_at, curve.count) == (3, 3, 3)


def test_every_peak_stays_in_a_thinned_curve() -> None:
    chosen = np.random.default_rng(0)
    steps = np.arange(1.0, 200_001.0)
    values = chosen.normal(size=len(steps))
    peaks = chosen.choice(len(steps), 5, replace=False)
    values[peaks] = [50, -40, 30, -20, 25]
    curve = Curve()
    for begin in range(0, len(steps), 7_001):
        curve.add(steps[begin : begin + 7_001], values[begin : begin + 7_001])
    drawn_steps, drawn_values = curve.points()
    assert len(drawn_steps) <= 2 * thinning.RANGES + 1
    assert (np.diff(drawn_steps) > 0).all()
    drawn = dict(zip(drawn_steps.tolist(), drawn_values.tolist(), strict=True))
    assert all(drawn[steps[at]] == values[at] for at in peaks)
    assert all(values[int(step) - 1] == value for step, value in drawn.items())  # each is a value that was logged
    assert curve.count == 200_000
    assert curve.lowest == (steps[peaks[1]], -40)
    assert curve.highest == (steps[peaks[0]], 50)
    assert curve.last == (200_000, values[-1]) == (drawn_steps[-1], drawn_values[-1])
    mean_steps, means = curve.means()
    assert len(means) <= thinning.RANGES
    assert abs(means).max() < 2  # and not half of a peak
    assert means[0] == pytest.approx(values[: int(2 * mean_steps[0]) - 1].mean())
    coarse_steps, coarse = curve.points(50)
    assert len(coarse_steps) <= 101
    assert {50.0, -40.0} <= set(coarse.tolist())


def test_a_short_curve_is_complete_and_the_order_of_lines_does_not_matter() -> None:
    steps = np.array([5.0, 900.0, 7.0, 300.0, 1.0, 1000.0])
    curve, ordered = Curve(), Curve()
    for step in steps:
        curve.add(np.array([step]), np.array([step**2]))
    ordered.add(np.sort(steps), np.sort(steps) ** 2)
    for each in (curve, ordered):
        found = each.points()
        assert found[0].tolist() == sorted(steps)
        assert found[1].tolist() == [step**2 for step in sorted(steps)]
        assert each.means() is None
        assert each.last == (1000, 1_000_000)


def test_a_run_that_begins_late_keeps_its_steps() -> None:
    steps = np.arange(10**9, 10**9 + 500, dtype=float)
    curve = Curve()
    curve.add(steps, steps)
    assert curve.points()[0].tolist() == steps.tolist()
    curve.add(np.array([3.0]), np.array([-1.0]))  # a damaged journal
    assert curve.lowest == (3, -1)
    assert curve.points()[0][0] == 3


def test_a_curve_can_be_read_while_its_run_trains(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    live, whole = Curves(), Curves()
    assert not live.more(path)
    with path.open("a") as file:
        for step in range(1, 6001):
            file.write(f'{{"step": {step}, "loss": {math.sin(step)!r}}}\n')
            if step % 997 == 0:
                file.write('{"step": 1')
                file.flush()
                assert live.more(path)
                file.write('2, "odd": 1.0}\n')
    assert live.more(path)
    assert not live.more(path)
    assert whole.more(path)
    for name in whole.by_name:
        ours, theirs = live.by_name[name], whole.by_name[name]
        assert ours.count == theirs.count
        assert ours.points()[0].tolist() == theirs.points()[0].tolist()
        assert ours.points()[1] == pytest.approx(theirs.points()[1], rel=1e-14)


def test_metrics_beyond_the_bound_are_counted_and_not_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(thinning, "MOST_METRICS", 3)
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps({"step": 1, **{f"m{number}": number for number in range(5)}}) + "\n")
    curves = Curves({"m0": "renamed"})
    curves.more(path)
    assert list(curves.by_name) == ["renamed", "m1", "m2"]
    assert curves.left_out == {"m3", "m4"}


def test_a_line_that_never_ends_takes_no_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 50_000)
    monkeypatch.setattr(bulk, "SIZE", 10_000)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"step": 1, "a": 1.0}\n' + bytes(200_000) + b'\n{"step": 2, "a": 2.0}\n')
    curves = Curves()
    curves.more(path)
    assert curves.by_name["a"].points()[1].tolist() == [1, 2]
    assert curves.broken == 1
