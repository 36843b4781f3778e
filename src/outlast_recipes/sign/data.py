"""The data of a run."""

from __future__ import annotations

import outlast
from outlast import Run
from outlast_recipes.sign.batch import SignData
from outlast_recipes.sign.config import SignConfig
from outlast_recipes.sign.generated import generated_data


def load_data(config: SignConfig, *, run: Run | None = None) -> SignData:  # noqa: ARG001 - TODO signdata
    """The clips and labels that a config names.

    Args:
        config: the values of a run.
        run: that is told what is done.

    Raises:
        outlast.ConfigError: no data are named.
    """
    if config.data.smoke_test:
        return generated_data(config)
    raise outlast.ConfigError("sign needs data: --keypoints-train and --labels-train-csv, or --data-root.")
