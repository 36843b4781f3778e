"""The checkpoint that an attempt continues: loads its parts into tracked objects and compares them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any

import xxhash

from outlast import state
from outlast.checkpoint import OpenedCheckpoint, open_checkpoint
from outlast.data import feed
from outlast.distributed.ranks import Ranks
from outlast.errors import ANOTHER_NAME, ResumeRefused
from outlast.run import unsaved
from outlast.run.resume import LoadedPart, Verdict, check_record, compare_tree
from outlast.state import TrackedObject, adapters, rng
from outlast.state.array import Array

RNG = "rng"
GRADIENTS = "gradients"
"""The part that holds gradients which no optimizer's step has used yet, where there are some."""


class Continuation:
    """The checkpoint that an attempt continues, until its first step.

    Args:
        opened: the checkpoint.
        ranks: who reads it together.
    """

    def __init__(self, opened: OpenedCheckpoint, ranks: Ranks) -> None:
        self._opened, self._ranks = opened, ranks
        self._lenient = opened.checkpoint.manifest.get("format") == 1
        self._loaded: dict[str, LoadedPart] = {}
        self._kept_rates: dict[str, list[Any]] = {}

    def load(self, held: TrackedObject, kept: Collection[str]) -> None:
        """Load the stored state of its part into a tracked object.

        Args:
            held: the object.
            kept: names of values that the program wins.

        Raises:
            ResumeRefused: the checkpoint has no such part, or it does not fit.
        """
        if "lr" in kept and (rates := held.rates()) is not None:
            self._kept_rates[held.part] = rates
        record, arrays = self._stored(held.part, "object")
        loaded = LoadedPart(held, record, arrays, kept, lenient=self._lenient)
        loaded.load()
        self._loaded[held.part] = loaded

    def load_once_more(self, thing: Any) -> None:
        """Load the state that the attempt began with into a tracked object once more."""
        for loaded in self._loaded.values():
            if loaded.held.thing is thing:
                loaded.load()

    def tree(self, name: str, initial: Any) -> Any:
        """The stored pytree, in the form of another.

        Raises:
            ResumeRefused: the checkpoint has no such part, or it has another form.
        """
        record, stored = self._stored(name, "tree")
        return state.unpack_tree(name, initial, record["state"], stored)

    def check_complete(self, names: Collection[str]) -> None:
        """Refuse to continue without something that the checkpoint holds."""
        missing = sorted(self._opened.state.parts.keys() - {*names, GRADIENTS})
        if missing:
            raise ResumeRefused(
                f"The checkpoint holds {', '.join(missing)}, which this program does not track; continuing would drop "
                f"it. Track it, or begin a new run under {ANOTHER_NAME}."
            )

    def verify(
        self,
        tracked: Mapping[str, TrackedObject],
        trees: Mapping[str, Any],
        options: MutableMapping[str, dict[str, Any]],
    ) -> Verdict:
        """Compare all that was loaded with the checkpoint, and correct what differs.

        Args:
            tracked: part name -> tracked object.
            trees: part name -> pytree.
            options: part name -> what the program chose; gets what is in force instead.

        Raises:
            ResumeRefused: a part does not fit after all.
        """
        verdict = Verdict()
        for name in sorted(self._loaded, key=lambda name: tracked[name].turn):
            verdict.add(self._verify_loaded(name, tracked, options))
        for name, tree in trees.items():
            record, arrays = self._stored(name, "tree")
            again = functools.partial(self._opened.intact, name), functools.partial(self._read_again, name)
            stored = record["state"], dict(arrays)
            verdict.add(compare_tree(name, stored, tree, *again, lenient=self._lenient))
        for name, held in tracked.items():
            if buffers := self._stored(name, "object")[0].get("unsaved"):
                verdict.differences.append(
                    f"{name}: the buffers {', '.join(map(str, buffers))} are not saved (persistent=False)"
                )
            live = unsaved.numbers(held)
            verdict.differences += [
                f"{name}.{key:.120} was {text:.40} when the checkpoint was made and is "
                f"{live.get(key, 'not there'):.40} here: a number in an attribute, which no state_dict has"
                for key, text in self.numbers(name).items()
                if live.get(key) != text
            ]
            if name in self._kept_rates:
                held.take_rates(self._kept_rates[name], tracked.values())
        verdict.differences += self._try_generators()
        return verdict

    def numbers(self, name: str) -> Mapping[str, str]:
        """Numbers in attributes of a tracked object that training had changed; see `unsaved.Numbers`."""
        found = self._stored(name, "object")[0].get("numbers", {})
        if not isinstance(found, Mapping) or not all(isinstance(text, str) for text in found.values()):
            raise ResumeRefused(f"The checkpoint's record of {name!r} is malformed.")
        return found

    def _verify_loaded(
        self, name: str, tracked: Mapping[str, TrackedObject], options: MutableMapping[str, dict[str, Any]]
    ) -> Verdict:
        """Compare one part, and say what the program built otherwise."""
        loaded, held = self._loaded[name], tracked[name]
        if held.follow(tracked.values()):
            loaded.load()
        sampler = feed.own(held.thing)
        if sampler and sampler.changes:
            # another length or batch size from this epoch on: that is said, and no difference of loading
            return Verdict()
        verdict = loaded.verify(functools.partial(self._opened.intact, name), functools.partial(self._read_again, name))
        verdict.differences += held.doubts()
        verdict.notes += held.remarks()
        options[name], sentence = loaded.options(options[name])
        if sentence:
            verdict.notes.append(sentence)
        return verdict

    def _try_generators(self) -> list[str]:
        """Set the generators and look whether they are what was stored.

        They are set again right before the first step.
        """
        stored = state.unpack_value(RNG, self._opened.state.rng, self._opened.arrays(RNG))
        rng.restore(stored)
        now = rng.capture()
        if missing := sorted(stored.keys() - now.keys()):
            names = ", ".join(missing)
            return [f"the generator of {names} was saved and is not loaded here: import that library before the loop"]
        both = {key: now[key] for key in stored}
        return state.differences(
            RNG, state.pack_value(RNG, stored), state.pack_value(RNG, both), lenient=self._lenient
        ).found

    def restore_generators(self) -> None:
        """Set the random generators to the checkpoint's.

        A rank that was not there when it was written gets generators that follow from those of another one and its
        number.

        Raises:
            CorruptCheckpoint: they cannot be set.
        """
        arrays = self._opened.arrays(RNG)
        rng.restore(state.unpack_value(RNG, self._opened.state.rng, arrays))
        if self._opened.borrowed:
            hasher = xxhash.xxh3_64(str(self._ranks.rank).encode())
            for name in sorted(arrays):
                hasher.update(arrays[name].data)
            rng.seed_generators(hasher.intdigest() >> 1)

    def restore_gradients(self, named: Mapping[str, Any]) -> None:
        """Give parameters the gradients that the next step adds to.

        Args:
            named: name -> parameter.
        """
        record = self._opened.state.parts.get(GRADIENTS)
        if record is None:
            return
        like = adapters.sharded({name: parameter.detach() for name, parameter in named.items()})
        stored = state.unpack_value(
            GRADIENTS, check_record(GRADIENTS, record)["state"], self._opened.arrays(GRADIENTS), like
        )
        for name, gradient in stored.items():
            if name not in named or named[name].shape != gradient.shape:
                raise ResumeRefused(
                    f"The checkpoint holds a gradient of {name!r}, and this program has no such parameter."
                )
            named[name].grad = gradient.to(named[name].device)

    def _read_again(self, name: str) -> Mapping[str, Array]:
        again = open_checkpoint(self._opened.checkpoint.path, [name], ranks=self._ranks)
        return again.arrays(name)

    def _stored(self, name: str, kind: str) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        stored = self._opened.state.parts
        if name not in stored or check_record(name, stored[name])["kind"] != kind:
            raise ResumeRefused(
                f"{name!r} is not in the checkpoint at step {self._opened.checkpoint.step}, which holds "
                f"{', '.join(sorted(stored)) or 'nothing'}. A run tracks the same parts in every attempt: leave it "
                f"out, or begin a new run under {ANOTHER_NAME}."
            )
        return stored[name], self._opened.arrays(name)
