"""A stop inside a validation: the next attempt repeats it and ends like its uninterrupted twin, journal included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import messages
from tests.counting import Counter, attempts
from torch.utils.data import TensorDataset

import outlast
from outlast.errors import SessionEnded, UsageError
from outlast.tracking import read

EPOCHS, BATCHES = 3, 4


class Training:
    """A small net with dropout and a loader; a validation that draws from every generator and swaps weights for a
    while."""

    def __init__(self, opened: Callable, root: Path, loop: str, stop: tuple[int, int] | None = None, **options) -> None:
        outlast.seed_everything(0)
        data = torch.randn(16, 4)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.3), torch.nn.Linear(4, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.loader = outlast.DataLoader(TensorDataset(data), batch_size=4)
        self.held_out = outlast.DataLoader(TensorDataset(data), batch_size=4, shuffle=True)
        self.stop, self.validations, self.heard = stop, 0, 0
        self.options = {
            "root": root,
            "save": "never",
            "keep": outlast.Retention(last=9, best=1, metric="val", mode="min"),
            **options,
        }
        self.open, self.loop = opened, loop

    def step(self, batch: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss = self.model(batch).square().mean()
        loss.backward()
        self.optimizer.step()
        self.run.log(loss=loss)

    def validate(self) -> dict[str, float]:
        self.validations += 1
        self.model.eval()
        before = [parameter.clone() for parameter in self.model.parameters()]
        try:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.mul_(0.5)
                total = np.random.rand() + torch.rand(()).item()
                for number, (batch,) in enumerate(self.run.evaluate(self.held_out)):
                    self.heard = number
                    total += float(self.model(batch).sum())
                    self.run.log(part=total)
                    if self.stop == (self.run.step // BATCHES, number):
                        self.run.session.request_stop("preempted", "a test asks")
        finally:
            with torch.no_grad():
                for parameter, old in zip(self.model.parameters(), before, strict=True):
                    parameter.copy_(old)
            self.model.train()
        return {"val": total}

    def train(self) -> Training:
        total = None if self.loop == "batches" else EPOCHS * BATCHES
        with self.open(total_steps=total, **self.options) as self.run:
            self.run.validate(self.validate, "4 steps" if self.loop == "steps" else "1 epoch")
            self.run.track(model=self.model, optimizer=self.optimizer, data=self.loader)
            if self.loop == "batches":
                for (batch,) in self.run.batches(self.loader, epochs=EPOCHS):
                    self.step(batch)
            elif self.loop == "steps":
                for _ in self.run.steps():
                    self.step(next(self.loader)[0])
            else:
                self.run.begin()
                while not self.run.finished:
                    self.run.log(step=self.run.step + 1)
                    self.step(next(self.loader)[0])
                    if self.run.after_step(epoch_ended=self.run.step % BATCHES == 0):
                        break
        return self

    @property
    def end(self) -> list[torch.Tensor]:
        return [
            *self.model.state_dict().values(),
            torch.get_rng_state(),
            torch.tensor(np.random.get_state()[1].astype(np.int64)),
        ]


@pytest.mark.parametrize("loop", ["batches", "steps", "begin"])
@pytest.mark.parametrize("stop", [(1, 0), (2, 2), (3, 1)])
def test_a_validation_that_was_cut_is_repeated(loop: str, stop: tuple[int, int], opened, tmp_path: Path) -> None:
    twin = Training(opened, tmp_path / "twin", loop).train()
    twin_end = twin.end
    cut = Training(opened, tmp_path / "cut", loop, stop)
    with pytest.raises(SessionEnded):
        cut.train()
    assert cut.heard == stop[1], "the stop was heard before the next batch"
    resumed = Training(opened, tmp_path / "cut", loop).train()
    assert resumed.run.resumed_from == stop[0] * BATCHES
    assert resumed.validations == EPOCHS - stop[0] + 1
    assert all(torch.equal(one, two) for one, two in zip(twin_end, resumed.end, strict=True))
    one, two = (tmp_path / name / "r/journal.jsonl" for name in ("twin", "cut"))
    assert one.read_bytes() == two.read_bytes()
    assert [a["end"]["reason"] for a in attempts(tmp_path / "cut")] == ["preempted", "finished"]
    assert [a["end"]["step"] for a in attempts(tmp_path / "cut")] == [stop[0] * BATCHES, EPOCHS * BATCHES]
    assert sum("val" in line for line in read(two)) == EPOCHS


def test_should_stop_inside_a_validation_leaves_it_pending_too(opened, tmp_path: Path) -> None:
    def train(stop: bool) -> list[int]:
        done = []
        with opened(total_steps=4, save="never") as run:
            run.track(counter=Counter())

            def validate() -> dict[str, float]:
                if stop and run.step == 2:
                    run.session.request_stop("budget", "test")
                if run.should_stop():
                    return {"val": -1.0}  # what it has until now
                return {"val": run.step}

            run.validate(validate, "1 step")
            for step in run.steps():
                done.append(step)
        return done

    with pytest.raises(SessionEnded):
        train(stop=True)
    assert train(stop=False) == [3, 4]
    assert [line["val"] for line in read(tmp_path / "r/journal.jsonl")] == [1, 2, 3, 4]


def test_a_validation_that_leaves_the_state_changed_is_not_saved(opened, tmp_path: Path) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=4, save="1 steps", background=False) as run:
        run.track(counter=(counter := Counter()))

        def validate() -> None:
            counter.value = 100  # averaged weights, and no `finally`
            if run.step == 3:
                run.session.request_stop("budget", "test")
            for _ in run.evaluate([1, 2]):
                pass
            counter.value = run.step

        run.validate(validate, "1 step")
        for step in run.steps():
            counter.value = step
    told = attempts(tmp_path)[0]["told"]
    messages.said(told[0], "run/validation-left-a-change")
    messages.said(told[1], "run/step-is-saved", step=2)
    with opened(total_steps=4) as run:
        run.track(counter=counter)
        assert counter.value == 2


def test_evaluate_in_the_body_of_a_loop_ends_the_session_at_the_last_save(opened, tmp_path: Path) -> None:
    seen = []
    with pytest.raises(SessionEnded) as caught, opened(total_steps=9, save="2 steps", background=False) as run:
        run.track(counter=Counter())
        for step in run.steps():
            for number in run.evaluate(range(5)):
                seen.append(number)
                if step == 3 and number == 1:
                    run.session.request_stop("preempted", "test")
    assert caught.value.code == 75
    assert seen == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    (record,) = attempts(tmp_path)
    assert record["end"]["reason"] == "preempted"
    messages.said(record["told"][-1], "run/step-is-saved", step=2)
    with opened(total_steps=9) as run:
        assert run.resumed_from == 2


def test_a_budget_shorter_than_the_validation_does_not_stand_still(opened, tmp_path: Path) -> None:
    def train() -> int:
        with opened(total_steps=2, save="never") as run:
            run.track(counter=Counter())

            def validate() -> None:
                run.session.request_stop("budget", "test")
                for _ in run.evaluate([1, 2]):
                    pass

            run.validate(validate, "1 step")
            for _ in run.steps():
                pass
        return run.step

    for _ in range(2):
        with pytest.raises(SessionEnded):
            train()
    assert train() == 2
    assert [a["end"]["step"] for a in attempts(tmp_path)] == [1, 2, 2]


def test_misuse_of_validate_is_a_sentence(opened, tmp_path: Path) -> None:
    with opened(total_steps=2) as run:
        for wrong in ("10m", "auto", "never", 5, "often"):
            with messages.raises(UsageError, "run/validate-every", given=f"{wrong!r}"):
                run.validate(print, wrong)
        with messages.raises(UsageError, "run/expected-function"):
            run.validate(3)
        run.validate(dict)
        with messages.raises(UsageError, "run/called-twice"):
            run.validate(dict)
        run.track(counter=Counter())
        next(run.steps())
        with messages.raises(UsageError, "run/after-the-loop-began", words="validate() was called"):
            run.validate(dict)


@pytest.mark.parametrize(("loader", "words"), [(None, "None"), (3, "a int"), (Counter(), "a Counter")])
def test_evaluate_wants_a_loader(opened, loader, words: str) -> None:
    with opened() as run, messages.raises(UsageError, "run/evaluate-was-given-expected-loader", words=words):
        next(run.evaluate(loader))


def test_an_error_of_the_loaders_own_is_left_as_it_is(opened) -> None:
    class Wrong:
        def __iter__(self):
            raise TypeError("of the loader")

    with opened() as run, pytest.raises(TypeError, match="of the loader"):
        next(run.evaluate(Wrong()))
