"""The order of the samples of one epoch, as a function of seed and epoch, so that it can be drawn again.

Every order is drawn again after a resume. A digest of it goes into the position, so that one that came out otherwise is
noticed.
"""

from __future__ import annotations

import itertools
import operator
from typing import Any, Protocol

import xxhash

from outlast.errors import DataError, UsageError
from outlast.state import adapters, rng
from outlast.terminal import number, type_of

_FRACTION = 53  # bits of a random number that a double holds


class Order(Protocol):
    """Draws the indices of an epoch.

    Attributes:
        count: indices in an epoch.
        name: what decides it, for messages and for the position; None: outlast's own permutation, or the plain
            sequence.
    """

    count: int

    @property
    def name(self) -> str | None:
        """See above."""

    def draw(self, epoch: int) -> Any:
        """The indices of an epoch: an int64 array of shape (count,)."""


class PlainOrder:
    """0, 1, 2, ... or a permutation that sorts raw 64-bit words of Philox(seed, epoch).

    NumPy guarantees that stream for all versions (numpy.org/doc/stable/reference/random/compatibility.html), so the
    order survives an upgrade in the middle of a run.
    """

    name = None

    def __init__(self, length: int, seed: int, *, shuffle: bool) -> None:
        self.count, self.seed, self.shuffle = length, seed, shuffle

    def draw(self, epoch: int) -> Any:
        """See `Order`."""
        import numpy as np

        if self.shuffle:
            return np.argsort(_words(self.seed, epoch, self.count), kind="stable")
        return np.arange(self.count)


class WeightedOrder:
    """As many samples as there are, with replacement, each as often as its weight says (torch's WeightedRandomSampler).

    Weights become whole numbers whose sums are exact, so that no way of adding floats decides an order.

    Args:
        weights: one finite number of at least 0 for each sample; their sum is not 0. Any scale.
        length: how many samples there are.
        seed: decides the draws, with the epoch.

    Raises:
        UsageError: weights that cannot be.
    """

    def __init__(self, weights: Any, length: int, seed: int) -> None:
        import numpy as np

        try:
            given = np.asarray(weights, dtype=np.float64)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise UsageError(
                f"weights are a {type(weights).__name__} that is no list of numbers ({error}); expected one number for "
                "each sample."
            ) from error
        if given.shape != (length,):
            raise UsageError(
                f"weights have the shape {given.shape} and there are {length} samples; expected one number for each "
                "sample."
            )
        if not np.isfinite(given).all() or (given < 0).any() or not given.any():
            raise UsageError(
                "weights hold a number below 0, no number, or nothing but 0; expected finite numbers of at least 0, "
                "some above it."
            )
        room = 62 - length.bit_length()
        whole = np.floor(given / given.max() * 2.0**room).astype(np.int64)
        whole[(whole == 0) & (given > 0)] = 1
        self._sums = np.cumsum(whole)
        self.count, self.seed = length, seed
        self.name = f"weights {xxhash.xxh3_64_hexdigest(whole.tobytes())}"

    def draw(self, epoch: int) -> Any:
        """See `Order`."""
        import numpy as np

        total = int(self._sums[-1])
        parts = (_words(self.seed, epoch, self.count) >> np.uint64(64 - _FRACTION)).astype(np.float64)
        drawn = np.minimum((parts * (total * 2.0**-_FRACTION)).astype(np.int64), total - 1)
        return np.searchsorted(self._sums, drawn, side="right")


class SamplerOrder:
    """The indices that a sampler of someone else gives, all drawn at once under generators seeded from seed and epoch.

    `set_epoch(epoch)` is called when the sampler has it, and a `generator` of its own (and that of a sampler inside) is
    seeded again. Whether that makes the order a function of seed and epoch is tried before it is trusted.

    Args:
        sampler: an iterable of indices with a length, such as torch's samplers.
        length: how many samples there are.
        seed: decides the draws, with the epoch.

    Raises:
        UsageError: the sampler cannot be drawn again, or gives something else than indices.
    """

    def __init__(self, sampler: Any, length: int, seed: int) -> None:
        self.sampler, self.length, self.seed = sampler, length, seed
        self.name = kind = type(sampler).__qualname__
        if hasattr(sampler, "num_replicas") and hasattr(sampler, "rank"):
            raise UsageError(
                f"The sampler is {type_of(sampler)}, which gives each rank its share, and outlast.DataLoader does that "
                "itself: leave sampler= out, and give the batch size of all ranks together."
            )
        if not hasattr(sampler, "__iter__"):
            raise UsageError(
                f"The sampler is {type_of(sampler)}, which cannot be iterated once an epoch; expected a sampler with "
                "__iter__ and __len__ such as those of torch.utils.data."
            )
        try:
            self.count = len(sampler)
        except TypeError as error:
            raise UsageError(
                f"The sampler ({kind}) has no length, so an epoch of it has no end; give it a __len__ that says how "
                "many indices it gives."
            ) from error
        if self.count < 1:
            raise UsageError(f"The sampler ({kind}) has a length of {self.count}: an epoch would have no batch.")
        first = self.draw(0)
        self.draw(1)
        if (self.draw(0) != first).any():
            raise UsageError(
                f"The sampler ({kind}) gives another order when it is asked again for the same epoch, so its order "
                "could not be drawn again after a resume. outlast seeds the generators of Python, NumPy and torch and "
                "its own `generator`; have it draw from those alone, or from the epoch that set_epoch(epoch) gives it."
            )

    def draw(self, epoch: int) -> Any:
        """See `Order`.

        Raises:
            UsageError: the sampler gave something else than indices.
            DataError: it gave more or fewer than its length says.
        """
        import numpy as np

        words = np.random.SeedSequence((self.seed % 2**63, epoch, 1)).generate_state(4, np.uint32)
        with rng.seeded_with(words):
            if callable(set_epoch := getattr(self.sampler, "set_epoch", None)):
                set_epoch(epoch)
            _seed_own(self.sampler, int(words[0]) << 32 | int(words[1]))
            drawn = [_index(one, self.name) for one in itertools.islice(self.sampler, self.count + 1)]
        if len(drawn) != self.count:
            found = f"more than {self.count}" if len(drawn) > self.count else str(len(drawn))
            raise DataError(
                f"The sampler ({self.name}) gave {found} indices in epoch {epoch + 1} and its length was {self.count}. "
                "Every epoch of a run has the same number of samples."
            )
        least, most = min(drawn), max(drawn)
        if not 0 <= least <= most < self.length:
            raise UsageError(
                f"The sampler ({self.name}) gives the indices {number(least)} to {number(most)} and there are "
                f"{self.length} samples; expected "
                f"0 to {self.length - 1}."
            )
        return np.array(drawn, dtype=np.int64)


def digest(order: Any) -> str:
    """A hash of an epoch's indices, the same on every machine."""
    return xxhash.xxh3_64_hexdigest(order.astype("<i8").tobytes())


def _words(seed: int, epoch: int, count: int) -> Any:
    import numpy as np

    return np.random.Philox(key=[seed % 2**64, epoch]).random_raw(count)


def _seed_own(sampler: Any, seed: int) -> None:
    """Seed the generators that a sampler, and one inside it, keeps for itself."""
    for depth in range(3):
        own = getattr(sampler, "generator", None)
        if (library := adapters.generators_of(own)) is not None:
            library.reseed(own, seed + depth)
        if (sampler := getattr(sampler, "sampler", None)) is None:
            return


def _index(value: Any, name: str) -> int:
    try:
        return operator.index(value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value)
    except (TypeError, ValueError):
        what = "lists: give the sampler that is inside it, and batch_size" if isinstance(value, list | tuple) else ""
        raise UsageError(
            f"The sampler ({name}) gives {what or f'a {type(value).__name__}'}; expected one whole number for each "
            "sample."
        ) from None
