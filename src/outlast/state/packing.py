"""Values, objects and pytrees as arrays and JSON, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from outlast.errors import ANOTHER_NAME, ResumeRefused, StateError
from outlast.state import adapters
from outlast.state.adapter import Rebuild
from outlast.state.array import Array
from outlast.state.kinds import tracked
from outlast.state.objects import Packed
from outlast.state.tree import Decoder, Encoder


def pack_value(part: str, value: Any) -> Packed:
    """Pack a value of plain containers and arrays; raises StateError, which names a value that cannot be saved."""
    encoder = Encoder(part)
    return encoder.encode(value), encoder.arrays


def unpack_value(part: str, node: Any, arrays: Mapping[str, Array], sharded: Mapping[str, Any] | None = None) -> Any:
    """Rebuild the value that `pack_value` packed. `sharded` is as in `Decoder`."""
    return Decoder(part, arrays, sharded).decode(node)


def load_object(part: str, thing: Any, record: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Load a stored part into an object, to inspect it.

    Frozen parameters and training or evaluation mode are unchanged.

    Raises:
        ResumeRefused: the state belongs to another architecture or optimizer. A torch module is unchanged then.
    """
    held = tracked(part, thing)
    held.settled = True
    facts = {key: record[key] for key in ("class", "parameters", "versions") if key in record}
    held.load(held.fit(held.decode(record["state"], arrays), facts), facts)


def pack_tree(part: str, tree: Any) -> Packed:
    """Pack a pytree. Each leaf is stored under its path."""
    leaves, _ = _flatten(tree)
    twice = next((path for path, count in Counter(path for path, _ in leaves).items() if count > 1), None)
    if twice is not None:
        raise StateError(f"{part} has two leaves under the path {twice!r}: a key holds a '/'. Rename it.")
    encoder = Encoder(part)
    try:
        return {path: encoder.encode(leaf, (path,) if path else ()) for path, leaf in leaves}, encoder.arrays
    except StateError as error:
        if (advice := adapters.advice(tree)) and advice not in str(error):  # a leaf may have the same advice
            raise StateError(f"{str(error).split(' outlast saves ')[0]} {advice}") from error
        raise


def unpack_tree(part: str, template: Any, node: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
    """Rebuild a pytree with the structure of a template.

    Raises:
        ResumeRefused: leaves are missing, are new, or differ from the template in shape or dtype.
    """
    leaves, rebuild = _flatten(template)
    advice = (
        f"The state changed its form since this run began: begin a new run under {ANOTHER_NAME}, "
        "or go back to the old form."
    )
    names = {path for path, _ in leaves}
    for path in sorted(names ^ node.keys()):
        where = (
            "this program's state and not in the checkpoint"
            if path in names
            else "the checkpoint and not in this program's state"
        )
        raise ResumeRefused(f"{part}[{path}] is in {where}. {advice}")
    decoder = Decoder(part, arrays, adapters.sharded({path or part: leaf for path, leaf in leaves}))
    restored = []
    for path, leaf in leaves:
        value = decoder.decode(node[path])
        mine, theirs = _form(leaf), _form(value)
        if mine != theirs and not adapters.becomes(leaf, value):
            raise ResumeRefused(f"{part}[{path}] is {theirs} in the checkpoint and {mine} in this program. {advice}")
        restored.append(adapters.place_like(value, leaf))
    return rebuild(restored)


def check_same_leaves(part: str, before: Any, after: Any) -> None:
    """Check that a pytree has the same leaves as at first; raises StateError, which names a leaf."""
    old, new = ({path for path, _ in _flatten(tree)[0]} for tree in (before, after))
    if old != new:
        raise StateError(
            f"{part} was offered with other leaves than it was restored with: {min(old ^ new)!r} is only in the "
            f"{'restored' if min(old ^ new) in old else 'offered'} one. Its structure must stay the same, or it could "
            "not be resumed."
        )


def _form(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array {tuple(value.shape)} of {value.dtype}"
    return f"a {type(value).__name__}"


def _flatten(tree: Any) -> tuple[list[tuple[str, Any]], Rebuild]:
    return adapters.flatten(tree) or _flatten_plain(tree)


def _flatten_plain(tree: Any, path: str = "") -> tuple[list[tuple[str, Any]], Rebuild]:
    """Flatten dicts, lists, tuples and named tuples as JAX does: dict keys are sorted, and None is no leaf."""
    if tree is None:
        return [], lambda _: None
    if isinstance(tree, dict):
        keys = sorted(tree)
        children = [(str(key), tree[key]) for key in keys]
    elif isinstance(tree, list | tuple):
        names = getattr(tree, "_fields", range(len(tree)))
        children = [(str(name), child) for name, child in zip(names, tree, strict=True)]
    else:
        return [(path, tree)], lambda values: values[0]
    flat = [_flatten_plain(child, f"{path}/{name}" if path else name) for name, child in children]

    def rebuild(values: list[Any]) -> Any:
        rebuilt, start = [], 0
        for leaves, build in flat:
            rebuilt.append(build(values[start : start + len(leaves)]))
            start += len(leaves)
        if isinstance(tree, dict):
            return dict(zip(keys, rebuilt, strict=True))
        return type(tree)(*rebuilt) if hasattr(tree, "_fields") else type(tree)(rebuilt)

    return [leaf for leaves, _ in flat for leaf in leaves], rebuild
