"""All that outlast has to be told of `tiny`: one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.state.adapter import Adapter, Generators
from outlast.state.array import Array, FrameworkArray, Pieces
from outlast.state.objects import TrackedObject
from tests.standins import tiny


class LayerPart(TrackedObject):
    def state(self) -> Any:
        return {"weights": self.thing.weights, "rate": self.thing.rate}

    def load(self, state: Any, facts: Mapping[str, Any]) -> None:
        self.thing.weights.values[:] = state["weights"].values
        self.thing.rate = state["rate"]


def pack(value: Any) -> FrameworkArray | Pieces:
    if isinstance(value, tiny.Dice):
        return Pieces("$tiny.dice", {"state": value.state})
    data = value.values.tobytes()
    return FrameworkArray(Array("F64", (len(value.values),), data), {"as": "tiny"}, id(value))


def from_array(array: Array, _node: Mapping[str, Any], _like: Any) -> tiny.Vector:
    made = tiny.Vector([])
    made.values.frombytes(array.data)
    return made


def load(dice: tiny.Dice, state: Mapping[str, Any]) -> None:
    dice.state = state["state"]


def reseed(dice: tiny.Dice, seed: Any) -> None:
    dice.state = seed if isinstance(seed, int) else int(seed.generate_state(1)[0])


def seed_words(words: Any) -> None:
    tiny.shared.state = int(words[0]) ^ 0x7A


ADAPTER = Adapter(
    "tiny",
    matches=lambda value: isinstance(value, tiny.Vector | tiny.Dice),
    pack=pack,
    from_array=from_array,
    put_together=lambda _key, content: tiny.Dice(content["state"]),
    tracked=lambda part, thing: LayerPart(part, thing) if isinstance(thing, tiny.Layer) else None,
    generators=Generators(
        kinds=(tiny.Dice,),
        shared=lambda: (tiny.shared,),
        seed=lambda seed: reseed(tiny.shared, seed),
        seed_words=seed_words,
        capture=lambda: {"tiny": tiny.shared.state},
        restore=lambda state: load(tiny.shared, {"state": state["tiny"]}) if "tiny" in state else None,
        get_state=lambda dice: dice.state,
        set_state=lambda dice, state: setattr(dice, "state", state),
        reseed=reseed,
        load=load,
    ),
    software=lambda: {"tiny": tiny.VERSION, "tiny device": "cpu"},
)
