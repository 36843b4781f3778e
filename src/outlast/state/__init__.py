"""Training state: everything needed to continue identically. It is packed into arrays and JSON, and rebuilt from them.

There are two kinds of state. *Tracked* objects have `state_dict()` and `load_state_dict()`. A *pytree* consists of
nested containers of arrays, and the script passes it after each step.

The names are loaded when they are first used: `outlast run` writes checkpoints of files, and needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast import _lazy

if TYPE_CHECKING:
    from outlast.state.compare import Comparison as Comparison
    from outlast.state.compare import differences as differences
    from outlast.state.frameworks import bound_memory as bound_memory
    from outlast.state.frameworks import device_peaks as device_peaks
    from outlast.state.frameworks import software as software
    from outlast.state.frameworks import use_deterministic_kernels as use_deterministic_kernels
    from outlast.state.frameworks import uses_gpu as uses_gpu
    from outlast.state.frameworks import wait_for_devices as wait_for_devices
    from outlast.state.kinds import members as members
    from outlast.state.kinds import tracked as tracked
    from outlast.state.objects import Packed as Packed
    from outlast.state.objects import TooEarly as TooEarly
    from outlast.state.objects import TrackedObject as TrackedObject
    from outlast.state.packing import check_same_leaves as check_same_leaves
    from outlast.state.packing import load_object as load_object
    from outlast.state.packing import pack_tree as pack_tree
    from outlast.state.packing import pack_value as pack_value
    from outlast.state.packing import unpack_tree as unpack_tree
    from outlast.state.packing import unpack_value as unpack_value
    from outlast.state.trial import try_way_back as try_way_back

_HOMES = {
    "Comparison": "compare",
    "Packed": "objects",
    "TooEarly": "objects",
    "TrackedObject": "objects",
    "bound_memory": "frameworks",
    "check_same_leaves": "packing",
    "device_peaks": "frameworks",
    "differences": "compare",
    "load_object": "packing",
    "members": "kinds",
    "pack_tree": "packing",
    "pack_value": "packing",
    "software": "frameworks",
    "tracked": "kinds",
    "try_way_back": "trial",
    "unpack_tree": "packing",
    "unpack_value": "packing",
    "use_deterministic_kernels": "frameworks",
    "uses_gpu": "frameworks",
    "wait_for_devices": "frameworks",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are texts

__getattr__ = _lazy.names(__name__, _HOMES)
