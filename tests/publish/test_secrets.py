"""What leaves the machine holds no secret that this machine knows, and no well-known kind of token."""

from __future__ import annotations

import base64
import os
import string
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from outlast.checkpoint import tensors
from outlast.errors import SecretFound
from outlast.publish import secrets
from outlast.state import pack_value

VALUE = "s3cr3t/Value+of-a~token"
OF_EACH = {
    "a GitHub token": "ghp_" + "a1B2" * 9,
    "a fine-grained GitHub token": "github_pat_" + "a1B2_" * 16,
    "a GitLab token": "glpat-" + "a1B2-" * 4,
    "a Hugging Face token": "hf_" + "a1B2" * 9,
    "a Kaggle API token": "KGAT_" + "a1b2" * 8,
    "a Weights & Biases key": "wandb_v1_" + "a1B2" * 12,
    "an AWS access key": "AKIA" + "A1B2" * 4,
    "a Google API key": "AIza" + "a1B2c" * 7,
    "a Google OAuth token": "ya29." + "a1B2-" * 5,
    "a Google refresh token": "1//0" + "a1B2-" * 7,
    "a Google client secret": "GOCSPX-" + "a1B2-" * 5,
    "a Slack token": "xoxb-" + "a1B2-" * 5,
    "an OpenAI or Anthropic key": "sk-" + "a1B2-" * 9,
    "a PyPI token": "pypi-" + "a1B2-" * 12,
    "an npm token": "npm_" + "a1B2" * 9,
    "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "a password in a URL": "postgresql://user:passw0rd@host/db",
}


def found(tmp_path: Path, data: bytes, values: dict[str, str] | None = None) -> list[secrets.Secret]:
    (tmp_path / "f").write_bytes(data)
    return list(secrets.finder({"MY_TOKEN": VALUE} if values is None else values)("f", tmp_path / "f"))


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize(
    "form",
    [
        lambda text: text,
        lambda text: base64.b64encode(text),
        lambda text: base64.urlsafe_b64encode(text),
        lambda text: base64.encodebytes(text * 3),
        lambda text: text.hex().encode(),
        lambda text: text.hex().upper().encode(),
        lambda text: urllib.parse.quote(text, safe="").encode(),
    ],
)
def test_a_known_value_is_found_in_every_form(tmp_path: Path, form, before: int) -> None:
    data = b'{"key": "' + form(b"user:"[:before] + VALUE.encode() + b"@end") + b'"}\n'
    assert [(each.path, each.at, each.kind) for each in found(tmp_path, data)] == [("f", 0, "the value of MY_TOKEN")]


def test_between_bytes_and_across_blocks(tmp_path: Path) -> None:
    blocks = os.urandom(2**20).translate(bytes(range(128, 256)) * 2) * 4  # nothing of it can be read
    for at in (0, 2**22 - 9, 2**22, 2**22 + 9, 2**23 + 5):
        data = blocks + blocks + b"\xff" * 100
        data = data[:at] + VALUE.encode() + data[at:]
        assert [each.at for each in found(tmp_path, data)] == [at]


@pytest.mark.parametrize("kind", secrets.SHAPES)
def test_each_shape(tmp_path: Path, kind: str) -> None:
    text = OF_EACH[kind]
    assert [each.kind for each in found(tmp_path, f"lr: 1\nkey = '{text}'\n".encode())] == [kind]
    assert not found(tmp_path, f"lr: 1\nkey = '{text[: len(text) // 2]}'\n".encode())


def test_what_is_no_secret(tmp_path: Path) -> None:
    words = [
        "https://example.com/a:b@c", "git@github.com:owner/name.git", "https://${USER}:${TOKEN}@host",
        "task-" + "a" * 50, "0123456789abcdef" * 4, "thf_" + "a" * 40, string.ascii_letters,
        "-----BEGIN CERTIFICATE-----", "user:pw@host",
    ]  # fmt: skip
    assert not found(tmp_path, "\n".join(words).encode())
    assert not found(tmp_path, np.random.default_rng(0).bytes(2**20))
    assert not found(tmp_path, b"")


def test_which_variables_are_secrets(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text("{}")
    environ = {
        "WANDB_API_KEY": "w" * 20, "MY_PASSWORD": "p" * 20, "db_token": "t" * 20, "AWS_SECRET_ACCESS_KEY": "a" * 20,
        "GITHUB_PAT": "g" * 20, "KAGGLE_KEY": "k" * 20, "GOOGLE_APPLICATION_CREDENTIALS": str(file),
        "SSH_AUTH_SOCK": "/tmp/agent.1234567", "KEYBOARD_LAYOUT": "something", "MONKEY_ISLAND": "something",
        "TOKEN": "short", "PATH": "/usr/bin:/bin", "TOKENIZERS_PARALLELISM": "false-and-long",
    }  # fmt: skip
    assert set(secrets.known_values(environ)) == {
        "WANDB_API_KEY", "MY_PASSWORD", "db_token", "AWS_SECRET_ACCESS_KEY", "GITHUB_PAT", "KAGGLE_KEY",
    }  # fmt: skip


def test_weights_are_searched_where_text_can_be(tmp_path: Path) -> None:
    text = np.frombuffer(VALUE.encode().ljust(24), np.uint8)
    for value, metadata, expected in [
        ({"w": text.view(np.float32)}, {"format": "pt"}, 0),
        ({"w": np.zeros(3, np.float32)}, {"note": VALUE}, 1),
        ({"w": text}, {"format": "pt"}, 1),
    ]:
        _, arrays = pack_value("part", value)
        assert len(found(tmp_path, b"".join(map(bytes, tensors.encode(arrays, metadata))))) == expected
    _, arrays = pack_value("part", {"w": np.zeros(3, np.float32)})
    whole = b"".join(map(bytes, tensors.encode(arrays, {})))
    assert len(found(tmp_path, whole + VALUE.encode())) == 1  # more than its header says


def test_the_error_names_file_place_and_kind_and_never_the_value(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("x")
    (tmp_path / "bad").write_bytes(b"\0" * 100 + VALUE.encode() + b"\0" + OF_EACH["a GitHub token"].encode())
    files = [("train/good", tmp_path / "good"), ("train/bad", tmp_path / "bad")]
    with pytest.raises(SecretFound) as error:
        secrets.check(files, {"MY_TOKEN": VALUE})
    assert "train/bad holds the value of MY_TOKEN at byte 100, and 1 more" in str(error.value)
    assert VALUE not in str(error.value)
    secrets.check(files[:1], {"MY_TOKEN": VALUE})
