"""The parts of a run's state: what is tracked, what is offered, and the way of both into a checkpoint and back."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import xxhash

from outlast import state
from outlast.checkpoint import Opened, open_checkpoint
from outlast.data import feed, foreign, leaving
from outlast.distributed import replicas
from outlast.distributed.ranks import Ranks
from outlast.errors import ANOTHER_NAME, ResumeRefused, StateError, UsageError
from outlast.run.resume import LoadedPart, Verdict, check_keep, check_record, compare_tree
from outlast.state import Tracked, adapters, rng
from outlast.state.array import Array

RNG = "rng"
GRADIENTS = "gradients"
"""The part that holds gradients which no optimizer's step has used yet, where there are some."""

Packed = tuple[dict[str, dict[str, Array]], dict[str, Any], Any]
"""Part name -> array name -> array; part name -> kind and JSON; JSON of the generators."""

_NAME = re.compile(r"(?!.*\.(rank-\d+|shared)$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Parts:
    """Everything that goes into a checkpoint besides the clock.

    Args:
        opened: the checkpoint that the attempt continues, or None for a fresh start.
        ranks: who holds parts of the same state.

    Attributes:
        notes: warnings that the user should read, since somebody emptied this list.
    """

    def __init__(self, opened: Opened | None, ranks: Ranks | None = None) -> None:
        self._opened = opened
        self._lenient = opened is not None and opened.checkpoint.manifest.get("format") == 1
        self._ranks = ranks or Ranks()
        self._tracked: dict[str, Tracked] = {}
        self._loaded: dict[str, LoadedPart] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._kept_rates: dict[str, list[Any]] = {}
        self._trees: dict[str, Any] = {}
        self._offered: dict[str, int] = {}
        self._unsaved: dict[str, set[str]] = {}
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

    def tracks(self, thing: Any) -> bool:
        """Whether this very object is tracked under some name."""
        return any(held.thing is thing for held in self._tracked.values())

    def track(self, parts: Mapping[str, Any], keep: Mapping[str, Any] | None = None) -> None:
        """Take objects in, and load their stored state; see `Run.track`."""
        wins = check_keep(keep, parts)
        found: dict[str, tuple[Tracked, list[str]]] = {}
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

    def _take(self, name: str, held: Tracked, kept: Collection[str]) -> None:
        held.names = self._parameter_names()
        fresh = held.pack()
        state.try_way_back(name, fresh)
        self._note_empty(held, fresh)
        built = held.options(fresh[0])
        self._options[name] = built
        if self._opened:
            if "lr" in kept and (rates := held.rates()) is not None:
                self._kept_rates[name] = rates
            record, arrays = self._stored(name, "object")
            loaded = LoadedPart(held, record, arrays, kept, lenient=self._lenient)
            loaded.load()
            self._loaded[name] = loaded
            state.try_way_back(name, held.pack())
        self._tracked[name] = held

    def load_once_more(self, thing: Any) -> None:
        """Load the state that the attempt began with into a tracked object once more."""
        for name, loaded in self._loaded.items():
            if self._tracked[name].thing is thing:
                loaded.load()

    def substitute(self, thing: Any, other: Any) -> None:
        """Save another object's state from now on in place of a tracked one's."""
        for name, held in self._tracked.items():
            if held.thing is thing:
                self._tracked[name] = state.tracked(name, other)

    def changed_orders(self) -> list[str]:
        """What is different in the order of data since the checkpoint, where nothing is lost by it."""
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
        """End the workers of tracked loaders and those that other loaders of outlast's started meanwhile; listen to optimizers no longer."""
        self._unhook()
        for thing in self.things:
            feed.close(thing)
        leaving.end_since(self._workers_before)

    def restore(self, name: str, initial: Any) -> Any:
        """Take a pytree in, and return the stored one in its form; see `Run.restore`."""
        self._check_name(name)
        node, arrays = state.pack_tree(name, initial)
        state.try_way_back(name, (list(node.values()), arrays))
        if self._opened:
            record, stored = self._stored(name, "tree")
            initial = state.unpack_tree(name, initial, record["state"], stored)
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
        missing = sorted(self._opened.state["parts"].keys() - {*self.names, GRADIENTS}) if self._opened else []
        if missing:
            raise ResumeRefused(
                f"The checkpoint holds {', '.join(missing)}, which this program does not track; going on would drop it. Track it, "
                f"or begin a new run under {ANOTHER_NAME}."
            )

    @property
    def trees(self) -> list[str]:
        """Names of the pytrees."""
        return list(self._trees)

    @property
    def networks(self) -> list[str]:
        """Names of the tracked objects that have parameters."""
        return [name for name, held in self._tracked.items() if callable(getattr(held.thing, "parameters", None))]

    def load_again(self, opened: Opened, names: Sequence[str]) -> None:
        """Load tracked objects from another checkpoint of this run."""
        for name in names:
            record = check_record(name, opened.state["parts"].get(name))
            state.load_object(name, self._tracked[name].thing, record, opened.parts.get(name, {}))

    def verify(self) -> Verdict:
        """Compare all that was loaded with the checkpoint, and put right what differs; to be called when everything is built.

        Raises:
            ResumeRefused: a part does not fit after all.
        """
        verdict = Verdict()
        names = self._parameter_names()
        named = self._named_parameters()
        for held in self._tracked.values():
            held.names, held.named, held.settled = names, named, True
        opened = self._opened
        if opened is None:
            self._warn_of_schedulers()
            return verdict
        for name in [*sorted(self._loaded, key=lambda name: self._tracked[name].turn), *self._trees]:
            again = functools.partial(opened.intact, name), functools.partial(self._read_again, name)
            if name in self._loaded:
                each = self._verify_loaded(name, *again)
            else:
                record, arrays = self._stored(name, "tree")
                each = compare_tree(
                    name, (record["state"], dict(arrays)), self._trees[name], *again, lenient=self._lenient
                )
            verdict.repaired += each.repaired
            verdict.differences += each.differences
        for name, held in self._tracked.items():
            if unsaved := self._stored(name, "object")[0].get("unsaved"):
                verdict.differences.append(
                    f"{name}: the buffers {', '.join(map(str, unsaved))} are not saved (persistent=False)"
                )
            if name in self._kept_rates:
                held.take_rates(self._kept_rates[name], self._tracked.values())
        verdict.differences += self._try_generators()
        self._warn_of_schedulers()
        return verdict

    def _verify_loaded(
        self, name: str, intact: Callable[[], bool], reread: Callable[[], Mapping[str, Array]]
    ) -> Verdict:
        """Compare one part, and say what the program built otherwise."""
        loaded, held = self._loaded[name], self._tracked[name]
        if held.follow(self._tracked.values()):
            loaded.load()
        sampler = feed.own(held.thing)
        if sampler and sampler.changes:
            return (
                Verdict()
            )  # another length or batch size from this epoch on: that is said, and no difference of loading
        verdict = loaded.verify(intact, reread)
        verdict.differences += held.doubts()
        self.notes += held.remarks()
        self._options[name], sentence = loaded.options(self._options[name])
        if sentence:
            self.notes.append(sentence)
        return verdict

    def _try_generators(self) -> list[str]:
        """Set the generators and look whether they are what was stored; they are set again right before the first step."""
        assert self._opened is not None  # noqa: S101 - asked while it is open
        stored = state.unpack_value(RNG, self._opened.state[RNG], self._opened.parts[RNG])
        rng.restore(stored)
        now = rng.capture()
        missing = sorted(stored.keys() - now.keys())
        if missing:
            return [
                f"the generator of {', '.join(missing)} was saved and is not loaded here: import that library before the loop"
            ]
        both = {key: now[key] for key in stored}
        return state.differences(
            RNG, state.pack_value(RNG, stored), state.pack_value(RNG, both), lenient=self._lenient
        ).found

    def watch(self) -> None:
        """Look at what is not saved, so that a change of it is noticed later; to be called before the first step."""
        for held in self._tracked.values():
            self._look_at_buffers(held)
        self._unhook = adapters.before_updates(lambda optimizer: self._stepped.add(id(optimizer)))

    def begin_step(self) -> None:
        """Another step begins: no optimizer has made its step yet."""
        self._stepped.clear()

    def restore_generators(self) -> None:
        """Set the random generators to the checkpoint's; the checkpoint's bytes are let go.

        A rank that was not there when it was written gets generators that follow from those of another one and its number.

        Raises:
            CorruptCheckpoint: they cannot be set.
        """
        if self._opened:
            self._restore_gradients()
            arrays = self._opened.parts[RNG]
            rng.restore(state.unpack_value(RNG, self._opened.state[RNG], arrays))
            if self._opened.borrowed:
                hasher = xxhash.xxh3_64(str(self._ranks.rank).encode())
                for name in sorted(arrays):
                    hasher.update(arrays[name].data)
                rng.seed_generators(hasher.intdigest() >> 1)
        self._opened = None
        self._loaded.clear()

    def pack(self) -> Packed:
        """Take all parts and the generators apart."""
        packed: dict[str, state.Packed] = {}
        records: dict[str, dict[str, Any]] = {}
        for name, held in self._tracked.items():
            self._look_at_buffers(held)
            packed[name] = held.pack()
            unsaved = {"unsaved": sorted(self._unsaved[name])} if self._unsaved.get(name) else {}
            records[name] = {
                "kind": "object",
                "state": packed[name][0],
                **held.facts(),
                "options": self._options[name],
                **unsaved,
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
        """Gradients that the next step adds to: of optimizers that made no step in this one. By the names of their parameters."""
        names = self._parameter_names()
        return {
            names[id(parameter)]: gradient
            for held in self._tracked.values()
            if id(held.thing) not in self._stepped
            for parameter, gradient in held.unused_gradients()
            if id(parameter) in names
        }

    def _restore_gradients(self) -> None:
        assert self._opened is not None  # noqa: S101 - asked while it is open
        record = self._opened.state["parts"].get(GRADIENTS)
        if record is None:
            return
        named = self._named_parameters()
        like = adapters.sharded({name: parameter.detach() for name, parameter in named.items()})
        stored = state.unpack_value(
            GRADIENTS, check_record(GRADIENTS, record)["state"], self._opened.parts[GRADIENTS], like
        )
        for name, gradient in stored.items():
            if name not in named or named[name].shape != gradient.shape:
                raise ResumeRefused(
                    f"The checkpoint holds a gradient of {name!r}, and this program has no such parameter."
                )
            named[name].grad = gradient.to(named[name].device)

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
        return self._ranks.count > 2 and any(adapters.regroups(thing) for thing in self.things)

    def guarded(self) -> set[Any]:
        """Memory that changes only when a tracked optimizer makes its step."""
        return adapters.optimizer_places(self.things)

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r:.120} cannot name a part of the state: use up to 100 letters, digits, '_', '.' and '-'; it becomes the name of a file."
            )
        if name in (RNG, GRADIENTS) or name in self._tracked or name in self._trees:
            raise UsageError(f"The name {name!r} is taken; give each part of the state a name of its own.")

    def _parameter_names(self) -> dict[int, str]:
        """The names of all parameters of the tracked modules, by identity; of two names of one, the first."""
        return {id(parameter): name for name, parameter in reversed(self._named_parameters().items())}

    def _named_parameters(self) -> dict[str, Any]:
        """The parameters of all tracked modules by their names."""
        return {
            f"{part}.{name}": parameter for part, held in self._tracked.items() for name, parameter in held.parameters()
        }

    def tell_notes(self, tell: Callable[[str, str], None]) -> None:
        """Say the notes as warnings, each once."""
        notes, self.notes = self.notes, []
        for sentence in notes:
            tell("warning", sentence)

    def _note_empty(self, held: Tracked, packed: state.Packed) -> None:
        enabled = getattr(held.bare, "is_enabled", None)
        if (
            not packed[1] and not packed[0] and not (callable(enabled) and not enabled())
        ):  # a scaler that is switched off
            self.notes.append(
                f"{held.part} ({held.kind}) has an empty state_dict(), so nothing of it is saved, and it begins anew at every resume. If it "
                "counts something (a metric of torchmetrics: metric.persistent(True)), let its state_dict() hold that; else leave it out."
            )

    def _look_at_buffers(self, held: Tracked) -> None:
        changed = held.unsaved()
        known = self._unsaved.setdefault(held.part, set())
        if new := [name for name in changed if name not in known]:
            known.update(new)
            self.notes.append(
                f"Training changes {', '.join(f'{held.part}[{name}]' for name in new)}, which is no part of the state_dict (persistent=False) "
                "and is not saved: a resume begins with what the program builds. Register the buffer with persistent=True to save it."
            )

    def _warn_of_schedulers(self) -> None:
        """A schedule that is not tracked starts anew in every session."""
        for name, held in self._tracked.items():
            if held.lacks_schedule(self._tracked.values()):
                self.notes.append(
                    f"A learning rate scheduler of {name} is not tracked, so its schedule begins anew at every resume. Track it: "
                    "run.track(scheduler=scheduler)."
                )

    def _read_again(self, name: str) -> Mapping[str, Array]:
        assert self._opened is not None  # noqa: S101 - asked while it is open
        again = open_checkpoint(self._opened.checkpoint.path, [name], ranks=self._ranks)
        return again.parts.get(name, {})

    def _stored(self, name: str, kind: str) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        assert self._opened is not None  # noqa: S101 - callers ask first
        stored = self._opened.state["parts"]
        if name not in stored or check_record(name, stored[name])["kind"] != kind:
            raise ResumeRefused(
                f"{name!r} is not in the checkpoint at step {self._opened.checkpoint.step}, which holds "
                f"{', '.join(sorted(stored)) or 'nothing'}. A run tracks the same parts in every attempt: leave it out, or begin a new "
                f"run under {ANOTHER_NAME}."
            )
        return stored[name], self._opened.parts.get(name, {})


def _flat(name: str, thing: Any) -> list[tuple[str, Any]]:
    """The objects of lists and dicts under names of their own."""
    inner = state.members(name, thing)
    if inner is None:
        return [(name, thing)]
    return [pair for each, member in inner for pair in _flat(each, member)]
