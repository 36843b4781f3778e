"""What leaves the machine holds no secret that this machine knows, and no well-known kind of token."""

from __future__ import annotations

import base64
import json
import os
import re
import string
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from outlast.checkpoint import tensors
from outlast.cli import main
from outlast.environment import keys
from outlast.errors import RemoteRefused, SecretFound
from outlast.launch.kaggle import runner
from outlast.publish import gitcommand, secrets
from outlast.remote import driveaccess
from outlast.state import pack_value
from tests import messages
from tests.folders import walk
from tests.publish import making
from tests.standins import git as standin

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
    found = {"file": "train/bad", "name": "MY_TOKEN", "byte": 100, "more": 1}
    messages.said([str(error.value)], "publish/secrets-found", **found)
    assert VALUE not in str(error.value)
    secrets.check(files[:1], {"MY_TOKEN": VALUE})


# -- the originals' secrets.json -----------------------------------------------------------------------------------

DRIVE = {"access_token": "ya29-canary-access", "refresh_token": "canary-refresh-1", "client_id": "canary-client",
         "client_secret": "canary-secret-1", "token_expiry": "2026-01-01T00:00:00Z"}  # fmt: skip
KEYS = {"GITHUB_TOKEN": standin.TOKEN, "WANDB_API_KEY": "canary-wandb-key", "GDRIVE_USER_CREDENTIALS": DRIVE}


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.Standin]:
    """A run, a file of keys, and a git server that counts as GitHub and wants the token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in (*KEYS, *gitcommand.TOKENS):
        monkeypatch.delenv(name, raising=False)
    walk(tmp_path / "runs", stop=4)
    (tmp_path / "secrets.json").write_text(json.dumps(KEYS))
    making.git(making.server(tmp_path / "root/x.git"), "config", "http.receivepack", "true")
    with standin.served(tmp_path / "root") as found:
        monkeypatch.setenv("GITHUB_SERVER_URL", found.url)
        yield found


def publish(server: standin.Standin, *more: str) -> int:
    return main(["publish", "r", "--to", "git+dvc", "--store", "store", "--git", f"{server.url}/x.git", *more])


def test_the_originals_file_is_used_and_written_nowhere(
    hosted: standin.Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(hosted) == 1, "without it there is no token"
    capsys.readouterr()
    assert publish(hosted, "--secrets", "secrets.json") == 0
    said = capsys.readouterr()
    messages.said(said.err, "publish/file-of-keys", names="GDRIVE_USER_CREDENTIALS, GITHUB_TOKEN, WANDB_API_KEY")
    assert not set(KEYS) & set(os.environ)
    canaries = [KEYS["GITHUB_TOKEN"], KEYS["WANDB_API_KEY"], *(text for text in DRIVE.values() if "canary" in text)]
    assert len(canaries) == 6
    for canary in canaries:
        assert canary not in said.out + said.err
        assert not any(canary in path for _, path in hosted.requests)
        for path in tmp_path.rglob("*"):
            if path.is_file() and path.name != "secrets.json":
                assert canary.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log.txt", KEYS["WANDB_API_KEY"]),
        ("log.txt", DRIVE["access_token"]),
        ("log.txt", DRIVE["client_secret"]),
        ("own.pt", KEYS["WANDB_API_KEY"]),
    ],
)
def test_what_leaves_is_searched_for_all_keys_of_the_file(
    hosted: standin.Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    (tmp_path / "runs/r/artifacts").mkdir(exist_ok=True)
    (tmp_path / "runs/r/artifacts" / name).write_bytes(b"began " + base64.b64encode(value.encode()) + b"\n")
    assert publish(hosted, "--secrets", "secrets.json") == 1
    said = capsys.readouterr().err
    messages.said(said, "publish/secret-of-the-file", file=f"train/{name}", name=re.compile(r"[\w.]+"))
    assert value not in said
    assert not making.is_visible(tmp_path / "root/x.git")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"OTHER": "canary"}', '{"GITHUB_TOKEN": ""}'])
def test_a_file_of_keys_that_is_none(
    hosted: standin.Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "secrets.json").write_text(text)
    assert publish(hosted, "--secrets", "secrets.json") == 2
    said = capsys.readouterr().err
    assert "secrets.json" in said
    assert "canary" not in said


def test_the_names_are_those_that_a_session_on_kaggle_knows() -> None:
    assert keys.FIELDS == runner.SECRETS


def test_credentials_of_drive_as_sessions_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN", "CREDENTIALS"):
        monkeypatch.delenv(f"OUTLAST_DRIVE_{name}", raising=False)
    monkeypatch.setenv("GDRIVE_USER_CREDENTIALS", json.dumps(DRIVE))
    assert driveaccess.credentials("drive://root") == {
        name: DRIVE[name] for name in ("client_id", "client_secret", "refresh_token")
    }
    monkeypatch.setenv("GDRIVE_USER_CREDENTIALS", '{"canary": 1}')
    with messages.raises(RemoteRefused, "publish/drive-credentials", name="GDRIVE_USER_CREDENTIALS") as caught:
        driveaccess.credentials("drive://root")
    assert "canary" not in str(caught.value)
