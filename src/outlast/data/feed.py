"""A data loader in the loop of a run: epochs, batches, a position, and the reasons why it is not exact.

outlast's own loaders say all of it themselves. Of others this knows torchdata's StatefulDataLoader (also inside
accelerate's wrappers), Hugging Face's iterable datasets, and anything that can be iterated once an epoch and has a
state_dict.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from outlast.data import foreign, leaving
from outlast.data.sampler import BatchSampler, ExactLoader
from outlast.errors import DataError, ResumeRefused
from outlast.state import rng

_END = object()


class Feed:
    """Takes batches out of a loader, epoch by epoch.

    A loader without a length is asked for one batch more than the loop has, so that the last batch of an epoch is known
    as such. Its state is then that of before, and what it draws while it makes a batch is drawn from generators that
    depend on the place of the batch.

    Args:
        loader: the loader.
        facts: what the checkpoint remembers of the loader that the run had; None: no checkpoint, or one of an earlier
            version.

    Attributes:
        per_epoch: batches of an epoch, None where the loader does not know.

    Raises:
        StateError: its position is a count and no order, so that it could not be continued.
        DataError: it has no batch.
    """

    def __init__(self, loader: Any, facts: Mapping[str, Any] | None) -> None:
        self.loader = loader
        self._facts = facts
        self._own = own(loader)
        self.per_epoch = _length(loader)
        if self.per_epoch == 0:
            raise DataError(
                f"The loader ({type(loader).__qualname__}) has no batch: its len() is 0. Give it data, or a batch size "
                "that leaves a batch."
            )
        if not self._own:
            foreign.check_exact(loader)
        self._iterator: Iterator[Any] | None = None
        self._ahead: Any = _END
        self._state: Any = None  # of before the batch ahead was taken
        self._place = (0, 0)
        self._seed = (facts or {}).get("seed", rng.initial_seed())

    def facts(self, accumulate: int) -> dict[str, Any]:
        """Facts of this loader for the checkpoint, besides its state."""
        if self._own:
            return {"accumulate": accumulate}
        seed = {"seed": self._seed} if self.per_epoch is None else {}
        return {"accumulate": accumulate, "batches": self.per_epoch, **foreign.describe(self.loader), **seed}

    def compare(self, accumulate: int, epoch: int, done: int) -> list[str]:
        """Harmless differences from the loader of the checkpoint, as sentences.

        Args:
            accumulate: batches of an update.
            epoch: epochs done.
            done: batches of the running epoch done.

        Raises:
            ResumeRefused: in the middle of an epoch, what would lose samples or give them twice.
        """
        before, now, told = self._facts or {}, self.facts(accumulate), []
        for name in sorted(before.keys() & now.keys() - {"seed"}):
            if before[name] == now[name]:
                continue
            if name == "accumulate":
                told.append(
                    f"An update takes {now[name]} batches from here on; before, it took {before[name]}. No batch is "
                    "lost, but the number of steps of the run changes."
                )
            elif done:
                raise ResumeRefused(
                    f"{name} of the data loader was {before[name]} and is {now[name]} in this program, so the place "
                    f"after batch {done} of epoch "
                    f"{epoch + 1} cannot be kept: some samples would repeat and others would be skipped. Use the same "
                    "data and "
                    "options until the epoch has "
                    "ended, or begin a new run."
                )
            else:
                told.append(
                    f"{name} of the data loader is {now[name]} from epoch {epoch + 1} on; before, it was "
                    f"{before[name]}."
                )
        return told

    def inexact(self, done: int, tracked: Sequence[Any] = ()) -> list[str]:
        """Why a resume here cannot be the same to the last bit, as far as it can be seen; see `foreign.inexact`."""
        return [] if self._own else foreign.inexact(self.loader, in_epoch=bool(done), tracked=tracked)

    def begin(self, epoch: int, done: int, *, reload: Callable[[], None], leave: Callable[[], bool]) -> list[str]:
        """Stand at the batch after the last one done, before the generators are restored.

        Returns what the user should know.

        Args:
            epoch: epochs done.
            done: batches of the running epoch done.
            reload: loads the checkpoint's state into the loader once more.
            leave: whether to stop waiting for a batch.
        """
        self._leave = leave
        if self._own:
            sampler = self._own
            moved = sampler._stand_at(0 if done == self.per_epoch else done)  # left in the last batch of an epoch
            sampler._owner, sampler._leave = "run.batches()", leave
            if moved:
                if hasattr(self.loader, "close"):
                    self.loader.close()
                sentence = (
                    "Batches were taken from the loader before the loop began, which moved its position. The position "
                    f"is restored, and the run begins after batch {done} of epoch {epoch + 1}."
                )
                return [sentence]
            return []
        if done:
            if self._facts is not None and foreign.set_epoch(self.loader, epoch):
                reload()  # the state of an epoch is dropped by some unless they know the epoch
            # Its making may draw a seed that the uninterrupted run drew long ago: hence before the generators are
            # restored.
            self._iterator = iter(self.loader)
            if done == (self.per_epoch or (self._facts or {}).get("batches")):
                for _ in self._iterator:  # all were given, and the loader has not noticed yet
                    pass
                self._iterator = None
        return []

    def open(self, epoch: int, done: int) -> bool:
        """Begin an epoch, or continue in it; returns whether there is a batch left.

        Raises:
            DataError: an epoch without a batch.
        """
        self._place = epoch, done
        if self._own:
            return True
        if self._iterator is None:
            foreign.set_epoch(self.loader, epoch)
            self._iterator = iter(self.loader)
        leaving.look_after(self._iterator, self._leave)
        if self.per_epoch is None:
            self._look_ahead()
            if self._ahead is _END:
                self._iterator = None
                if not done:
                    raise DataError(
                        f"The loader ({type(self.loader).__qualname__}) gave no batch in epoch {epoch + 1}. Give it "
                        "data, or a dataset that starts over when it is iterated again."
                    )
                return False
        return True

    def take(self) -> tuple[Any, bool]:
        """The next batch, and whether it is the last of the epoch.

        Raises:
            DataError: the loader ends before its len().
            Interrupted: the session ends while the loop waits.
        """
        epoch, done = self._place
        if self._own:
            batch = self.loader._take()
        elif self.per_epoch is None:
            batch = self._ahead
            self._place = epoch, done + 1
            self._look_ahead()
            return batch, self._ahead is _END
        else:
            batch = next(self._iterator, _END) if self._iterator is not None else _END
            if batch is _END:
                raise DataError(
                    f"The loader ended after {done} batches of epoch {epoch + 1}, and its len() says {self.per_epoch}. "
                    "The length must be exact, because the number of steps is computed from it."
                )
        self._place = epoch, done + 1
        return batch, done + 1 == self.per_epoch

    def finish(self) -> None:
        """The last batch of the epoch is done: let the loader notice, so that its state is that of the next epoch.

        Raises:
            DataError: it has more than its len() says.
        """
        iterator, self._iterator = self._iterator, None
        if iterator is None or self.per_epoch is None:
            return
        if next(iterator, _END) is not _END:
            raise DataError(
                f"The loader has more batches in epoch {self._place[0] + 1} than the {self.per_epoch} that its len() "
                "says, and they would be left out. "
                f"{foreign.why_more(self.loader)}Make the length exact; without one (no __len__), an epoch ends where "
                "the data end."
            )

    def put_back(self, done: int) -> bool:
        """Give the batches after this one again, which made no step; returns whether that can be."""
        if self._own:
            self._own._stand_at(done)
        return self._own is not None

    def release(self) -> None:
        """The loop is over: anybody may take batches."""
        if self._own:
            self._own._owner = self._own._leave = None

    @property
    def may_leave(self) -> bool:
        """Whether waiting for the next batch may be abandoned without a trace."""
        return self._own is not None or self._place[1] > 0  # making an iterator has drawn a number from the generators

    def state_dict(self) -> Any:
        """The loader's state, of before the batch that was taken ahead."""
        return self.loader.state_dict() if self._ahead is _END or self._state is None else self._state

    def load_state_dict(self, state: Any) -> None:
        """Hand a state on to the loader."""
        self.loader.load_state_dict(state)

    def _look_ahead(self) -> None:
        assert self._iterator is not None  # noqa: S101 - callers open first
        self._state = copy.deepcopy(self.loader.state_dict())  # some give the dict that they go on counting in
        import numpy as np

        words = np.random.SeedSequence((self._seed, *self._place)).generate_state(4, np.uint32)
        with rng.seeded_with(words):
            self._ahead = next(self._iterator, _END)


def own(loader: Any) -> BatchSampler | None:
    """The sampler in a loader of outlast's own, None in any other."""
    if isinstance(loader, BatchSampler):
        return loader
    return loader.sampler if isinstance(loader, ExactLoader) else None


def close(loader: Any) -> None:
    """End the workers of a loader of any library."""
    if isinstance(loader, Feed):
        loader = loader.loader
    if own(loader):
        if hasattr(loader, "close"):
            loader.close()
    else:
        foreign.close(loader)


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
