"""The order of samples: weights, samplers of other libraries, and what a position is compared with."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tests import messages
from torch.utils import data
from torch.utils.data.distributed import DistributedSampler

import outlast
from outlast.errors import DataError, ResumeRefused, UsageError


def rest(sampler, epochs: int = 3) -> list[list[int]]:
    return [batch.tolist() for _ in range(epochs) for batch in sampler]


# weights ---------------------------------------------------------------------------------------------------------


def test_weights_draw_in_proportion_and_with_replacement() -> None:
    sampler = outlast.BatchSampler(4, 1000, weights=[0, 1, 2, 5], seed=3)
    drawn = np.concatenate([next(sampler) for _ in range(4000)])
    counts = np.bincount(drawn, minlength=4)
    assert len(sampler) == 1
    assert len(drawn) == 16_000
    assert counts[0] == 0
    assert np.allclose(counts[1:] / 16_000, [1 / 8, 2 / 8, 5 / 8], atol=0.015)  # four standard deviations


def test_weights_of_any_scale_and_kind_give_one_pinned_order() -> None:
    """A golden order: another one would repeat and skip samples of every weighted run that is under way."""
    orders = [
        rest(outlast.BatchSampler(5, 5, weights=weights, seed=7), 2)
        for weights in (
            [1, 2, 3, 4, 0],
            np.array([0.5, 1, 1.5, 2, 0]),
            torch.tensor([1e-300, 2e-300, 3e-300, 4e-300, 0], dtype=torch.float64),
        )
    ]
    words = np.random.Philox(key=[7, 0]).random_raw(5)
    sums = np.cumsum([1, 2, 3, 4, 0]) / 10
    assert orders[0][0] == [int(np.searchsorted(sums, word / 2**64, side="right")) for word in words]
    assert orders[0] == orders[1] == orders[2]
    assert orders[0][0] != orders[0][1]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, 2], messages.says("data/shape-and-there-are-samples", shape="(2,)", samples=4)),
        ([[1, 2, 3, 4]], messages.says("data/shape-and-there-are-samples", shape="(1, 4)", samples=4)),
        ([1, -1, 1, 1], messages.says("data/weights-hold")),
        ([0, 0, 0, 0], messages.says("data/weights-hold")),
        ([1, float("nan"), 1, 1], messages.says("data/weights-hold")),
        ([1, float("inf"), 1, 1], messages.says("data/weights-hold")),
        (["a", 1, 1, 1], messages.says("data/weights-are-list", error=messages.ANY)),
        (5, messages.says("data/shape-and-there-are-samples", shape="()", samples=4)),
    ],
)
def test_weights_that_cannot_be(weights, words: str) -> None:
    with messages.raises(UsageError, words):
        outlast.BatchSampler(4, 2, weights=weights)


# samplers of others ------------------------------------------------------------------------------------------------


class Own(data.Sampler):
    """A sampler as people write them."""

    def __init__(self, draw, length: int = 10) -> None:
        self.draw, self.length, self.epoch = draw, length, 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        return iter(self.draw(self.epoch))


SAMPLERS = {
    "torch random": lambda: data.RandomSampler(range(10)),
    "torch random with a generator": lambda: data.RandomSampler(range(10), generator=torch.Generator().manual_seed(9)),
    "torch weighted": lambda: data.WeightedRandomSampler(torch.arange(10.0), 10),
    "torch weighted, more than there are": lambda: data.WeightedRandomSampler(torch.arange(10.0), 25),
    "torch subset": lambda: data.SubsetRandomSampler([1, 3, 5, 7]),
    "torch sequence": lambda: data.SequentialSampler(range(10)),
    "a list": lambda: [4, 2, 2, 0],
    "Python's generator": lambda: Own(lambda _: random.sample(range(10), 10)),
    "NumPy's generator": lambda: Own(lambda _: np.random.permutation(10)),
    "by the epoch": lambda: Own(lambda epoch: np.random.default_rng(epoch).permutation(10)),
}


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("at", [0, 2, 3, 7])
def test_a_torch_sampler_is_drawn_again(kind: str, at: int) -> None:
    one = outlast.BatchSampler(10, 3, sampler=SAMPLERS[kind]())
    for _ in range(at):
        next(one)
    torch.manual_seed(at)  # whatever else a script has drawn meanwhile
    two = outlast.BatchSampler(10, 3, sampler=SAMPLERS[kind]())
    two.load_state_dict(one.state_dict())
    assert rest(one) == rest(two)


def test_a_random_sampler_gives_another_order_every_epoch_and_leaves_the_generators_alone() -> None:
    outlast.seed_everything(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    sampler = outlast.BatchSampler(10, 10, sampler=data.RandomSampler(range(10)))
    first, second = rest(sampler, 2)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def numbers():
    generator = np.random.default_rng(0)
    return Own(lambda _: generator.permutation(10))


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (numbers, messages.says("data/own-another-order-when")),
        (lambda: Own(lambda _: np.random.default_rng().permutation(10)), messages.says("data/own-another-order-when")),
        (
            lambda: DistributedSampler(range(10), num_replicas=2, rank=0),
            messages.says("data/distributedsampler-which-gives-each-rank"),
        ),
        (
            lambda: data.BatchSampler(data.SequentialSampler(range(10)), 2, False),
            messages.says("data/batchsampler-gives-lists-give-the-sampler"),
        ),
        (lambda: (index for index in range(10)), messages.says("data/generator-has-no-length")),
        (lambda: 5, messages.says("data/int-which-cannot-be-iterated")),
        (lambda: [1, "two"], messages.says("data/list-gives-str-expected-one-whole")),
        (
            lambda: [1, 10],
            messages.says("data/gives-the-indices", indices=1, number=10, samples=10, lowest=0, highest=9),
        ),
        (
            lambda: [-1, 1],
            messages.says("data/gives-the-indices", indices="-1", number=1, samples=10, lowest=0, highest=9),
        ),
        (list, messages.says("data/the-sampler-list-has-length", number=0)),
    ],
)
def test_samplers_that_cannot_be_drawn_again(sampler, words: str) -> None:
    with messages.raises(UsageError, words):
        outlast.BatchSampler(10, 3, sampler=sampler())


@pytest.mark.parametrize(("drawn", "found"), [(9, "9"), (11, "more than 10")])
def test_a_sampler_that_gives_another_number_than_its_length(drawn: int, found: str) -> None:
    with messages.raises(DataError, "data/another-number-of-indices", sampler="Own", found=found, epoch=1, length=10):
        outlast.BatchSampler(10, 3, sampler=Own(lambda _: [0] * drawn))


def test_only_one_thing_decides_the_order() -> None:
    with messages.raises(UsageError, "data/one-thing-decides-the-order", given="weights and shuffle=True"):
        outlast.BatchSampler(2, 1, weights=[1, 1], shuffle=True)
    with messages.raises(UsageError, "data/one-thing-decides-the-order", given="weights and sampler"):
        outlast.BatchSampler(2, 1, weights=[1, 1], sampler=[0, 1])
    assert outlast.BatchSampler(2, 1, sampler=[0, 1], shuffle=False).shuffle is False


# one at a time -----------------------------------------------------------------------------------------------------


def test_no_batch_size_is_one_index_at_a_time() -> None:
    one = outlast.BatchSampler(3, None, shuffle=False)
    assert (len(one), list(one), type(next(one))) == (3, [0, 1, 2], int)
    two = outlast.BatchSampler(3, None, shuffle=False)
    two.load_state_dict(one.state_dict())
    assert (two.epoch, next(two)) == (1, 1)
    with messages.raises(UsageError, "data/drop-last-has-nothing-to-drop"):
        outlast.BatchSampler(3, None, drop_last=True)


@pytest.mark.parametrize(("name", "value"), [("batch_size", "64"), ("length", 2.5), ("seed", None)])
def test_numbers_are_whole(name: str, value) -> None:
    with messages.raises(UsageError, "data/is-expected-whole-number", name=name, value=f"{value!r}"):
        outlast.BatchSampler(**({"length": 4, "batch_size": 2, "seed": 0} | {name: value}))


# what a position is one of -----------------------------------------------------------------------------------------

BEFORE = {"length": 42, "batch_size": 4, "seed": 1}
CHANGES = {
    "length": ({"length": 43}, "42 samples and this program's has 43"),
    "batch size": ({"batch_size": 6}, "4 samples a batch and this program's has 6"),
    "one at a time": ({"batch_size": None}, "4 samples a batch and this program's has none"),
    "shuffle": ({"shuffle": False}, "shuffle=True and this program's has False"),
    "drop_last": ({"drop_last": True}, "drop_last=False and this program's has True"),
    "weights": ({"weights": [1] * 42}, "shuffle=True and this program's has False"),
    "sampler": ({"sampler": list(range(42))}, "shuffle=True and this program's has False"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_order_is_refused_in_an_epoch_and_said_between_two(change: str) -> None:
    options, words = CHANGES[change]
    one = outlast.BatchSampler(**BEFORE)
    next(one)
    with messages.raises(ResumeRefused, "data/the-data-order-in-the-checkpoint", words=words):
        outlast.BatchSampler(**(BEFORE | options)).load_state_dict(one.state_dict())
    for _ in range(len(one) - 1):
        next(one)
    two = outlast.BatchSampler(**(BEFORE | options))
    two.load_state_dict(one.state_dict())
    assert (two.epoch, two.batch) == (1, 0)
    assert two.changes
    for sentence in two.changes:
        messages.said([sentence], "data/the-order-has-changed", how=messages.ANY, epoch=2, before=messages.ANY)


def test_another_seed_is_refused_always() -> None:
    one = outlast.BatchSampler(8, 8, seed=1)
    next(one)
    with messages.raises(ResumeRefused, "data/its-seed-and-this-program", number=1, number2=2):
        outlast.BatchSampler(8, 8, seed=2).load_state_dict(one.state_dict())


def test_the_same_order_gives_no_message() -> None:
    one = outlast.BatchSampler(**BEFORE, weights=[1.0] * 42)
    next(one)
    two = outlast.BatchSampler(**BEFORE, weights=[2] * 42)
    two.load_state_dict(one.state_dict())
    assert two.changes == []


def test_other_weights_and_another_order_of_the_same_sampler_are_noticed() -> None:
    one = outlast.BatchSampler(4, 1, weights=[1, 2, 3, 4])
    next(one)
    with messages.raises(ResumeRefused, "data/weights-as-its-sampler"):
        outlast.BatchSampler(4, 1, weights=[4, 3, 2, 1]).load_state_dict(one.state_dict())
    one = outlast.BatchSampler(4, 1, sampler=[0, 1, 2, 3])
    next(one)
    with messages.raises(ResumeRefused, "data/order-of-epoch", epoch=1, batches=1):
        outlast.BatchSampler(4, 1, sampler=[0, 1, 3, 2]).load_state_dict(one.state_dict())


def test_drop_last_where_nothing_is_dropped_is_no_change() -> None:
    one = outlast.BatchSampler(40, 4)
    next(one)
    two = outlast.BatchSampler(40, 4, drop_last=True)
    two.load_state_dict(one.state_dict())
    assert rest(one) == rest(two)


def test_positions_of_earlier_versions_load() -> None:
    one = outlast.BatchSampler(10, 3, seed=4)
    for _ in range(6):
        next(one)
    old = {name: one.state_dict()[name] for name in ("epoch", "batch", "length", "batch_size", "seed")}
    assert old["batch"] == 2
    two = outlast.BatchSampler(10, 3, seed=4)
    two.load_state_dict(old)
    assert rest(one) == rest(two)


def test_a_position_of_another_kind_of_loader() -> None:
    with messages.raises(ResumeRefused, "data/not-one-of-outlast-dataloader"):
        outlast.BatchSampler(4, 2).load_state_dict({"_num_yielded": 3})


def test_set_epoch_is_called_with_the_current_epoch() -> None:
    sampler = outlast.BatchSampler(4, 4)
    next(sampler)
    sampler.set_epoch(1)
    with messages.raises(UsageError, "data/set-epoch-was-called-and-epoch-runs", epoch=1):
        sampler.set_epoch(3)
    with pytest.warns(UserWarning, match="set_epoch") as caught:
        sampler.set_epoch(0)
    messages.said([str(warning.message) for warning in caught], "data/set-epoch-changes-nothing", called=0, epoch=1)
    assert sampler.epoch == 1


@pytest.mark.parametrize("place", [{"batch": 3}, {"batch": -1}, {"epoch": -1}])
def test_a_place_that_is_none_is_refused(place: dict) -> None:
    sampler = outlast.BatchSampler(6, 2)
    found = {"epoch": 0, "batch": 0} | place
    with messages.raises(ResumeRefused, "data/no-such-position", batch=found["batch"], epoch=found["epoch"], last=2):
        sampler.load_state_dict(sampler.state_dict() | place)
