"""The names of the providers. This module imports nothing, because `outlast --help` imports it."""

PROVIDERS = {
    "kaggle": "outlast.launch.kaggle",
    "local": "outlast.launch.local",
    "slurm": "outlast.launch.slurm",
    "colab": "outlast.launch.colab",
    "gcp": "outlast.launch.gcp",
}
"""Name -> package. Its module `provider` holds OPTIONS and `connect` (`outlast.launch.providers.Module`)."""

VERBS = {"kaggle": "set up launching on Kaggle: setup, secrets, probe"}
"""Providers with their own verbs, `outlast NAME VERB`. Their module `verbs` holds VERBS."""
