"""The parts of a run's state: tracked and offered objects, and their way into a checkpoint and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from outlast import state
from outlast.checkpoint import OpenedCheckpoint
from outlast.config.words import nearest
from outlast.data import feed, foreign, leaving
from outlast.distributed import replicas
from outlast.distributed.ranks import Ranks
from outlast.errors import StateError, UnknownName, UsageError
from outlast.run import unsaved
from outlast.run.continuation import GRADIENTS, RNG, Continuation
from outlast.run.keeping import check_keep
from outlast.run.resume import Verdict, check_record
from outlast.state import TrackedObject, adapters, rng
from outlast.state.array import Array

Packed = tuple[dict[str, dict[str, Array]], dict[str, Any], Any]
"""Part name -> array name -> array; part name -> kind and JSON; JSON of the generators."""

_NAME = re.compile(r"(?!.*\.(rank-\d+|shared)$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Parts:
    """Everything that goes into a checkpoint besides the clock.

    Args:
        opened: the checkpoint that the attempt continues, or None for a fresh start.
        ranks: who holds parts of the same state.

    Attributes:
        notes: warnings that the user should read, since someone emptied this list.
    """

    def __init__(self, opened: OpenedCheckpoint | None, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or Ranks()
        self._continued = Continuation(opened, self._ranks) if opened else None
        self._tracked: dict[str, TrackedObject] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._trees: dict[str, Any] = {}
        self._offered: dict[str, int] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._numbers: dict[str, unsaved.Numbers] = {}
        self._stepped: set[int] = set()  # optimizers that made their step in the running step of the run
        self._unhook: Callable[[], None] = lambda: None
        self.notes: list[str] = []
        self._workers_before = leaving.at_work()

    @property
    def names(self) -> list[str]:
        """Names in use, in the order in which they came."""
        return [*self._tracked, *self._trees]

    @property
    def things(self) -> list[Any]:
        """The tracked objects, as they were given."""
        return [held.thing for held in self._tracked.values()]

    @property
    def loaders(self) -> list[str]:
        """Names of the tracked loaders and samplers of outlast, whose position decides what is read."""
        return [name for name, held in self._tracked.items() if feed.own(held.thing) is not None]

    def tracks(self, thing: Any) -> bool:
        """Whether this very object is tracked under some name."""
        return any(held.thing is thing for held in self._tracked.values())

    def track(self, parts: Mapping[str, Any], keep: Mapping[str, Any] | None = None) -> None:
        """Take objects in, and load their stored state; see `Run.track`."""
        wins = check_keep(keep, parts)
        found: dict[str, tuple[TrackedObject, list[str]]] = {}
        for name, thing in parts.items():
            for each, member in _flat(name, thing):
                self._check_name(each)
                foreign.shield(member)
                held = state.tracked(each, member)
                held.check()
                found[each] = held, wins.get(name, [])
        for name, (held, kept) in sorted(found.items(), key=lambda item: item[1][0].turn):
            self._take(name, held, kept)
        self._tracked = {name: self._tracked[name] for name in [*(n for n in self._tracked if n not in found), *found]}

    def _take(self, name: str, held: TrackedObject, kept: Collection[str]) -> None:
        held.names = self._parameter_names()
        fresh = held.pack()
        state.try_way_back(name, fresh)
        self.notes += unsaved.empty(held, fresh)
        self._options[name] = held.options(fresh[0])
        if self._continued:
            self._continued.load(held, kept)
            state.try_way_back(name, held.pack())
        self._tracked[name] = held

    def load_once_more(self, thing: Any) -> None:
        """Load the state that the attempt began with into a tracked object once more."""
        if self._continued:
            self._continued.load_once_more(thing)

    def substitute(self, thing: Any, other: Any) -> None:
        """Save another object's state from now on in place of a tracked one's."""
        for name, held in self._tracked.items():
            if held.thing is thing:
                self._tracked[name] = state.tracked(name, other)

    def changed_orders(self) -> list[str]:
        """Harmless differences in the order of data since the checkpoint."""
        samplers = [feed.own(thing) for thing in self.things]
        return [sentence for sampler in samplers if sampler for sentence in sampler.changes]

    def look_at_loaders(self) -> list[str]:
        """Why data of tracked loaders cannot come as in an uninterrupted run, for a loop that takes its batches itself.

        Raises:
            StateError: the position of one is no position.
        """
        theirs = [thing for thing in self.things if foreign.is_torchdata(thing)]
        for loader in theirs:
            foreign.check_exact(loader)
        return [reason for loader in theirs for reason in foreign.inexact(loader, in_epoch=True, tracked=self.things)]

    def close(self) -> None:
        """End the workers of tracked loaders, and those that other loaders of outlast's started meanwhile.

        Optimizers are no longer listened to.
        """
        self._unhook()
        for thing in self.things:
            feed.close(thing)
        leaving.end_since(self._workers_before)

    def restore(self, name: str, initial: Any) -> Any:
        """Take a pytree in, and return the stored one in its form; see `Run.restore`."""
        self._check_name(name)
        node, arrays = state.pack_tree(name, initial)
        state.try_way_back(name, (list(node.values()), arrays))
        if self._continued:
            initial = self._continued.tree(name, initial)
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
                "Nothing is tracked, so nothing could be continued: call run.track(model=model, optimizer=optimizer, "
                "...) or state = run.restore(state) before the loop."
            )
        if self._continued:
            self._continued.check_complete(self.names)

    def check_known(self, name: str | None) -> None:
        """Raise UnknownName if this is a name, and of none of the parts."""
        if name is not None and name not in self.names:
            raise UnknownName(
                f"part={name!r:.120} is not tracked; tracked are {', '.join(self.names) or 'none'}."
                f"{nearest(str(name), self.names)}"
            )

    @property
    def trees(self) -> list[str]:
        """Names of the pytrees."""
        return list(self._trees)

    @property
    def networks(self) -> list[str]:
        """Names of the tracked objects that have parameters."""
        return [name for name, held in self._tracked.items() if callable(getattr(held.thing, "parameters", None))]

    def load_again(self, opened: OpenedCheckpoint, names: Sequence[str]) -> None:
        """Load tracked objects from another checkpoint of this run."""
        for name in names:
            record = check_record(name, opened.state.parts.get(name))
            state.load_object(name, self._tracked[name].thing, record, opened.arrays(name))

    def verify(self) -> Verdict:
        """Compare all that was loaded with the checkpoint, and correct what differs.

        To be called when everything is built.

        Raises:
            ResumeRefused: a part does not fit after all.
        """
        names = self._parameter_names()
        named = self._named_parameters()
        for held in self._tracked.values():
            held.names, held.named, held.settled = names, named, True
        verdict = Verdict()
        if self._continued:
            verdict = self._continued.verify(self._tracked, self._trees, self._options)
            self.notes += verdict.notes
        self.notes += unsaved.schedules(self._tracked.values())
        return verdict

    def watch(self) -> None:
        """Look at what is not saved, so that a change of it is noticed later; to be called before the first step."""
        for name, held in self._tracked.items():
            self.notes += unsaved.buffers(held, self._unsaved.setdefault(held.part, set()))
            self._numbers[name] = unsaved.Numbers(held)
            if self._continued:
                self._numbers[name].know(self._continued.numbers(name))
        self._unhook = adapters.before_updates(lambda optimizer: self._stepped.add(id(optimizer)))

    def begin_step(self) -> None:
        """Another step begins: no optimizer has made its step yet."""
        self._stepped.clear()

    def restore_generators(self) -> None:
        """Set the random generators to the checkpoint's, right before the first step.

        The checkpoint's bytes are let go.

        Raises:
            CorruptCheckpoint: they cannot be set.
        """
        if self._continued:
            self._continued.restore_gradients(self._named_parameters())
            self._continued.restore_generators()
        self._continued = None

    def pack(self) -> Packed:
        """Take all parts and the generators apart."""
        packed: dict[str, state.Packed] = {}
        records: dict[str, dict[str, Any]] = {}
        for name, held in self._tracked.items():
            self.notes += unsaved.buffers(held, self._unsaved.setdefault(held.part, set()))
            packed[name] = held.pack()
            changed: dict[str, Any] = {"unsaved": sorted(self._unsaved[name])} if self._unsaved[name] else {}
            if name in self._numbers:  # else training has not begun
                numbers, notes = self._numbers[name].look()
                self.notes += notes
                changed |= {"numbers": numbers} if numbers else {}
            records[name] = {
                "kind": "object",
                "state": packed[name][0],
                **held.facts(),
                "options": self._options[name],
                **changed,
            }
        for name, tree in self._trees.items():
            packed[name] = state.pack_tree(name, tree)
            records[name] = {"kind": "tree", "state": packed[name][0]}
        if carried := self._carried():
            packed[GRADIENTS] = state.pack_value(GRADIENTS, carried)
            records[GRADIENTS] = {"kind": "object", "state": packed[GRADIENTS][0]}
        generators, generator_arrays = state.pack_value(RNG, rng.capture())
        arrays = {name: arrays for name, (_, arrays) in packed.items()} | {RNG: generator_arrays}
        return arrays, records, generators

    def _carried(self) -> dict[str, Any]:
        """Gradients that the next step adds to, of optimizers that made no step in this one.

        They go by the names of their parameters.
        """
        names = self._parameter_names()
        return {
            names[id(parameter)]: gradient
            for held in self._tracked.values()
            if id(held.thing) not in self._stepped
            for parameter, gradient in held.unused_gradients()
            if id(parameter) in names
        }

    def pack_own(self, step: int) -> Packed:
        """Like `pack`; on all ranks but the first only what rank 0 does not hold as well.

        All ranks call it at the same step.

        Raises:
            RankFailed: a rank is gone, or at another step.
        """
        arrays, nodes, generators = self.pack()
        if not self._ranks.several:
            return arrays, nodes, generators
        guarded = self.guarded()
        own = replicas.fingerprints(arrays, nodes, guarded)
        mains = json.loads(self._ranks.broadcast(f"saving step {step}", json.dumps(own).encode()))
        if not self._ranks.is_main:
            kept, nodes = replicas.without_copies(arrays, nodes, own, mains, guarded)
            return kept, nodes, generators
        return arrays, nodes, generators

    @property
    def sums_in_another_order(self) -> bool:
        """Whether the first step of an attempt adds gradients otherwise than later ones.

        DDP with three ranks or more does.
        """
        return self._ranks.count > 2 and any(adapters.regroups(thing) for thing in self.things)

    def guarded(self) -> set[Any]:
        """Memory that changes only when a tracked optimizer makes its step."""
        return adapters.optimizer_places(self.things)

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r:.120} cannot name a part of the state: use up to 100 letters, digits, '_', '.' and '-'; it "
                "becomes the name of a file."
            )
        if name in (RNG, GRADIENTS):
            raise UsageError(
                f"The name {name!r} is taken by outlast, which saves the state of the global generators as {RNG!r} and "
                f"gradients as {GRADIENTS!r}. Choose another name."
            )
        if name in self._tracked or name in self._trees:
            raise UsageError(f"The name {name!r} is taken; give each part of the state a name of its own.")

    def _parameter_names(self) -> dict[int, str]:
        """The names of all parameters of the tracked modules, by identity; of two names of one, the first."""
        return {id(parameter): name for name, parameter in reversed(self._named_parameters().items())}

    def tell_notes(self, tell: Callable[[str, str], None]) -> None:
        """Say the notes as warnings, each once."""
        notes, self.notes = self.notes, []
        for sentence in notes:
            tell("warning", sentence)

    def _named_parameters(self) -> dict[str, Any]:
        """The parameters of all tracked modules by their names."""
        return {
            f"{part}.{name}": parameter for part, held in self._tracked.items() for name, parameter in held.parameters()
        }


def _flat(name: str, thing: Any) -> list[tuple[str, Any]]:
    """The objects of lists and dicts under names of their own."""
    inner = state.members(name, thing)
    if inner is None:
        return [(name, thing)]
    return [pair for each, member in inner for pair in _flat(each, member)]
