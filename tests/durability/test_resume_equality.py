"""Interrupted and resumed equals uninterrupted, at atol 0: weights, optimizer, EMA, generators, position, journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outlast.errors import ConfigError, ResumeRefused
from tests import messages
from tests.durability.digits import final, train

VARIANTS = {
    "plain": {},
    "bf16": {"mixed_precision": True},
    "workers": {"num_workers": 2},
    "accumulated": {"accumulate": 2, "data__samples": "288"},
    "no-ema-no-augment": {"ema": 0, "data__augment": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_three_times_equals_never_stopped(tmp_path: Path, variant: str) -> None:
    flags = VARIANTS[variant]
    assert train(tmp_path / "twin", **flags) == "finished"
    for stop in (1, 6, 8):  # after the first step, in the middle of an epoch, at the end of one
        assert train(tmp_path / "cut", stop_after=stop, **flags) == "preempted"
    assert train(tmp_path / "cut", **flags) == "finished"
    assert final(tmp_path / "cut") == final(tmp_path / "twin")


def test_the_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    assert train(tmp_path / "none", num_workers=0) == "finished"
    assert train(tmp_path / "two", num_workers=2, stop_after=5) == "preempted"
    assert train(tmp_path / "two", num_workers=0) == "finished"
    assert final(tmp_path / "two") == final(tmp_path / "none")


def test_variants_differ(tmp_path: Path) -> None:
    """The equality above would mean nothing if the options did."""
    ends = set()
    for name, flags in VARIANTS.items():
        train(tmp_path / name, **flags)
        ends.add(final(tmp_path / name)["model.safetensors"])
    assert len(ends) == len(VARIANTS) - 1  # workers change nothing


def test_a_finished_run_can_be_extended(tmp_path: Path) -> None:
    """Warm-up to a constant rate would differ only in the schedule's length, so the rate is held: warmup 1 never
    decays."""
    assert train(tmp_path / "cut", epochs=2, warmup=0, learning_rate=0) == "finished"
    journal = (tmp_path / "cut/digits/journal.jsonl").read_text()
    assert "test_accuracy" in journal.splitlines()[-1]
    assert train(tmp_path / "cut", epochs=3, warmup=0, learning_rate=0) == "finished"
    assert train(tmp_path / "twin", epochs=3, warmup=0, learning_rate=0) == "finished"
    assert final(tmp_path / "cut") == final(tmp_path / "twin")
    assert (tmp_path / "cut/digits/journal.jsonl").read_text().count("test_accuracy") == 1


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    train(tmp_path)
    before = final(tmp_path)
    assert train(tmp_path) == "finished"
    assert final(tmp_path) == before


@pytest.mark.parametrize(("flag", "value"), [("model__width", 8), ("seed", 7), ("data__augment", False)])
def test_fixed_fields_are_refused(tmp_path: Path, flag: str, value: object) -> None:
    train(tmp_path, stop_after=2)
    with pytest.raises(ResumeRefused, match=flag.replace("__", r"\.")):
        train(tmp_path, **{flag: value})


def test_changed_learning_rate_is_used_and_said(tmp_path: Path) -> None:
    train(tmp_path, stop_after=5)
    assert train(tmp_path, learning_rate=0.5) == "finished"
    attempt = json.loads((tmp_path / "digits/attempts/0002.json").read_text())
    messages.said(attempt["told"], "config/changed-value", change="learning_rate 0.003 -> 0.5", origin=messages.ANY)
    rates = [json.loads(line).get("lr") for line in (tmp_path / "digits/journal.jsonl").read_text().splitlines()]
    assert (
        max(rate for rate in rates[:5] if rate is not None)
        <= 0.003
        < 0.1
        < max(rate for rate in rates[6:] if rate is not None)
    )


def test_seed_zero_is_a_seed(tmp_path: Path) -> None:
    train(tmp_path / "zero", seed=0)
    train(tmp_path / "default")
    assert final(tmp_path / "zero") != final(tmp_path / "default")
    with messages.raises(ConfigError, "config/batch-size-flag-too-small", value=0, least=1):
        train(tmp_path / "none", batch_size=0)
