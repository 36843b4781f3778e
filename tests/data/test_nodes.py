"""torchdata.nodes: pipelines that are stopped and resumed, and those whose order would be lost."""

from __future__ import annotations

import json

import pytest
import torch
from tests import messages
from tests.data.test_feed import Session
from torch.utils import data
from torchdata.nodes import (
    Batcher,
    IterableWrapper,
    Loader,
    MapStyleWrapper,
    MultiNodeWeightedSampler,
    ParallelMapper,
    Prefetcher,
    SamplerWrapper,
)
from torchdata.stateful_dataloader import sampler as stateful

import outlast
from outlast.data.nodes import NodesLoader
from outlast.errors import StateError

ITEMS = range(10)


@pytest.fixture
def session(tmp_path, here) -> Session:
    return Session(tmp_path, here)


def tens(number: int) -> int:
    return number * 10


def drawn(kind: type) -> Loader:
    sampler = kind(ITEMS, num_replicas=1, rank=0, shuffle=True, seed=3)
    return Loader(Prefetcher(Batcher(MapStyleWrapper([*ITEMS], sampler), 3, drop_last=False), 2))


def mixed() -> Loader:
    parts = {"a": IterableWrapper(range(7)), "b": IterableWrapper(range(100, 105))}
    weights = {"a": 0.5, "b": 0.5}
    return Loader(MultiNodeWeightedSampler(parts, weights, "ALL_DATASETS_EXHAUSTED", rank=0, world_size=1, seed=0))


PIPELINES = {
    "an order by seed and epoch": lambda: drawn(data.DistributedSampler),
    "a sampler with a state": lambda: drawn(stateful.StatefulDistributedSampler),
    "a mix": mixed,
    "threads": lambda: Loader(ParallelMapper(SamplerWrapper(data.SequentialSampler(ITEMS)), tens, num_workers=2)),
}


@pytest.mark.parametrize("kind", PIPELINES)
@pytest.mark.parametrize("way", ["batches", "steps"])
def test_a_resumed_pipeline_gives_what_the_twin_gets(session: Session, kind: str, way: str, tmp_path, here) -> None:
    def train(name: str, stop: int | None = None) -> list:
        if way == "batches":
            return session.train(PIPELINES[kind](), name=name, stop=stop)
        return steps(PIPELINES[kind](), tmp_path, here, name, stop)

    twin = train("twin")
    for stop in (2, 6, 9):
        name = f"stopped-{stop}"
        assert train(name, stop) + train(name) == twin, stop


def steps(loader: Loader, root, here, name: str, stop: int | None) -> list:
    """A loop of one's own over three epochs, which makes its iterator before the first step."""
    seen = []
    try:
        with outlast.open_run(name, root=root, progress="none", environment=here, total_steps=11) as run:
            run.track(data=loader)
            batches = iter(loader)
            for step in run.steps():
                try:
                    batch = next(batches)
                except StopIteration:
                    batches = iter(loader)
                    batch = next(batches)
                seen.append((step, batch))
                if step == stop:
                    run.session.request_stop("preempted", "test")
    except outlast.SessionEnded:
        pass
    record = json.loads(max((root / name / "attempts").glob("????.json")).read_text())
    assert record["told"] == []
    assert record.get("resume", {"grade": "exact"})["grade"] == "exact"
    return seen


GENERATOR = torch.Generator()
RANDOM = {
    "torch's": lambda: data.RandomSampler(ITEMS, generator=GENERATOR),
    "torch's, without a generator": lambda: data.RandomSampler(ITEMS),
    "torchdata's": lambda: stateful.RandomSampler(ITEMS, generator=GENERATOR),
    "in batches": lambda: data.BatchSampler(data.RandomSampler(ITEMS), 4, False),
    "in torchdata's batches": lambda: stateful.BatchSampler(
        stateful.RandomSampler(ITEMS, generator=GENERATOR), 4, False
    ),
    "weighted": lambda: data.WeightedRandomSampler([1.0] * 10, 10),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_an_order_that_nobody_keeps_is_refused(kind: str) -> None:
    sampler = RANDOM[kind]()
    name = type(getattr(sampler, "sampler", sampler)).__name__
    loader = Loader(Batcher(SamplerWrapper(sampler), 2))
    before = GENERATOR.get_state()
    with messages.raises(StateError, "data/sampler-wrapper-keeps-no-order", name=name):
        NodesLoader("data", loader).check()
    assert torch.equal(GENERATOR.get_state(), before)


def test_samples_as_threads_finish_them_are_refused() -> None:
    loader = Loader(ParallelMapper(IterableWrapper(ITEMS), tens, num_workers=2, in_order=False))
    with messages.raises(StateError, "data/parallel-mapper-out-of-order"):
        NodesLoader("data", loader).check()


def test_a_loaded_place_is_the_answer_until_a_batch_is_taken() -> None:
    """torchdata answers with the place of before; and it ignores a load that follows a question."""
    held = NodesLoader("data", Loader(IterableWrapper(ITEMS)))
    assert held.state()["num_yielded"] == 0
    half = Loader(IterableWrapper(ITEMS))
    batches = iter(half)
    assert [next(batches) for _ in range(4)] == [0, 1, 2, 3]
    held.load(half.state_dict(), {})
    assert held.state() == half.state_dict()
    assert list(held.bare) == [4, 5, 6, 7, 8, 9]
    assert held.state()["num_yielded"] > 4
