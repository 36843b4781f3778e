"""`.dvc/config`: what it says of a store, and that everything else in it stays."""

from __future__ import annotations

import pytest

from outlast.errors import UsageError
from outlast.publish import dvc
from tests import messages

S3 = "s3://bucket/x?endpoint=https://minio.example&region=eu-1&path_style=true"


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        ("/srv/store", {"url": "/srv/store"}),
        ("file:///srv/store", {"url": "/srv/store"}),
        ("gs://bucket/x", {"url": "gs://bucket/x"}),
        ("sftp://me@host:2222/srv/x", {"url": "ssh://me@host:2222/srv/x"}),
        (S3, {"url": "s3://bucket/x", "endpointurl": "https://minio.example", "region": "eu-1"}),
    ],
)
def test_what_it_says_of_a_store(address: str, settings: dict[str, str]) -> None:
    assert dvc.remote_settings(address) == settings
    config, name = dvc.with_remote(b"", dvc.remote_settings(address))
    lines = [line.strip() for line in config.decode().splitlines()]
    assert name == "outlast"
    assert lines[:3] == ["[core]", "remote = outlast", "['remote \"outlast\"']"]
    assert lines[3:] == [f"{key} = {value}" for key, value in settings.items()] + ["verify = true"]
    assert dvc.with_remote(config, dvc.remote_settings(address)) == (config, name)


def test_a_style_of_addresses_that_dvc_has_no_word_for_is_said() -> None:
    assert dvc.advice("s3://bucket/x") == []
    assert dvc.advice(S3)[0].endswith("aws configure set default.s3.addressing_style path")


@pytest.mark.parametrize("more", ["url = s3://other\n", "url = gs://bucket\n", "url = s3://bucket\n"])
def test_a_remote_of_the_users_own_stays_and_has_no_second_section(more: str) -> None:
    """The last of these has our name and URL and no `verify`; two sections of one name DVC cannot read."""
    before = f"[core]\n    remote = mine\n['remote \"outlast\"']\n    {more}".encode()
    config, name = dvc.with_remote(before, {"url": "s3://bucket"})
    assert config.startswith(before)
    assert name.startswith("outlast-")
    assert config.count(b"'remote \"outlast\"'") == 1
    assert dvc.with_remote(config, {"url": "s3://bucket"}) == (config, name)


@pytest.mark.parametrize("address", ["hf://models/a/b", "drive://root", "kaggle://a/b", "sftp://host/~/x"])
def test_stores_that_dvc_cannot_read(address: str) -> None:
    message = "publish/dvc-knows-no-home" if "~" in address else "publish/dvc-cannot-read"
    with messages.raises(UsageError, message, address=address):
        dvc.remote_settings(address)
