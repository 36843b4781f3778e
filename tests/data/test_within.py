"""Random generators and arrays inside a dataset: seeded for every batch, and compared on resume."""

from __future__ import annotations

import functools
import logging
import random

import numpy as np
import pytest
import torch
from tests import messages
from tests.counting import Counter, attempts
from torch.utils.data import Subset, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

import outlast
from outlast.data import within

RNG = np.random.default_rng(0)


class Plain:
    """Twelve samples, each its index plus noise."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index + self.noise(), dtype=torch.float64)


class Attribute(Plain):
    def __init__(self, rng) -> None:
        self.rng = rng

    def noise(self) -> float:
        return float(torch.rand((), generator=self.rng) if isinstance(self.rng, torch.Generator) else self.rng.random())


class Slots(Attribute):
    __slots__ = ("rng",)


class OfTheClass(Plain):
    rng = random.Random(0)

    def noise(self) -> float:
        return self.rng.gauss(0, 1)


class OfTheModule(Plain):
    def noise(self) -> float:
        return sum(RNG.random() for _ in range(2)) / 2


class Late(Plain):
    """Makes its generator when it draws first."""

    rng = None

    def noise(self) -> float:
        self.rng = self.rng or np.random.RandomState(0)
        return self.rng.normal()


class Transformed(Plain):
    """A chain of transforms, as torchvision has them."""

    def __init__(self, *transforms) -> None:
        self.options = {"transforms": list(transforms)}

    def noise(self) -> float:
        return sum(transform(0.0) for transform in self.options["transforms"])


class Jitter:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)

    def __call__(self, value: float) -> float:
        return value + self.rng.random()


def closure():
    rng = np.random.default_rng(4)
    return lambda value: value + rng.random()


def added(rng, value: float) -> float:
    return value + rng.random()


DATASETS = {
    "numpy": lambda: Attribute(np.random.default_rng(0)),
    "philox": lambda: Attribute(np.random.Generator(np.random.Philox(0))),
    "python": lambda: Attribute(random.Random(0)),
    "torch": lambda: Attribute(torch.Generator()),
    "slots": lambda: Slots(np.random.default_rng(0)),
    "class": OfTheClass,
    "module": OfTheModule,
    "late": Late,
    "transforms": lambda: Transformed(Jitter(), closure(), functools.partial(added, random.Random(5)), Jitter()),
    "subset": lambda: Subset(Transformed(Jitter(), Jitter().__call__), range(12)),
}


def train(opened, dataset, seen: list, workers: int, stop: int | None = None) -> None:
    try:
        with opened(save="1 steps", background=False) as run:
            run.track(counter=Counter())
            for batch in run.batches(outlast.DataLoader(dataset, 3, num_workers=workers), epochs=2):
                if run.step == stop:
                    raise KeyError
                seen.append(torch.as_tensor(batch[0] if isinstance(batch, list) else batch).tolist())
    except KeyError:
        pass


@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in DATASETS), ("numpy", 2), ("late", 2)])
def test_generators_inside_a_dataset_draw_the_same_after_a_resume(opened, name: str, workers: int) -> None:
    twin = [
        batch.tolist() for loader in [outlast.DataLoader(DATASETS[name](), 3)] for _ in range(2) for batch in loader
    ]
    seen: list = []
    train(opened, DATASETS[name](), seen, workers, stop=3)
    train(opened, DATASETS[name](), seen, 0)
    assert seen == twin
    assert len({value % 1 for batch in twin for value in batch}) == 24


def test_a_generator_that_is_replaced_between_batches_is_seeded() -> None:
    dataset = Attribute(random.Random(1))
    loader, twin = outlast.DataLoader(dataset, 4), outlast.DataLoader(dataset, 4)
    next(loader)
    dataset.rng = np.random.default_rng(2)
    twin.load_state_dict(loader.state_dict())
    assert torch.equal(next(loader), next(twin)), "of a loader that begins here, and so has looked for it"
    dataset.rng = random.Random(3)
    twin.load_state_dict(loader.state_dict())
    assert torch.equal(next(loader), next(twin))


class OfEachSample(Plain):
    """Makes another generator for each sample."""

    made = 0

    def noise(self) -> float:
        self.made += 1
        self.rng = random.Random(self.made)
        return self.rng.random()


def test_a_dataset_that_makes_generators_is_asked_twice_for_one_batch_only() -> None:
    dataset = OfEachSample()
    loader = outlast.DataLoader(dataset, 4)
    counts = []
    for _ in range(6):
        before = dataset.made
        next(loader)
        counts.append(dataset.made - before)
    assert counts[2:] == [4, 4, 4, 4]


class Key:
    """A key whose repr differs between processes."""


def test_paths_are_the_same_in_every_process() -> None:
    """They seed the generators. The repr of most objects has an address, that of a tensor its elements."""
    rngs = [np.random.default_rng(seed) for seed in range(4)]
    keys = (Key(), torch.ones(3), ("left", 2), "noise")
    found = within.generators(dataset=dict(zip(keys, rngs, strict=True)))
    assert list(found) == [f"dataset[{each}]" for each in ("Key 0", "Tensor 1", "('left', 2)", "'noise'")]


def test_a_generator_that_the_loop_shares_is_put_back() -> None:
    rng, other = np.random.default_rng(1), np.random.RandomState(1)
    other.normal()  # half of a pair is kept for the next call
    dataset = Transformed(lambda value: value + rng.random() + other.normal())
    before = rng.bit_generator.state, other.get_state(legacy=False)["gauss"]
    next(outlast.DataLoader(dataset, 3))
    assert (rng.bit_generator.state, other.get_state(legacy=False)["gauss"]) == before


def test_the_global_generators_are_not_among_them() -> None:
    loose = Transformed()
    loose.parts = [random._inst, np.random.mtrand._rand, torch.default_generator, random.SystemRandom(), loose]
    assert within.generators(dataset=loose) == {}


def test_the_search_has_an_end() -> None:
    wide = Transformed()
    wide.parts = [[Jitter() for _ in range(40)] for _ in range(40)]
    wide.after = Jitter()
    assert 0 < len(within.generators(dataset=wide)) < within.MOST
    assert "dataset.after.rng" in within.generators(dataset=wide)


def test_a_logger_does_not_lead_the_search_astray() -> None:
    data = Attribute([logging.getLogger("outlast.tests"), *range(20), [[[np.random.default_rng(0)]]]])
    for number in range(within.WIDE):
        child = logging.getLogger(f"outlast.tests.{number}")
        child.more = [list(range(each)) for each in range(1, within.WIDE)]  # type: ignore[attr-defined]
    assert set(within.generators(dataset=data)) == {"dataset.rng[21][0][0][0]"}
    assert len(list(within._walk({"dataset": data}, lambda _: False))) < 20


def test_what_all_instances_of_a_class_share_is_looked_at_once() -> None:
    asked = []

    def among_globals(value: object) -> bool:
        asked.append(value)
        return False

    list(within._walk({"one": OfTheModule()}, among_globals))
    once = len(asked)
    list(within._walk({"many": [OfTheModule() for _ in range(within.WIDE)]}, among_globals))
    assert len(asked) == 2 * once > 0


def test_torchdatas_loader_with_a_generator_inside_is_not_called_exact(opened, tmp_path) -> None:
    def train(track: bool, stop: int | None, name: str) -> None:
        rng = np.random.default_rng(0)
        try:
            with opened(name, save="1 steps", background=False) as run:
                run.track(counter=Counter(), **({"generator": rng} if track else {}))
                for _ in run.batches(StatefulDataLoader(Attribute(rng), 3), epochs=1):
                    if run.step == stop:
                        raise KeyError
        except KeyError:
            pass

    for name, track in (("a", False), ("b", True)):
        train(track, 2, name)
        train(track, None, name)
    messages.only_said(
        attempts(tmp_path, "a")[1]["resume"]["differences"],
        messages.says("data/generator-starts-over", generator="dataset.rng"),
    )
    assert attempts(tmp_path, "b")[1]["resume"]["grade"] == "exact"


class Holds(Plain):
    def __init__(self, value) -> None:
        self.value = value

    def noise(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    "make",
    [
        lambda values: TensorDataset(values),
        lambda values: Subset(TensorDataset(values), [1, 0, 2]),
        lambda values: Holds(values.numpy()),
        lambda values: Holds(values.tolist()),
        lambda values: Holds({"train": values.repeat(2)}),
        lambda values: Holds(values[:, None].repeat(1, 2**18)),
        lambda values: Holds(values.to(torch.bfloat16)),
        lambda values: values.numpy(),
    ],
)
def test_a_digest_distinguishes_samples(make) -> None:
    values = torch.arange(12.0)
    other = values.clone()
    other[5] = 100
    assert within.digest(make(values)) == within.digest(make(values.clone())) is not None
    assert within.digest(make(values)) != within.digest(make(other))


def test_what_holds_no_samples_has_no_digest() -> None:
    assert within.digest(range(12)) is None
    assert within.digest(Transformed(np.zeros(3), Jitter())) is None
    assert within.digest(Holds(["a/path"] * 12)) is None


def test_an_array_that_a_dataset_fills_is_no_other_data() -> None:
    dataset = Holds(np.zeros(12))
    first = within.digest(dataset)
    dataset.value[:] = 1
    assert within.digest(dataset) == first


@pytest.mark.parametrize("stop", [3, 5])
def test_other_samples_are_reported_and_the_resume_is_not_called_exact(opened, tmp_path, stop: int) -> None:
    train(opened, TensorDataset(torch.arange(12.0)), [], 0, stop=stop)
    train(opened, TensorDataset(torch.arange(12.0) * 2), [], 0)
    resume = attempts(tmp_path)[1]["resume"]
    assert resume["grade"] == "not to the last bit"
    messages.only_said(resume["differences"], messages.says("data/samples-differ"))


def test_a_position_without_a_digest_loads(opened) -> None:
    loader = outlast.DataLoader(TensorDataset(torch.arange(12.0)), 3)
    state = loader.state_dict()
    assert state.pop("data")
    loader.load_state_dict({**state, "batch": 2})
    assert loader.changes == []
