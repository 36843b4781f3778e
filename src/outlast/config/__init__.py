"""Configuration: layers over defaults, typed and frozen. Every value has an origin.

A script without a config needs only `units`. The rest, and pydantic with it, is imported at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast import _lazy

if TYPE_CHECKING:
    from outlast.config.filelayer import Origin as Origin
    from outlast.config.layers import Change as Change
    from outlast.config.layers import ResolvedConfig as ResolvedConfig
    from outlast.config.layers import find_file as find_file
    from outlast.config.layers import flatten as flatten
    from outlast.config.layers import resolve as resolve
    from outlast.config.schema import Config as Config
    from outlast.config.schema import Leaf as Leaf
    from outlast.config.schema import Section as Section
    from outlast.config.schema import SupervisedConfig as SupervisedConfig
    from outlast.config.schema import leaves as leaves
    from outlast.config.schema import setting as setting
    from outlast.config.words import as_flag as as_flag
    from outlast.config.words import show as show

_SCHEMA = ("Config", "Leaf", "Section", "SupervisedConfig", "leaves", "setting")
_LAYERS = ("Change", "Origin", "ResolvedConfig", "find_file", "flatten", "resolve")
_WORDS = ("as_flag", "show")

_HOMES = dict.fromkeys(_SCHEMA, "schema") | dict.fromkeys(_LAYERS, "layers") | dict.fromkeys(_WORDS, "words")

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are texts

__getattr__ = _lazy.names(__name__, _HOMES)
