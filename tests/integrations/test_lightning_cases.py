"""Scaler, averages, datamodule, files and metrics of Lightning: identical with the callback, not without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import messages
from tests.integrations import twins
from tests.integrations.test_lightning import LIGHTNING, with_lightning

import outlast
from outlast.errors import UsageError

twins.need(LIGHTNING, "torchmetrics")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises much
NAMES = ("scaler", "datamodule", "accumulation", "files", "metric", "limit", "average", "ema")
assert with_lightning  # a fixture, which is used by its name


@pytest.fixture(scope="module")
def cases(with_lightning: Any) -> Any:
    return twins.quietly_import("tests.integrations.with_lightning_cases")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_identical_with_it_and_not_without_it(name: str, cases: Any, tmp_path: Path) -> None:
    if name not in cases.CASES:
        pytest.skip("this Lightning has no such callback")

    def fit(run: outlast.Run, stops: twins.Stops) -> None:
        cases.fit(name, run, stops, tmp_path / "own")

    twin = twins.train(tmp_path / "twin", fit)
    stops = (2, 5, 8, 10) if name in ("files", "accumulation", "metric") else (3, 8)  # also within epochs
    assert twins.train(tmp_path / "cut", fit, stops) == twin
    own = tmp_path / "alone"
    plain = cases.alone(name, own)
    cases.alone(name, own, stop=4)
    assert (plain - cases.alone(name, own, resume=True)).abs().max() > 1e-4


def test_what_cannot_be_continued_is_refused(cases: Any, tmp_path: Path) -> None:
    given = cases.CASES["scaler"] | {"callbacks": lambda _: [cases.callbacks.StochasticWeightAveraging(0.01)]}
    cases.CASES["swa"] = given
    with outlast.open_run("r", root=tmp_path, progress="none") as run:
        with messages.raises(UsageError, "integrations/lightning-swa"):
            cases.fit("swa", run, twins.Stops(run, None), tmp_path / "own")
        run._loop.attempt.ranks.count = 2  # as if torchrun had started two
        with messages.raises(UsageError, "integrations/lightning-ranks", here=1, known=2):
            cases.fit("ema" if "ema" in cases.CASES else "scaler", run, twins.Stops(run, None), tmp_path / "own")
