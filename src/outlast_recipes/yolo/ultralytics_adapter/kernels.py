"""Which kernels torch uses, while ultralytics trains and after it."""

from __future__ import annotations

import os

import torch

_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED")


class Kernels:
    """What the process has chosen before ultralytics changes it.

    Ultralytics asks for deterministic kernels with a warning where there is none. Where the process has asked for them
    with an error, as `--deterministic` does, it must stay an error: the attempt says that its resumes are exact.
    """

    def __init__(self) -> None:
        self._strict = torch.are_deterministic_algorithms_enabled()
        self._warns = torch.is_deterministic_algorithms_warn_only_enabled()
        self._cudnn = torch.backends.cudnn.deterministic
        self._fills = torch.utils.deterministic.fill_uninitialized_memory
        self._environment = {name: os.environ.get(name) for name in _VARIABLES}

    def keep(self) -> None:
        """Call it when ultralytics has made its choice."""
        if self._strict:
            torch.use_deterministic_algorithms(mode=True, warn_only=self._warns)

    def restore(self) -> None:
        """Everything as it was."""
        torch.use_deterministic_algorithms(self._strict, warn_only=self._warns)
        torch.backends.cudnn.deterministic = self._cudnn
        torch.utils.deterministic.fill_uninitialized_memory = self._fills
        for name, value in self._environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
