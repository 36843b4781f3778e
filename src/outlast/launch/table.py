"""The names of the providers. It imports nothing: `outlast --help` reads it."""

PROVIDERS = {"kaggle": "outlast.launch.kaggle", "local": "outlast.launch.local"}
"""Name -> package. Its module `provider` holds OPTIONS and `connect` (`outlast.launch.providers.Module`)."""

VERBS = {"kaggle": "set up launching on Kaggle: setup, secrets, probe"}
"""Those that have verbs of their own, `outlast NAME VERB`: VERBS in their module `verbs`."""
