"""torch's optimizers without its compiler.

torch wraps methods of its optimizers so that torch.compile leaves them alone, and the wrappers import torch._dynamo
when one is first called, also in a program that compiles nothing: 72 MB and 1.6 s of a processor (docs/log.md). Here
the same methods are not wrapped. For a training that is compiled, take torch's own.
"""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def _not_wrapped(kind: type[Kind]) -> type[Kind]:
    """Give a class the methods that its wrappers call. `inspect.unwrap` leaves a method alone that has none."""
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        setattr(kind, name, inspect.unwrap(getattr(kind, name)))
    kind.step = torch.no_grad()(inspect.unwrap(kind.step))
    return kind


@_not_wrapped
class Adam(torch.optim.Adam):
    """torch.optim.Adam; see the module."""


@_not_wrapped
class AdamW(torch.optim.AdamW):
    """torch.optim.AdamW; see the module."""


@_not_wrapped
class SGD(torch.optim.SGD):
    """torch.optim.SGD; see the module."""
