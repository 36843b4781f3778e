"""The parts of a run's state: what is tracked, what is offered, and the way of both into a checkpoint and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from outlast import state
from outlast.checkpoint import Opened
from outlast.errors import ResumeRefused, StateError, UsageError
from outlast.ranks import Ranks
from outlast.state import adapters, feed, replicas, rng
from outlast.state.array import Array

RNG = "rng"

Packed = tuple[dict[str, dict[str, Array]], dict[str, Any], Any]
"""Part name -> array name -> array; part name -> kind and JSON; JSON of the generators."""


class Parts:
    """Everything that goes into a checkpoint besides the clock.

    Args:
        opened: the checkpoint that the attempt continues, or None for a fresh start.
        ranks: who holds parts of the same state.
    """

    def __init__(self, opened: Opened | None, ranks: Ranks | None = None) -> None:
        self._opened = opened
        self._ranks = ranks or Ranks()
        self._tracked: dict[str, Any] = {}
        self._trees: dict[str, Any] = {}
        self._offered: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """Names in use, in the order in which they came."""
        return [*self._tracked, *self._trees]

    def tracks(self, thing: Any) -> bool:
        """Whether this very object is tracked under some name."""
        return any(tracked is thing for tracked in self._tracked.values())

    def track(self, name: str, thing: Any) -> None:
        """Take an object in, and load its stored state; see `Run.track`."""
        self._check_name(name)
        state.check_trackable(name, thing)
        if self._opened:
            node, arrays = self._stored(name, "object")
            state.load_object(name, thing, node, arrays)
        state.pack_object(name, thing)  # what cannot be saved is refused before the first step
        self._tracked[name] = thing

    def load_once_more(self, thing: Any) -> None:
        """Load the state that the attempt began with into a tracked object once more."""
        for name, tracked in self._tracked.items():
            if tracked is thing and self._opened:
                state.load_object(name, thing, *self._stored(name, "object"))

    def substitute(self, thing: Any, other: Any) -> None:
        """Save another object's state from now on in place of a tracked one's."""
        self._tracked = {name: other if tracked is thing else tracked for name, tracked in self._tracked.items()}

    def changed_orders(self) -> list[str]:
        """What is different in the order of data since the checkpoint, where nothing is lost by it."""
        samplers = [feed.own(thing) for thing in self._tracked.values()]
        return [sentence for sampler in samplers if sampler for sentence in sampler.changes]

    def close(self) -> None:
        """End the workers of the data loaders that are tracked."""
        for thing in self._tracked.values():
            feed.close(thing)

    def restore(self, name: str, initial: Any) -> Any:
        """Take a pytree in, and return the stored one in its form; see `Run.restore`."""
        self._check_name(name)
        state.pack_tree(name, initial)
        if self._opened:
            node, arrays = self._stored(name, "tree")
            initial = state.unpack_tree(name, initial, node, arrays)
        self._trees[name] = initial
        return initial

    def offer(self, name: str, tree: Any, step: int) -> None:
        """Replace a pytree by what a step made of it; see `Run.offer`."""
        if name not in self._trees:
            raise UsageError(
                f"offer() was given {name!r} before restore(): call `state = run.restore(state)` before the loop."
            )
        if name not in self._offered:
            state.check_same_leaves(name, self._trees[name], tree)
        self._trees[name] = tree
        self._offered[name] = step

    def not_offered(self, step: int) -> list[str]:
        """Names of the pytrees that this step has not offered: saving them would save an older state."""
        return [name for name in self._trees if self._offered.get(name) != step] if self._trees else []

    def check_complete(self) -> None:
        """Refuse to begin with nothing, or without something that the checkpoint holds."""
        if not self.names:
            raise StateError(
                "Nothing is tracked, so nothing could be continued: call run.track(model=model, optimizer=optimizer, ...) or "
                "state = run.restore(state) before the loop."
            )
        missing = sorted(self._opened.state["parts"].keys() - set(self.names)) if self._opened else []
        if missing:
            raise ResumeRefused(
                f"The checkpoint holds {', '.join(missing)}, which this program does not track; going on would drop it. Track it, "
                "or begin a new run under another name (--experiment-name)."
            )

    @property
    def trees(self) -> list[str]:
        """Names of the pytrees."""
        return list(self._trees)

    @property
    def networks(self) -> list[str]:
        """Names of the tracked objects that have parameters."""
        return [name for name, thing in self._tracked.items() if callable(getattr(thing, "parameters", None))]

    def load_again(self, opened: Opened, names: Sequence[str]) -> None:
        """Load tracked objects from another checkpoint of this run."""
        for name in names:
            stored = opened.state["parts"][name]
            state.load_object(name, self._tracked[name], stored["state"], opened.parts.get(name, {}))

    def restore_generators(self) -> None:
        """Set the random generators to the checkpoint's; the checkpoint's bytes are let go.

        A rank that was not there when it was written gets generators that follow from those of another one and its number.
        """
        if self._opened:
            arrays = self._opened.parts[RNG]
            rng.restore(state.unpack_value(RNG, self._opened.state[RNG], arrays))
            if self._opened.borrowed:
                hasher = xxhash.xxh3_64(str(self._ranks.rank).encode())
                for name in sorted(arrays):
                    hasher.update(arrays[name].data)
                rng.seed_everything(hasher.intdigest() >> 1)
        self._opened = None

    def pack(self) -> Packed:
        """Take all parts and the generators apart."""
        packed: dict[str, tuple[str, state.Packed]] = {}
        for name, thing in self._tracked.items():
            packed[name] = ("object", state.pack_object(name, thing))
        for name, tree in self._trees.items():
            packed[name] = ("tree", state.pack_tree(name, tree))
        generators, generator_arrays = state.pack_value(RNG, rng.capture())
        arrays = {name: arrays for name, (_, (_, arrays)) in packed.items()} | {RNG: generator_arrays}
        nodes = {name: {"kind": kind, "state": node} for name, (kind, (node, _)) in packed.items()}
        return arrays, nodes, generators

    def pack_own(self, step: int) -> Packed:
        """Like `pack`; on all ranks but the first only what rank 0 does not hold as well. All ranks call it at the same step.

        Raises:
            RankFailed: a rank is gone, or at another step.
        """
        arrays, nodes, generators = self.pack()
        if not self._ranks.several:
            return arrays, nodes, generators
        guarded = self.guarded()
        own = replicas.fingerprints(arrays, nodes, guarded)
        mains = json.loads(self._ranks.from_main(f"saving step {step}", json.dumps(own).encode()))
        if not self._ranks.main:
            kept, nodes = replicas.without_copies(arrays, nodes, own, mains, guarded)
            return kept, nodes, generators
        return arrays, nodes, generators

    @property
    def sums_in_another_order(self) -> bool:
        """Whether the first step of an attempt adds gradients otherwise than later ones: DDP with three ranks or more."""
        return self._ranks.count > 2 and any(adapters.regroups(thing) for thing in self._tracked.values())

    def guarded(self) -> set[Any]:
        """Memory that changes only when a tracked optimizer makes its step."""
        return adapters.optimizer_places(self._tracked.values())

    def _check_name(self, name: str) -> None:
        if name == RNG or name in self._tracked or name in self._trees:
            raise UsageError(f"The name {name!r} is taken; give each part of the state a name of its own.")

    def _stored(self, name: str, kind: str) -> tuple[Any, Mapping[str, Array]]:
        assert self._opened  # noqa: S101 - callers ask first
        stored = self._opened.state["parts"]
        if name not in stored or stored[name]["kind"] != kind:
            raise ResumeRefused(
                f"{name!r} is not in the checkpoint at step {self._opened.checkpoint.step}, which holds "
                f"{', '.join(sorted(stored)) or 'nothing'}. A run tracks the same parts in every attempt: leave it out, or begin a new "
                "run under another name (--experiment-name)."
            )
        return stored[name]["state"], self._opened.parts.get(name, {})
