"""Python's own random generators."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.errors import CorruptCheckpoint
from outlast.state.adapter import Adapter, Generators
from outlast.state.array import Pieces


def _matches(value: Any) -> bool:
    return type(value) is random.Random  # a subclass may have additional state


def _pack(value: Any) -> Pieces:
    version, words, gauss = value.getstate()
    return Pieces("$python.random", {"version": version, "words": list(words), "gauss": gauss})


def _put_together(key: str, content: Any) -> random.Random:
    if key != "$python.random":
        raise CorruptCheckpoint(f"A stored value has the form {key!r:.80}, which this outlast does not know.")
    generator = random.Random()  # noqa: S311 - a generator of the user's program
    _load(generator, content)
    return generator


def _load(generator: random.Random, state: Mapping[str, Any]) -> None:
    words = state["words"]
    generator.setstate((state["version"], tuple(words if isinstance(words, list) else words.tolist()), state["gauss"]))


def _shared() -> tuple[random.Random, ...]:
    return (random._inst,)  # noqa: SLF001 - the generator of random.random() and the other functions


def _seed_words(words: Sequence[int]) -> None:
    random.seed(int(words[0]))


def _capture() -> dict[str, Any]:
    import numpy as np

    version, words, gauss = random.getstate()
    return {"python": {"version": version, "words": np.array(words, dtype=np.uint32), "gauss": gauss}}


def _restore(state: Mapping[str, Any]) -> None:
    _load(_shared()[0], state["python"])


def _reseed(generator: random.Random, seed: Any) -> None:
    if not isinstance(seed, int):
        import numpy as np

        seed = int.from_bytes(seed.generate_state(4, np.uint32).tobytes(), "little")
    generator.seed(seed)


ADAPTER = Adapter(
    "python",
    matches=_matches,
    pack=_pack,
    put_together=_put_together,
    generators=Generators(
        kinds=(random.Random,),
        shared=_shared,
        seed=random.seed,
        seed_words=_seed_words,
        capture=_capture,
        restore=_restore,
        get_state=lambda generator: generator.getstate(),
        set_state=lambda generator, state: generator.setstate(state),
        reseed=_reseed,
        load=_load,
    ),
)
