"""Kaggle: credentials, the calls that launching needs, and what they can answer."""

from outlast.launch.kaggle.client import Kaggle, Output, Pushed, Quota, Status
from outlast.launch.kaggle.credentials import Credential, find_credential

__all__ = ["Credential", "Kaggle", "Output", "Pushed", "Quota", "Status", "find_credential"]
