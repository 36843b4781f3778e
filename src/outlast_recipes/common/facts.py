"""Facts that stay the same in all sessions of a run, such as the meaning of a network's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class FixedFacts:
    """Its attributes are saved with a run, so that a trained network can be used without its data. A session whose
    facts differ is refused.

    Attributes:
        WORDS: attribute -> its words in the message of a refusal.
    """

    WORDS: ClassVar[Mapping[str, str]]

    def state_dict(self) -> dict[str, Any]:
        """All attributes."""
        return vars(self).copy()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with those of the run; raises ValueError when one of `WORDS` differs."""
        for key, words in self.WORDS.items():
            if state[key] != getattr(self, key):
                raise ValueError(
                    f"the run was begun with {words} {state[key] or 'none'}, and this session has "
                    f"{getattr(self, key) or 'none'}"
                )
