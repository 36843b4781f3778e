"""Kaggle: what `outlast launch`, `relay` and their neighbours do, as functions; each takes a `Kaggle(find_credential())`."""

from outlast.launch.down import down
from outlast.launch.fetch import fetch
from outlast.launch.kaggle.client import Kaggle, Output, Push, Pushed, Quota, Status
from outlast.launch.kaggle.credentials import Credential, find_credential
from outlast.launch.kaggle.probe import probe
from outlast.launch.kaggle.secrets import delete_secrets, push_secrets
from outlast.launch.kaggle.setup import check_user, setup
from outlast.launch.relay import Bounds, Pace, relay
from outlast.launch.start import Terms, launch, script
from outlast.launch.watch import cancel, follow, listen, state_of

__all__ = [
    "Bounds",
    "Credential",
    "Kaggle",
    "Output",
    "Pace",
    "Push",
    "Pushed",
    "Quota",
    "Status",
    "Terms",
    "cancel",
    "check_user",
    "delete_secrets",
    "down",
    "fetch",
    "find_credential",
    "follow",
    "launch",
    "listen",
    "probe",
    "push_secrets",
    "relay",
    "script",
    "setup",
    "state_of",
]
