"""Keys for a session: a private dataset with one file, `secrets.json`, attached only on request.

A push has no field for secrets, and a push removes secrets that were attached in the browser. In the kernel, runner.py
reads those of UserSecretsClient first, then this file, by its exact name and fields.
"""

from __future__ import annotations

import json
from pathlib import Path

from outlast.environment.keys import read_keys
from outlast.kaggle import datasets
from outlast.launch.kaggle.client import Kaggle

DATASET = "outlast-secrets"
FILE = "secrets.json"


def push_secrets(kaggle: Kaggle, path: Path) -> list[str]:
    """Put the keys of a file into the account's private dataset. Earlier versions are deleted.

    Args:
        kaggle: the account.
        path: a JSON object with some of WANDB_API_KEY, GITHUB_TOKEN, GDRIVE_USER_CREDENTIALS and HF_TOKEN, and nothing
            else.

    Returns:
        The names that were sent.

    Raises:
        UsageError: the file is not that.
        KaggleRefused, LaunchError: as in `datasets.replace`.
    """
    found = read_keys(path)
    datasets.replace(kaggle, DATASET, {FILE: json.dumps(found).encode()})
    return sorted(found)


def delete_secrets(kaggle: Kaggle) -> bool:
    """Delete this dataset with all its versions; returns whether it existed."""
    there = datasets.state(kaggle, DATASET) is not None
    datasets.delete(kaggle, DATASET)
    return there
