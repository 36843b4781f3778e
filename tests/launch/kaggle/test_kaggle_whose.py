"""Only datasets that were made for a run, or that hold code, are deleted with its session."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from outlast.kaggle import datasets
from outlast.launch.kaggle.provider import KaggleProvider


@pytest.mark.parametrize(
    ("dataset", "deleted"),
    [
        ("outlast-mine-step-6-0123abcd", False),
        ("outlast-evil-step-6-0123abcd", True),
        ("outlast-code-0123456789ab", True),
    ],
)
def test_what_was_sent_for_another_run_is_not_deleted(
    dataset: str, deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    monkeypatch.setattr(datasets, "state", lambda *_: "READY")
    monkeypatch.setattr(datasets, "delete", lambda _, name: gone.append(name))
    account = SimpleNamespace(user="ada", status=lambda _: None)
    handle = {"user": "ada", "slug": "outlast-evil-001", "datasets": [dataset]}
    assert KaggleProvider(lambda: account).delete(handle) == gone == [dataset] * deleted
