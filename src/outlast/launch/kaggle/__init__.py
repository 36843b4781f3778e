"""Kaggle as a provider: kernels, and what is sent with them."""

from outlast.kaggle.credentials import Credential, find_credential
from outlast.kaggle.wire import KaggleRefused
from outlast.launch.kaggle.answers import Output, PushAnswer, PushRequest, Quota, Status
from outlast.launch.kaggle.client import Kaggle
from outlast.launch.kaggle.probe import probe
from outlast.launch.kaggle.provider import KaggleProvider
from outlast.launch.kaggle.secrets import delete_secrets, push_secrets
from outlast.launch.kaggle.setup import check_user, setup

__all__ = [
    "Credential",
    "Kaggle",
    "KaggleProvider",
    "KaggleRefused",
    "Output",
    "PushAnswer",
    "PushRequest",
    "Quota",
    "Status",
    "check_user",
    "delete_secrets",
    "find_credential",
    "probe",
    "push_secrets",
    "setup",
]
