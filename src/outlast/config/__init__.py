"""Configuration: layers over defaults, typed, frozen, and every value knows where it came from."""

from outlast.config.layers import Change, Origin, Resolved, find_file, flatten, resolve, show
from outlast.config.schema import Config, Leaf, Section, leaves, setting

__all__ = [
    "Change",
    "Config",
    "Leaf",
    "Origin",
    "Resolved",
    "Section",
    "find_file",
    "flatten",
    "leaves",
    "resolve",
    "setting",
    "show",
]
