"""Loaders in run.batches: outlast's own and those of other libraries, stopped and resumed."""

from __future__ import annotations

import json
import random
import sys

import numpy as np
import pytest
import torch
from tests import messages
from torch.utils import data
from torchdata.stateful_dataloader import StatefulDataLoader

import outlast
from outlast.data import foreign
from outlast.errors import DataError, ResumeRefused, StateError, UsageError


class Numbers(data.IterableDataset):
    """A stream with a position of its own, of which each worker gives its share."""

    def __init__(self, length: int = 20, *, split: bool = True) -> None:
        self.at, self.length, self.split = 0, length, split

    def __iter__(self):
        info = data.get_worker_info()
        mine, count = (info.id, info.num_workers) if info and self.split else (0, 1)
        while self.at * count + mine < self.length:
            self.at += 1
            yield torch.tensor((self.at - 1) * count + mine)
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state) -> None:
        self.at = state["at"]


class Counted(Numbers):
    def __len__(self) -> int:
        return self.length


class Stream:
    """A loader that is none of torch's, without a length, with noise from the global generators."""

    def __init__(self, length: int = 5) -> None:
        self.at, self.length, self.epochs = 0, length, []

    def __iter__(self):
        while self.at < self.length:
            self.at += 1
            yield np.array([self.at - 1, random.random()])
        self.at = 0

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    state_dict = Numbers.state_dict
    load_state_dict = Numbers.load_state_dict


class Living(Stream):
    """A loader whose state is not a copy but the dict that it counts in, as that of litdata."""

    def __init__(self, length: int = 5) -> None:
        self.counts = {"at": [0]}
        super().__init__(length)

    at = property(lambda self: self.counts["at"][0], lambda self, value: self.counts["at"].__setitem__(0, value))

    def state_dict(self):
        return self.counts

    def load_state_dict(self, state) -> None:
        self.at = state["at"][0]


class Session:
    """Attempts of one run; each remembers what it saw and was told."""

    def __init__(self, root, here) -> None:
        self.root, self.here, self.told, self.run, self.ends = root, here, [], None, []

    def train(
        self, loader, *, stop: int | None = None, epochs: int = 3, name: str = "r", leave: int | None = None, **options
    ):
        outlast.seed_everything(1)
        seen, taken, self.ends = [], 0, []
        try:
            with outlast.open_run(name, root=self.root, progress="none", environment=self.here) as run:
                self.run = run
                run.track(model=torch.nn.Linear(1, 1))
                for batch in run.batches(loader, epochs=epochs, **options):
                    taken += 1
                    seen.append(
                        (run.step, run.epoch, run.update_due, np.asarray(batch).tolist(), torch.rand(()).item())
                    )
                    if run.epoch_end:
                        self.ends.append(run.step)
                    if taken == stop:
                        run.session.request_stop("preempted", "test")
                    if taken == leave:
                        break
        except outlast.SessionEnded:
            pass
        record = max((self.root / name / "attempts").glob("*.json"))
        self.record = json.loads(record.read_text())
        self.told = self.record["told"]
        return seen


@pytest.fixture
def session(tmp_path, here) -> Session:
    return Session(tmp_path, here)


LOADERS = {
    "a stream with a state, 0 workers": lambda: StatefulDataLoader(Counted(), 4),
    "a stream with a state, 2 workers": lambda: StatefulDataLoader(Counted(), 2, num_workers=2),
    "a stream without a length, 0 workers": lambda: StatefulDataLoader(Numbers(), 4),
    "a stream without a length, 2 workers": lambda: StatefulDataLoader(Numbers(18), 2, num_workers=2),
    "a loader of nobody's, without a length": Stream,
    "a loader that gives its state away, without a length": Living,
    "single samples of outlast's": lambda: outlast.DataLoader(torch.arange(5), None),
    "outlast's sampler": lambda: outlast.BatchSampler(20, 4, weights=range(20)),
    "batches in sequence": lambda: StatefulDataLoader(
        torch.arange(20), batch_sampler=data.BatchSampler(data.SequentialSampler(range(20)), 4, False)
    ),
}


# Workers take long to start, so they are stopped once, in an epoch after the first: ten batches make one there.
STOPS = [(kind, stop) for kind in LOADERS for stop in ([13] if "2 workers" in kind else [3, 5, 7])]


@pytest.mark.parametrize(("kind", "stop"), STOPS)
def test_a_resumed_loader_gives_what_the_twin_gets(session: Session, kind: str, stop: int) -> None:
    twin = session.train(LOADERS[kind](), name="twin")
    ends = session.ends
    assert len(twin) == len({step for step, *_ in twin})
    head = session.train(LOADERS[kind](), stop=stop)
    assert len(head) == stop
    assert head + session.train(LOADERS[kind]()) == twin
    assert ends[-1] == len(twin)
    assert len(ends) == 3
    assert session.record["end"]["reason"] == "finished"


def test_set_epoch_receives_the_epoch(session: Session) -> None:
    session.train(first := Stream(), stop=7)
    session.train(second := Stream())
    assert first.epochs == [0, 1]
    assert second.epochs == [1, 2]


def test_updates_over_a_loader_without_a_length(session: Session) -> None:
    seen = session.train(Stream(), accumulate=2, epochs=2)
    assert [(step, epoch, due) for step, epoch, due, *_ in seen] == [
        *[(1, 1, False), (1, 1, True), (2, 1, False), (2, 1, True), (3, 1, True)],
        *[(4, 2, False), (4, 2, True), (5, 2, False), (5, 2, True), (6, 2, True)],
    ]
    assert session.run.total_steps == 6


def test_a_longer_run_continues_with_a_loader_without_a_length(session: Session) -> None:
    head = session.train(Stream(), epochs=1)
    assert head + session.train(Stream(), epochs=2) == session.train(Stream(), epochs=2, name="twin")


# refused, and by which name ----------------------------------------------------------------------------------------


def over_batches(sampler):
    return lambda: StatefulDataLoader(torch.arange(20), batch_sampler=data.BatchSampler(sampler(), 4, False))


REFUSED = {
    "torch's batch sampler": over_batches(lambda: data.RandomSampler(range(20))),
    "with a generator": over_batches(lambda: data.RandomSampler(range(20), generator=torch.Generator())),
    "by weight": over_batches(lambda: data.WeightedRandomSampler([1.0] * 20, 20)),
    "of two samples": over_batches(lambda: data.SubsetRandomSampler([0, 1])),
    "a sampler without a state": lambda: StatefulDataLoader(
        torch.arange(20), 4, sampler=data.WeightedRandomSampler([1.0] * 20, 20)
    ),
    "somebody's own": lambda: StatefulDataLoader(torch.arange(20), batch_sampler=Shuffling()),
}


class Shuffling:
    def __iter__(self):
        order = np.random.permutation(20)
        return iter(order.reshape(5, 4).tolist())

    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize("kind", REFUSED)
def test_a_count_without_an_order_is_refused_before_the_first_step(session: Session, kind: str) -> None:
    with messages.raises(StateError, "data/count-of-samples-and-no-order", sampler=messages.ANY):
        session.train(REFUSED[kind]())
    assert session.run.step == 0


def test_batches_as_workers_finish_them_are_refused(session: Session) -> None:
    with messages.raises(StateError, "data/in-order-false"):
        session.train(StatefulDataLoader(torch.arange(20), 4, num_workers=1, in_order=False))


def test_a_loader_that_is_looked_at_is_not_moved(session: Session) -> None:
    """Finding out whether a sampler has a state must not draw from its generator."""
    twin = [batch.tolist() for batch in StatefulDataLoader(torch.arange(20), 4, sampler=own_order())]
    assert [
        batch for *_, batch, _ in session.train(StatefulDataLoader(torch.arange(20), 4, sampler=own_order()), epochs=1)
    ] == twin


def own_order():
    from torchdata.stateful_dataloader.sampler import RandomSampler

    return RandomSampler(range(20), generator=torch.Generator().manual_seed(4))


class Faulty(Stream):
    """A loader whose len() is wrong."""

    def __init__(self, length: int, says: int) -> None:
        super().__init__(length)
        self.says = says

    def __len__(self) -> int:
        return self.says


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (lambda: Faulty(3, 5), messages.says("run/ended-after-batches-of-epoch", batches=3, epoch=1, number=5)),
        (lambda: Faulty(5, 3), messages.says("data/more-batches-in-epoch", epoch=1, number=3)),
        (lambda: Faulty(0, 0), messages.says("data/faulty-has-no-batch-its-len", number=0)),
        (lambda: Stream(0), messages.says("data/stream-gave-no-batch-in-epoch", epoch=1)),
        (
            lambda: StatefulDataLoader(Counted(8, split=False), 2, num_workers=2),
            messages.says("data/more-batches-in-epoch-2", epoch=1, number=4, workers=2),
        ),
    ],
)
def test_a_length_that_is_wrong(session: Session, loader, words: str) -> None:
    with messages.raises(DataError, words):
        session.train(loader())


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("epochs", 1.5), ("accumulate", 0), ("accumulate", "2")])
def test_counts_that_cannot_be(session: Session, name: str, value) -> None:
    with messages.raises(UsageError, "run/it-counts", name=name, value=f"{value!r}", what=messages.ANY):
        session.train(Stream(), **{name: value})


# changed between two attempts --------------------------------------------------------------------------------------


def changed(batch_size: int = 4, length: int = 20, drop_last: bool = False):
    return StatefulDataLoader(torch.arange(length), batch_size, drop_last=drop_last)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 5}, "batch_size of the data loader was 4 and is 5"),
        ({"length": 24}, "batches of the data loader was 5 and is 6"),
        ({"length": 19}, "samples of the data loader was 20 and is 19"),
        ({"drop_last": True}, "drop_last of the data loader was False and is True"),
    ],
)
def test_another_loader_is_refused_in_an_epoch_and_told_between_two(
    session: Session, options: dict, words: str
) -> None:
    session.train(changed(), stop=7)
    with messages.raises(ResumeRefused, "data/another-loader", words=words, batch=2, epoch=2):
        session.train(changed(**options))
    session.train(changed(), stop=3)  # to the end of the second epoch
    session.train(changed(**options))
    other = {"name": messages.ANY, "now": messages.ANY, "before": messages.ANY}
    messages.said(session.told, "data/another-loader-from-an-epoch-on", epoch=3, **other)


def test_another_accumulation_in_an_epoch_loses_no_batch(session: Session) -> None:
    def make():
        return outlast.DataLoader(torch.arange(40), 4)

    head = session.train(make(), stop=4, accumulate=2, epochs=1)
    tail = session.train(make(), accumulate=5, epochs=1)
    assert sorted(index for *_, batch, _ in head + tail for index in batch) == list(range(40))
    assert [step for step, *_ in tail] == [3, 3, 3, 3, 3, 4]
    assert session.run.total_steps == session.run.step == 4
    messages.said(session.told, "data/update-takes-batches-from-here", batches=5, took=2)


def test_a_changed_order_between_two_epochs_is_reported(session: Session) -> None:
    session.train(outlast.DataLoader(torch.arange(8), 4), stop=2)
    session.train(outlast.DataLoader(torch.arange(12), 4, weights=torch.ones(12)))
    changed = messages.says("data/the-order-has-changed", how=messages.ANY, epoch=2, before=messages.ANY)
    assert messages.times_said(session.told, changed) == 3  # length, shuffle, sampler


@pytest.mark.parametrize("workers", [(2, 0), (0, 2), (2, 1)])
def test_another_number_of_torchdatas_workers(session: Session, workers: tuple[int, int]) -> None:
    def make(count: int):
        return StatefulDataLoader(torch.arange(20), 4, num_workers=count)

    session.train(make(workers[0]), stop=2)
    with messages.raises(
        ResumeRefused, "data/had-num-workers-when-it-was-saved", worker=workers[0], worker2=workers[1]
    ):
        session.train(make(workers[1]))


def test_a_checkpoint_of_before_continues(session: Session, monkeypatch) -> None:
    """Earlier versions kept nothing of the loader besides its state, and told nobody which epoch runs."""
    monkeypatch.setattr("outlast.data.feed.Feed.facts", lambda self, accumulate: {})
    head = session.train(changed(), stop=7)
    state = json.loads((session.root / "r/checkpoints/step-00000007/state.json").read_text())
    assert "batches" not in state
    monkeypatch.undo()
    assert head + session.train(changed()) == session.train(changed(), name="twin")


# exact or not ------------------------------------------------------------------------------------------------------


class Noisy(data.Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int):
        return torch.tensor([index, torch.rand(()).item()])


def test_random_numbers_of_torchdatas_workers_lower_the_grade(session: Session) -> None:
    def make():
        return StatefulDataLoader(Noisy(), 2, num_workers=2)

    twin = session.train(make(), name="twin", epochs=2)
    session.train(make(), stop=2, epochs=2)
    session.train(make(), stop=2, epochs=2)
    assert session.record["resume"]["grade"] == "not to the last bit"
    messages.said(session.record["resume"]["differences"][0], "data/workers-draw-augmentation-begin-anew", workers=2)
    tail = session.train(make(), epochs=2)  # from the end of an epoch, where new workers begin in the twin as well
    assert session.record["resume"]["grade"] == "exact"
    assert tail == twin[4:]


@pytest.mark.parametrize(
    ("options", "epoch_ended", "words"),
    [
        (
            {"num_workers": 1, "persistent_workers": True},
            True,
            messages.says("data/foreign-workers-start-over", workers=1),
        ),
        ({"num_workers": 1, "persistent_workers": False}, True, None),
        ({"generator": torch.Generator()}, True, messages.says("data/foreign-later-epochs")),
        ({"generator": torch.Generator()}, False, messages.says("data/foreign-later-epochs")),
        ({}, False, None),
    ],
)
def test_options_that_torchdata_does_not_store_are_compared(options: dict, epoch_ended: bool, words) -> None:
    found = foreign.inexact(StatefulDataLoader(Noisy(), 2, shuffle=True, **options), in_epoch=not epoch_ended)
    assert len(found) == (words is not None)
    if words is not None:
        messages.said(found, words)


def test_loops_that_take_batches_themselves_look_at_their_loaders_too(tmp_path, here) -> None:
    def attempt(loader, stop=None):
        with outlast.open_run("r", root=tmp_path, progress="none", environment=here, total_steps=3) as run:
            run.track(data=loader)
            for step in run.steps():
                next(iter(loader))
                if step == stop:
                    run.session.request_stop("preempted", "test")
        return json.loads(max((tmp_path / "r/attempts").glob("*.json")).read_text())

    with messages.raises(StateError, "data/count-of-samples-and-no-order", sampler="BatchSampler over RandomSampler"):
        attempt(REFUSED["torch's batch sampler"]())
    with pytest.raises(outlast.SessionEnded):
        attempt(StatefulDataLoader(Noisy(), 2, num_workers=1), 1)
    assert attempt(StatefulDataLoader(Noisy(), 2, num_workers=1))["resume"]["grade"] == "not to the last bit"


def test_two_loaders_and_one_that_is_tracked_twice(tmp_path, here) -> None:
    def attempt(name: str, stop: int | None = None) -> list:
        one, two = outlast.DataLoader(torch.arange(20), 4), outlast.DataLoader(torch.arange(9), 3, seed=1)
        seen = []
        try:
            with outlast.open_run(name, root=tmp_path, progress="none", environment=here) as run:
                run.track(one=one, two=two, again=one)
                for batch in run.batches(one, epochs=2):
                    seen.append((batch.tolist(), next(two).tolist()))
                    if len(seen) == stop:
                        run.session.request_stop("preempted", "test")
        except outlast.SessionEnded:
            pass
        return seen

    assert attempt("cut", 7) + attempt("cut") == attempt("twin")


# moved from outside ------------------------------------------------------------------------------------------------

OWN = {
    "loader": lambda: outlast.DataLoader(torch.arange(20), 4),
    "sampler": lambda: outlast.BatchSampler(20, 4),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("way", [next, list, lambda loader: next(iter(loader))])
def test_no_other_consumer_takes_batches_during_the_loop(tmp_path, here, kind: str, way) -> None:
    loader = OWN[kind]()
    with outlast.open_run("r", root=tmp_path, progress="none", environment=here) as run:
        for _ in run.batches(loader, epochs=1):
            with messages.raises(UsageError, "data/run-batches-goes-through-this-loader"):
                way(loader)
    assert len(list(loader)) == 5  # afterwards anybody may


@pytest.mark.parametrize("kind", OWN)
def test_a_batch_looked_at_before_the_loop_is_not_lost(session: Session, kind: str) -> None:
    twin = session.train(OWN[kind](), name="twin")
    next(iter(loader := OWN[kind]()))
    head = session.train(loader, stop=7)
    messages.said(session.told, "data/position-is-restored")

    with outlast.open_run("r", root=session.root, progress="none", environment=session.here) as run:
        outlast.seed_everything(1)
        run.track(model=torch.nn.Linear(1, 1), data=(loader := OWN[kind]()))
        list(loader)  # the rest of the epoch
        tail = [np.asarray(batch).tolist() for batch in run.batches(loader, epochs=3)]
    assert [batch for *_, batch, _ in head] + tail == [batch for *_, batch, _ in twin]


@pytest.mark.parametrize("kind", OWN)
def test_batches_of_a_step_that_was_not_made_come_again(session: Session, kind: str) -> None:
    """`break` in the middle of an accumulation, and a longer run later."""
    head = session.train(OWN[kind](), epochs=1, accumulate=2, leave=3)
    tail = session.train(OWN[kind](), epochs=2, accumulate=2)
    twin = session.train(OWN[kind](), epochs=2, accumulate=2, name="twin")
    assert [batch for *_, batch, _ in head[:2] + tail] == [batch for *_, batch, _ in twin]


def test_lost_batches_are_reported(session: Session) -> None:
    session.train(changed(), epochs=1, accumulate=2, leave=3)
    messages.said(session.told, "data/left-batches-into-step", batches=1)


@pytest.mark.parametrize(
    "make", [*OWN.values(), changed, lambda: StatefulDataLoader(torch.arange(20), 4, shuffle=True)]
)
def test_a_run_left_in_the_last_batch_of_an_epoch_continues_with_the_next(session: Session, make) -> None:
    """All were given, and the loader had no chance to notice."""
    session.train(make(), leave=5)
    tail = session.train(make(), epochs=2)
    assert [(step, epoch) for step, epoch, *_ in tail] == [(step, 2) for step in range(6, 11)]
    assert sorted(index for *_, batch, _ in tail for index in batch) == list(range(20))


# as Hugging Face's datasets 5.2 does (tried with the real one: docs/explanation/what-libraries-forget.md) -------------


class Sticky:
    """A state stays for every later pass until set_epoch, and one of another epoch is dropped."""

    def __init__(self) -> None:
        self.epoch, self.at, self.start = 0, 0, None

    def set_epoch(self, epoch: int) -> None:
        if self.start and self.start["epoch"] != epoch:
            self.start = None
        self.epoch = epoch

    def __iter__(self):
        order = np.random.default_rng(self.epoch).permutation(5)
        self.at = self.start["at"] if self.start and self.start["epoch"] == self.epoch else 0
        for index in order[self.at :]:
            self.at += 1
            yield index

    def state_dict(self):
        return {"at": self.at, "epoch": self.epoch}

    def load_state_dict(self, state) -> None:
        self.start = state if state["epoch"] == self.epoch else None


@pytest.mark.parametrize("stop", [2, 5, 7, 10, 14])
def test_a_dataset_whose_state_sticks(session: Session, stop: int) -> None:
    twin = session.train(Sticky(), name="twin")
    assert len(twin) == 15
    assert session.train(Sticky(), stop=stop) + session.train(Sticky()) == twin


def test_a_shuffle_buffer_is_refused(session: Session, monkeypatch) -> None:
    class BufferShuffledExamplesIterable:
        pass

    class Mapped:
        ex_iterable = BufferShuffledExamplesIterable()

    stream = Stream()
    stream._ex_iterable = Mapped()
    monkeypatch.setitem(sys.modules, "datasets", object())
    with messages.raises(StateError, "data/shuffles-through-buffer-buffershuffledexamplesiterable-samples-would"):
        session.train(stream)


# as litdata 0.2.76 does (tried with the real one: docs/explanation/what-libraries-forget.md) --------------------------


class StreamingDataLoader:
    """A state is applied with the first batch, and a question before that writes the dataset's epoch into it."""

    num_workers = 0

    def __init__(self) -> None:
        self.dataset, self.epoch, self.taken, self.inside, self.given = Told(), 0, 0, 1, None

    def __len__(self) -> int:
        return 5

    def __iter__(self):
        if self.given is None:
            self.epoch, self.taken = self.epoch + 1, 0
        self.inside = self.given["inside"] if self.given else self.epoch
        order = np.random.default_rng(self.inside).permutation(5)
        for index in order[self.taken :]:
            self.taken += 1
            yield index
        self.given = None

    def state_dict(self):
        place = {"inside": self.inside, "num_samples_yielded": self.taken, "current_epoch": self.epoch}
        if self.given is None:
            return place
        self.given.update(place)
        return self.given

    def load_state_dict(self, state) -> None:
        self.given, self.epoch, self.taken = state, state["current_epoch"], state["num_samples_yielded"]


class Told:
    def set_epoch(self, epoch: int) -> None:
        pytest.fail("litdata's loader tells its dataset itself")


class CombinedStreamingDataset:
    pass


@pytest.mark.parametrize("stop", [2, 6, 7, 9, 13])
def test_litdatas_loader_is_not_disturbed_by_questions(session: Session, monkeypatch, stop: int) -> None:
    monkeypatch.setattr(StreamingDataLoader, "__module__", "litdata.streaming.dataloader")
    monkeypatch.setitem(sys.modules, "litdata", object())
    twin = session.train(StreamingDataLoader(), name="twin")
    assert len(twin) == 15
    assert session.train(StreamingDataLoader(), stop=stop) + session.train(StreamingDataLoader()) == twin
    assert session.record["resume"]["grade"] == "exact"


@pytest.mark.parametrize(("workers", "module"), [(1, "litdata.streaming.combined"), (2, "mine")])
def test_a_mix_that_litdata_can_continue_is_taken(monkeypatch, workers: int, module: str) -> None:
    loader = StreamingDataLoader()
    loader.dataset, loader.num_workers = CombinedStreamingDataset(), workers
    monkeypatch.setattr(CombinedStreamingDataset, "__module__", module)
    assert foreign.check_exact(loader) is None


def test_a_mix_of_litdatas_with_two_workers_is_refused(session: Session, monkeypatch) -> None:
    monkeypatch.setattr(CombinedStreamingDataset, "__module__", "litdata.streaming.combined")
    loader = StreamingDataLoader()
    loader.dataset, loader.num_workers = CombinedStreamingDataset(), 2
    with messages.raises(StateError, "data/litdatas-mix-with-workers", workers=2):
        session.train(loader)


def test_more_steps_than_a_record_holds(opened) -> None:
    with opened() as run:
        loader = outlast.DataLoader(range(4), 2)
        for message, wrong in (
            ("run/steps-that-no-record-holds", {"epochs": 2**62}),
            ("run/no-number-of-epochs", {"epochs": 10**5000}),
            ("run/no-number-of-batches", {"epochs": 1, "accumulate": 10**5000}),
        ):
            with messages.raises(UsageError, message):
                next(run.batches(loader, **wrong))
