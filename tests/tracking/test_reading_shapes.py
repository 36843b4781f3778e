"""The last values of a journal: lines of known names are passed over, as if all were parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.tracking import reading
from outlast.tracking.reading import latest

NAMES = st.sampled_from(["loss", "loss2", "lo", 'qu"ote', "ü", "step2", "val\\"])
VALUES = st.one_of(st.integers(-5, 5), st.none(), st.sampled_from(["", "a", "NaN"]), st.just('"loss":'))
LINES = st.lists(
    st.one_of(
        st.builds(lambda step, more: {"step": step, **more}, st.integers(0, 50), st.dictionaries(NAMES, VALUES)),
        st.sampled_from(
            ["{broken", '{"loss": 1}', '{"step": 3, "loss": }', "[1]", '{"step": 1, "loss": 1, "loss": 2}']
        ),
    ),
    max_size=12,
)


def plainly(path: Path, most: int) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading._Shape, "is_of", lambda *_: False)
        return repr(latest(path, most=most))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal")


@given(lines=LINES)
def test_nothing_is_missed(place: Path, lines: list[Any]) -> None:
    path = place / "journal.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    for most in (1, 40, reading.TAIL):
        assert repr(latest(path, most=most)) == plainly(path, most)


def test_lines_of_known_names_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(f'{{"step": {step}, "loss": 0.5, "lr": 0.1}}\n' for step in range(1, 20_000)))
    parsed = []
    real = reading._object
    monkeypatch.setattr(reading, "_object", lambda line: parsed.append(line) or real(line))
    found = latest(path)
    assert found.last == {"loss": (19_999, 0.5), "lr": (19_999, 0.1)}
    assert len(parsed) == 2, "the last line, and the first that was looked at"
