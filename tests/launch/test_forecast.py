"""What a measurement here says of a provider's sessions, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from outlast.launch import forecast
from outlast.launch.forecast import Need
from outlast.launch.gcp.terms import GcpTerms
from outlast.launch.kaggle.terms import KaggleTerms
from outlast.launch.local.provider import LocalProvider
from outlast.launch.provider import Capabilities, Limits, Terms
from outlast.recipe.measuring import Measured
from tests import messages

FOUND = Measured(
    "ok",
    start=8.0,
    first=2.0,
    steps=(0.1, 0.1, 0.4),
    total=1000,
    memory=10**9,
    checkpoint=10**8,
    save=2.0,
    software={"torch device": "cpu"},
)
NEED = Need(1000, 4, "auto", remote=False, failure_seconds=86400.0)
HERE, ELSEWHERE = Limits(115.0, here=True), Limits(43200.0, 1200.0, accelerator="t4x2", metered="GPU", disk=20 * 10**9)
KNOWN = Capabilities(inputs="completed")


def said(limits: Limits, need: Need = NEED, found: Measured = FOUND, known: Capabilities = KNOWN) -> tuple:
    numbers = forecast.reckon(found, limits, limits.session - limits.overhead, need)
    rows = list(forecast.there(found, limits, known, "Place", need, numbers))
    return numbers, rows, " ".join(words for _, _, words in rows)


def test_sessions_on_this_machine_are_counted() -> None:
    numbers, rows, words = said(HERE)
    # 115 s less 10 s for start and first step, less 5 s for the last save, are 1000 steps of 0.1 s.
    assert (numbers.step, numbers.steps_per_session, numbers.sessions) == (0.1, 1000, 1)
    assert numbers.disk == 5 * 10**8
    assert "1,000 in a session at most, with 100 ms a step (as measured here)" in words
    assert {mark for mark, _, _ in rows} == {"ok", "-"}
    assert said(HERE, replace(NEED, left=1001))[0].sessions == 2


def test_a_step_here_says_nothing_of_another_machine() -> None:
    numbers, rows, words = said(ELSEWHERE)
    assert (numbers.step, numbers.steps_per_session, numbers.sessions) == (None, None, None)
    assert numbers.slowest == pytest.approx((42000 - 15) / 1000)
    assert "a step was timed on cpu of this machine, which says nothing of t4x2" in words
    assert "fit into 1 session if a step takes 42 s at most there" in words
    assert ("-", "memory there") in {row[:2] for row in rows}


def test_a_time_that_the_user_states_is_used_and_named() -> None:
    numbers, _, words = said(ELSEWHERE, replace(NEED, stated=100.0))
    assert (numbers.steps_per_session, numbers.sessions) == (419, 3)
    assert "as you state" in words


def test_sessions_in_which_no_step_fits_are_a_problem() -> None:
    _, rows, words = said(Limits(16.0, here=True), found=replace(FOUND, steps=(9.0,)))
    assert ("!", "steps there") in {row[:2] for row in rows}
    assert "no step fits into a session: one takes 9 s" in words


def test_checkpoints_that_the_disk_does_not_hold_are_a_problem() -> None:
    _, rows, words = said(ELSEWHERE, found=replace(FOUND, checkpoint=4 * 10**9))
    assert ("!", "disk there") in {row[:2] for row in rows}
    assert "20.0 GB at most, of 20.0 GB. Keep fewer: --keep-last 2" in words


@pytest.mark.parametrize(
    ("every", "limits", "seconds"),
    [
        ("auto", replace(HERE, session=3600.0), (2 * 2.0 * 86400.0) ** 0.5 + 2.0 + 0.1),
        ("auto", HERE, 115.0),  # all of a session that is shorter than the time between two saves
        ("10m", HERE, 115.0),
        ("auto", ELSEWHERE, 900.0 + 2.0),
        ("10m", ELSEWHERE, 602.0),
        ("500 steps", HERE, 50.0 + 2.0 + 0.1),
        ("500 steps", ELSEWHERE, None),
        ("10m, 500 steps", HERE, 52.1),
        ("1 epoch", HERE, None),
        ("never", HERE, None),
    ],
)
def test_what_is_lost_at_worst(every: str, limits: Limits, seconds: float | None) -> None:
    numbers, _, words = said(limits, replace(NEED, save_every=every))
    assert numbers.lost == (None if seconds is None else pytest.approx(seconds))
    assert f"save_every is {every}" in words


def test_where_files_are_lost_a_remote_is_named() -> None:
    assert "--remote keeps a copy" in said(ELSEWHERE)[2]
    assert "--remote" not in said(ELSEWHERE, replace(NEED, remote=True))[2]
    assert "--remote" not in said(HERE, known=Capabilities(folders=True))[2]


def test_a_finished_run_needs_no_session() -> None:
    _, rows, _ = said(HERE, replace(NEED, left=0))
    assert ("ok", "sessions", "none: all steps are done") in rows


def test_nothing_is_invented_of_a_run_without_a_total() -> None:
    numbers, _, words = said(HERE, replace(NEED, left=None))
    assert numbers.sessions is None
    assert "the recipe does not say how many steps it makes" in words


def test_ranks_that_were_measured_are_those_of_a_session() -> None:
    numbers, rows, words = said(replace(HERE, gpus=2), replace(NEED, ranks=2), replace(FOUND, ranks=2))
    assert numbers.step == 0.1
    assert ("ok", "ranks there", "2, as measured here") in rows
    assert "the same machine: 1.0 GB at most" in words
    assert "2 ranks together, on cpu: first step" in " ".join(row[2] for row in forecast.here(replace(FOUND, ranks=2)))
    assert "ranks" not in said(HERE)[2]


def test_a_step_of_one_rank_says_nothing_of_two() -> None:
    numbers, rows, words = said(HERE, replace(NEED, ranks=2))
    assert (numbers.step, numbers.sessions) == (None, None)
    assert "a step was timed with 1 of the ranks of a session, not with all of them" in words
    assert "the same machine, but not the same ranks: 1 took 1.0 GB" in words
    assert {mark for mark, _, _ in rows} == {"ok", "-"}
    messages.said(words_of(rows, "ranks there"), "launch/ranks-not-measured", ranks=2, where="this machine")
    assert said(HERE, replace(NEED, ranks=2, stated=0.5))[0].step == 0.5


def test_where_the_number_of_ranks_is_not_known_that_is_said() -> None:
    rows = said(ELSEWHERE, replace(NEED, ranks=None))[1]
    messages.said(words_of(rows, "ranks there"), "launch/ranks-not-known")


def words_of(rows: list, name: str) -> list[str]:
    return [words for _, title, words in rows if title == name]


@pytest.mark.parametrize(
    ("gpus", "several", "ranks"), [(2, True, 2), (2, False, 1), (0, True, 1), (1, True, 1), (None, True, None)]
)
def test_ranks_of_a_session(gpus: int | None, several: bool, ranks: int | None) -> None:
    assert Limits(1.0, gpus=gpus).ranks(several=several) == ranks


def test_providers_know_their_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlast.launch.local.provider.gpus", lambda: ("one", "two"))
    assert LocalProvider(tmp_path).limits(Terms()).gpus == 2
    kaggle = {name: KaggleTerms.of(Terms(options={"accelerator": name})).limits for name in ("t4x2", "tpu", "cpu")}
    assert {name: limits.gpus for name, limits in kaggle.items()} == {"t4x2": 2, "tpu": 0, "cpu": 0}
    assert GcpTerms.of(Terms(options={"gpu": "nvidia-tesla-t4:4"})).limits.gpus == 4
    assert GcpTerms.of(Terms(options={"gpu": "nvidia-l4"})).limits.gpus == 1
    assert GcpTerms.of(Terms()).limits.gpus is None, "some machines have GPUs of their own"


def test_what_was_not_measured_is_a_problem() -> None:
    marks = [mark for mark, _, _ in forecast.here(replace(FOUND, why="memory", words="too much"))]
    assert marks[0] == "!"
    assert "!" in [mark for mark, _, _ in forecast.here(replace(FOUND, checkpoint=None))]
    assert {mark for mark, _, _ in forecast.here(FOUND)} == {"ok", "-"}
