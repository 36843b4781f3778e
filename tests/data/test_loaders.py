"""Data order that can say where it is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import messages
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, default_collate
from torchdata.stateful_dataloader import StatefulDataLoader

import outlast
from outlast.errors import ResumeRefused, StateError, UsageError
from outlast.state import rng


class Noisy(Dataset):
    """Samples with random augmentation from all three global generators."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, torch.rand(()).item(), np.random.rand(), random.random()])


@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 2**63 - 1), st.booleans(), st.integers(0, 120))
@settings(max_examples=100, deadline=None)
def test_a_sampler_continues_anywhere(length: int, batch: int, seed: int, shuffle: bool, at: int) -> None:
    one = outlast.BatchSampler(length, batch, seed=seed, shuffle=shuffle)
    for _ in range(at):
        next(one)
    two = outlast.BatchSampler(length, batch, seed=seed, shuffle=shuffle)
    two.load_state_dict(one.state_dict())
    assert all(np.array_equal(next(one), next(two)) for _ in range(5))


def test_an_epoch_has_every_sample_once_and_epochs_differ() -> None:
    sampler = outlast.BatchSampler(10, 3, seed=1)
    first, second = [np.concatenate(list(sampler)) for _ in range(2)]
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)
    assert [len(batch) for batch in outlast.BatchSampler(10, 3, drop_last=True)] == [3, 3, 3]


def test_the_order_is_pinned() -> None:
    """A golden order: another one would repeat and skip samples of every run that is under way."""
    first = next(outlast.BatchSampler(8, 8, seed=42)).tolist()
    words = np.random.Philox(key=[42, 0]).random_raw(8)
    assert first == sorted(range(8), key=lambda index: words[index])


def test_another_data_set_is_refused_in_the_middle_of_an_epoch() -> None:
    state = {"epoch": 2, "batch": 3, "length": 10, "batch_size": 2, "seed": 0}
    with messages.raises(ResumeRefused, "data/samples-and-this-program", samples=10, number=12):
        outlast.BatchSampler(12, 2).load_state_dict(state)
    outlast.BatchSampler(12, 4).load_state_dict({**state, "batch": 0})


@pytest.mark.parametrize("bad", [(0, 1), (3, 0)])
def test_nothing_to_sample(bad: tuple[int, int]) -> None:
    with messages.raises(UsageError, "data/batch-size", number=1, length=bad[0], batch_size=bad[1]):
        outlast.BatchSampler(*bad)


def batches(workers: int, count: int, state=None, **options):
    loader = outlast.DataLoader(Noisy(), 3, seed=5, num_workers=workers, **options)
    if state:
        loader.load_state_dict(state)
    return [next(loader) for _ in range(count)], loader.state_dict()


def test_augmentation_is_the_same_with_any_workers_and_after_a_resume() -> None:
    twin, _ = batches(0, 12)
    parallel, _ = batches(2, 12)
    head, state = batches(2, 5)
    tail, _ = batches(0, 7, state)
    assert torch.equal(torch.cat(twin), torch.cat(parallel))
    assert torch.equal(torch.cat(twin), torch.cat(head + tail))


def test_loading_leaves_the_training_loops_generators_alone() -> None:
    outlast.seed_everything(3)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    batches(0, 4)
    batches(2, 4)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_that_were_under_way_are_not_given_after_a_position_is_loaded(workers: int) -> None:
    loader = outlast.DataLoader(range(12), 2, num_workers=workers, shuffle=False)
    position = loader.state_dict()
    assert [next(loader).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    loader.load_state_dict(position)
    assert [batch.tolist() for batch in loader] == [[at, at + 1] for at in range(0, 12, 2)]


class Jittered(TensorDataset):
    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        return (super().__getitem__(index)[0] + torch.rand(()),)


def _noisy(samples: list) -> torch.Tensor:
    return default_collate(samples)[0] + torch.rand(())


NUMBERS = torch.arange(12.0)


@pytest.mark.parametrize(
    ("dataset", "collate", "seeded"),
    [
        (TensorDataset(NUMBERS, NUMBERS), None, False),
        (ConcatDataset([TensorDataset(NUMBERS), Subset(TensorDataset(NUMBERS), [3, 1, 2])]), None, False),
        (Jittered(NUMBERS), None, True),
        (Subset(Jittered(NUMBERS), range(12)), None, True),
        (ConcatDataset([TensorDataset(NUMBERS), Jittered(NUMBERS)]), None, True),
        (TensorDataset(NUMBERS), _noisy, True),
        (Noisy(), None, True),
    ],
    ids=["tensors", "of tensors", "derived", "subset", "one of two", "collate", "own"],
)
def test_only_what_may_draw_is_seeded(monkeypatch, dataset, collate, seeded: bool) -> None:
    """Making seeds costs more than a batch of tensors does."""
    asked = []
    whole = rng.seeded_with
    monkeypatch.setattr(rng, "seeded_with", lambda *given, **more: asked.append(given) or whole(*given, **more))

    def loader() -> outlast.DataLoader:
        return outlast.DataLoader(dataset, 4, collate_fn=collate, seed=3)

    one, two = loader(), loader()
    next(one), next(one)
    two.load_state_dict(one.state_dict())
    torch.rand(())
    first, second = next(one), next(two)
    assert bool(asked) is seeded
    assert all(map(torch.equal, first, second))


def test_iterable_datasets_are_refused() -> None:
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with messages.raises(StateError, "data/stream-is-an-iterabledataset-statefuldataloader"):
        outlast.DataLoader(Stream())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"in_order": False, "num_workers": 2}, messages.says("data/no-in-order-false-batches-would-come")),
        ({"batch_sampler": [[0]]}, messages.says("data/no-batch-sampler-sampler-or-weights")),
        ({"generator": torch.Generator()}, messages.says("data/no-generator-give-seed-instead")),
        ({"seeds": 1}, messages.says("data/is-no-option-did-you-mean", name="seeds", mean="seed")),
        ({"quite_else": 1}, messages.says("data/is-no-option-it-takes-batch-size", name="quite_else")),
        ({"num_workers": -1}, messages.says("data/num-workers", given="-1")),
        ({"num_workers": 1.5}, messages.says("data/num-workers", given="1.5")),
        ({"timeout": 5}, messages.says("data/no-workers", option="timeout", value=5)),
        ({"prefetch_factor": 2}, messages.says("data/no-workers", option="prefetch_factor", value=2)),
        ({"persistent_workers": True}, messages.says("data/no-workers", option="persistent_workers", value="True")),
        (
            {"multiprocessing_context": "spawn"},
            messages.says("data/multiprocessing-context-and-no-workers", multiprocessing_context="spawn"),
        ),
        (
            {"sampler": [0], "shuffle": True},
            messages.says("data/one-thing-decides-the-order", given="sampler and shuffle=True"),
        ),
        ({"weights": [1]}, messages.says("data/shape-and-there-are-samples", shape="(1,)", samples=20)),
        (
            {"weights": [10**400] * 20},
            messages.says("data/weights-are-list", error="int too large to convert to float"),
        ),
        (
            {"sampler": [2**70]},
            messages.says(
                "data/gives-the-indices",
                indices=1180591620717411303424,
                number=1180591620717411303424,
                samples=20,
                lowest=0,
                highest=19,
            ),
        ),
        ({"sampler": [0, -(10**5000)]}, messages.says("data/gives-the-indices-2", number=16609, number2=0)),
        ({"batch_size": 0}, messages.says("data/batch-size", number=1, length=20, batch_size=0)),
        ({"batch_size": -1}, messages.says("data/batch-size", number=1, length=20, batch_size=-1)),
        ({"batch_size": 21, "drop_last": True}, messages.says("data/drop-last-leaves-no-batch", samples=20, batch=21)),
        ({"batch_size": 10**5000, "drop_last": True}, messages.says("data/one-batch", number=2, number2=16609)),
    ],
)
def test_what_cannot_be_exact_is_refused_by_name(options: dict, words: str) -> None:
    with messages.raises(UsageError, words):
        outlast.DataLoader(Noisy(), **{"batch_size": 4, **options})


def test_more_samples_than_any_epoch_has() -> None:
    with messages.raises(UsageError, "data/no-epoch-has-that-many"):
        outlast.BatchSampler(2**70, 4)


def test_options_of_torch_that_are_not_known_are_refused(monkeypatch) -> None:
    def newer(self, dataset, batch_sampler=None, worker_method="process"): ...

    monkeypatch.setattr("outlast.data.loader.TorchLoader", type("Newer", (), {"__init__": newer}))
    with messages.raises(UsageError, "data/is-an-option-of-torch-dataloader", name="worker_method"):
        outlast.DataLoader(Noisy(), 4, worker_method="thread")


def test_options_with_default_values() -> None:
    loader = outlast.DataLoader(Noisy(), 4, in_order=True, batch_sampler=None, generator=None, sampler=None, timeout=0)
    assert len(list(loader)) == 5


@pytest.mark.parametrize("dataset", [5, iter(range(3)), object()])
def test_what_is_no_dataset(dataset) -> None:
    with messages.raises(UsageError, "data/no-dataset", found=type(dataset).__name__):
        outlast.DataLoader(dataset)


WAYS = {
    "weights": {"weights": torch.arange(20)},
    "torch's weights": {"sampler": torch.utils.data.WeightedRandomSampler(torch.arange(20.0), 20)},
    "a random sampler": {"sampler": torch.utils.data.RandomSampler(range(20))},
    "single samples": {"batch_size": None},
    "single samples by weight": {"batch_size": None, "weights": torch.arange(20)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("workers", [0, 2])
def test_every_order_is_exact_in_the_middle_of_an_epoch(way: str, workers: int) -> None:
    def take(count: int, state=None, workers: int = 0):
        loader = outlast.DataLoader(Noisy(), **({"batch_size": 3, "seed": 5, "num_workers": workers} | WAYS[way]))
        if state:
            loader.load_state_dict(state)
        return [next(loader).tolist() for _ in range(count)], loader.state_dict()

    epoch = 20 if "single" in way else 7
    twin, _ = take(epoch + 3)
    head, state = take(epoch + 1, workers=workers)
    tail, _ = take(2, state)
    assert twin == head + tail


def test_single_samples_are_converted_and_not_stacked() -> None:
    class Mixed(Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int):
            return {"image": np.full((2,), index), "name": str(index)}

    loader = outlast.DataLoader(Mixed(), batch_size=None, shuffle=False)
    assert len(loader) == 3
    first = next(loader)
    assert first["name"] == "0"
    assert torch.equal(first["image"], torch.tensor([0, 0]))
    assert [outlast.DataLoader(Mixed(), None, shuffle=False, collate_fn=len).__next__()] == [2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [3, 5, 7, 10])
def test_torchdatas_loader_is_exact_in_batches(tmp_path, here, stop: int, workers: int) -> None:
    """Five batches an epoch: in the middle of one, at its end, and in the next."""

    def train(root, stop_after=None):
        outlast.seed_everything(1)
        seen: list[list[float]] = []
        loader = StatefulDataLoader(torch.arange(20), batch_size=4, shuffle=True, num_workers=workers)
        model = torch.nn.Linear(1, 1)
        try:
            with outlast.open_run("r", root=root, progress="none", environment=here) as run:
                run.track(model=model)
                for batch in run.batches(loader, epochs=3):
                    seen.append([*batch.tolist(), torch.rand(()).item()])
                    if run.step == stop_after:
                        run.session.request_stop("preempted", "test")
        except outlast.SessionEnded:
            pass
        return seen

    twin = train(tmp_path / "twin")
    head = train(tmp_path / "cut", stop)
    tail = train(tmp_path / "cut")
    assert len(head) == stop
    assert head + tail == twin


def test_more_data_between_two_epochs_is_said_once(opened, tmp_path: Path) -> None:
    for length, epochs in ((8, 1), (12, 2)):
        with opened(total_steps=None) as run:
            for _ in run.batches(outlast.DataLoader(list(range(length)), batch_size=4), epochs=epochs):
                pass
    record = json.loads((tmp_path / "r/attempts/0002.json").read_text())
    assert sum("12" in words and "8" in words for words in record["told"]) == 1
    messages.said(record["told"], "run/other-data-from-an-epoch-on", samples=12)
    messages.unsaid(record["told"], "run/loaded-state-differs")
    assert record["resume"]["grade"] == "not to the last bit"
