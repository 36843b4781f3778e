"""A branch as the reference: states of the user's repository, what the branch holds, what is never written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from outlast.errors import PublishConflict, PublishFailed, RemoteRefused, UsageError
from outlast.publish import dvc, gitcommand
from outlast.publish.git import GitReference
from outlast.publish.owners import owner_of
from outlast.publish.reference import Progress
from outlast.publish.repository import repository_at, url_of
from outlast.remote.folder import FolderRemote
from tests import messages
from tests.publish import making


@pytest.fixture
def store(tmp_path: Path) -> FolderRemote:
    return FolderRemote(tmp_path / "store")


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in gitcommand.TOKENS:
        monkeypatch.delenv(name, raising=False)


def dirty(tree: Path) -> None:
    (tree / "code.py").write_text("changed\n")
    (tree / "staged.py").write_text("x\n")
    making.git(tree, "add", "staged.py")
    (tree / "untracked").write_text("y\n")


def detached(tree: Path) -> None:
    making.git(tree, "checkout", "--quiet", "--detach")


def hooked(tree: Path) -> None:
    for name in ("pre-push", "reference-transaction", "post-checkout", "post-commit"):
        hook = tree / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tree.parent}/hook-ran\nexit 1\n")
        hook.chmod(0o755)
    making.git(tree, "config", "core.hooksPath", tree / ".git/hooks")
    making.git(tree, "config", "commit.gpgSign", "true")
    making.git(tree, "config", "push.gpgSign", "true")


def filtered(tree: Path) -> None:
    making.git(tree, "config", "core.autocrlf", "true")
    (tree / ".git/info").mkdir(exist_ok=True)
    (tree / ".git/info/attributes").write_text("* text eol=crlf ident\n")


def busy(tree: Path) -> None:
    """Another git is at work, or was killed: its locks are there."""
    (tree / ".git/index.lock").write_text("")
    (tree / ".git/HEAD.lock").write_text("")


@pytest.mark.parametrize("state", [dirty, detached, hooked, filtered, busy])
def test_the_users_repository_is_read_and_never_written(tmp_path: Path, store: FolderRemote, state) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    state(tree)
    before = making.fingerprint(tree)
    done = making.by_git(tmp_path, store, str(url), tree)
    assert making.fingerprint(tree) == before
    assert not (tmp_path / "hook-ran").exists()
    assert making.wrong_with_branch(url, store.root) is None
    assert making.git(url, "rev-parse", making.NAME) == done.identity
    assert making.git(url, "rev-parse", f"{making.NAME}^") == making.git(tree, "rev-parse", "HEAD")
    assert making.git(url, "rev-parse", "main") == making.git(tree, "rev-parse", "HEAD")


def test_the_tree_is_the_bases_and_the_artifact(tmp_path: Path, store: FolderRemote) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    making.by_git(tmp_path, store, str(url), tree)
    folder = "artifacts/detection/exp001"
    assert making.git(url, "ls-tree", "-r", "--name-only", making.NAME).splitlines() == [
        ".dvc/.gitignore", ".dvc/config", f"{folder}/MANIFEST.json", f"{folder}/README.md",
        f"{folder}/train/metrics.json", f"{folder}/train/weights/.gitignore",
        f"{folder}/train/weights/best.safetensors.dvc", f"{folder}/train/weights/last.safetensors.dvc", "code.py",
    ]  # fmt: skip
    assert (
        making.git(url, "log", "-1", "--format=%an <%ae> %ct", making.NAME) == "outlast <outlast@localhost> 1766500200"
    )
    assert sorted(entry.name for entry in store.list()) == sorted(
        [*(dvc.object_name(file.md5) for file in making.plan(tmp_path).files if file.is_large), owner_of(str(url))[0]]
    )


@pytest.mark.parametrize("rules", ["artifacts/\n", "/artifacts/*", "*.dvc\n", "artifacts/**\n*.safetensors\n"])
def test_pointers_that_the_base_ignores_are_not_ignored(tmp_path: Path, store: FolderRemote, rules: str) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    (tree / ".gitignore").write_text(rules)
    making.git(tree, "add", ".")
    making.git(tree, "commit", "--quiet", "-m", "ignore")
    making.git(tree, "push", "--quiet", "origin", "main")
    making.by_git(tmp_path, store, str(url), tree)
    making.git(tmp_path, "clone", "--quiet", "--branch", making.NAME, url, tmp_path / "fresh")
    pointer = "artifacts/detection/exp001/train/weights/last.safetensors.dvc"
    with pytest.raises(subprocess.CalledProcessError):
        making.git(tmp_path / "fresh", "check-ignore", "--no-index", pointer)
    assert making.git(tmp_path / "fresh", "check-ignore", "--no-index", pointer.removesuffix(".dvc"))
    assert (tmp_path / "fresh/.gitignore").read_text().startswith(rules)


def test_the_commit_is_the_same_wherever_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    first = making.by_git(tmp_path / "a", FolderRemote(tmp_path / "store"), str(url), tree)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "someone")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    (tmp_path / ".gitconfig").write_text("[i18n]\n\tcommitEncoding = latin1\n[user]\n\tname = x\n")
    again = making.by_git(tmp_path / "b", FolderRemote(tmp_path / "store"), str(url), tree)
    assert (again.identity, again.before, again.sent) == (first.identity, True, 0)


def test_commits_that_the_server_lacks_are_not_published(tmp_path: Path, store: FolderRemote) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    (tree / "secret").write_text("mine\n")
    making.git(tree, "add", ".")
    making.git(tree, "commit", "--quiet", "-m", "private")
    making.by_git(tmp_path, store, str(url), tree)
    assert "secret" not in making.git(url, "ls-tree", "-r", "--name-only", making.NAME)
    assert making.git(url, "rev-list", "--count", making.NAME) == "1"
    making.git(tree, "push", "--quiet", "origin", "main")
    making.by_git(tmp_path / "b", store, str(url), tree, plan=making.plan(tmp_path / "b", name="x"))
    assert making.git(url, "rev-list", "--count", "x") == "3"


def test_a_shallow_clone_a_worktree_a_bare_one_and_one_without_commits(tmp_path: Path, store: FolderRemote) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    for number in range(3):
        (tree / "code.py").write_text(f"{number}\n")
        making.git(tree, "commit", "--quiet", "-am", str(number))
    making.git(tree, "push", "--quiet", "origin", "main")
    making.git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{url}", tmp_path / "shallow")
    making.git(tree, "worktree", "add", "--quiet", "--detach", tmp_path / "worktree")
    making.git(tmp_path, "clone", "--quiet", "--bare", url, tmp_path / "bare")
    making.git(tmp_path, "init", "--quiet", tmp_path / "empty")
    for name, count in {"shallow": 5, "worktree": 5, "bare": 5, "empty": 1}.items():
        before = making.fingerprint(tmp_path / name)
        made = making.plan(tmp_path / f"{name}-plan", name=name)
        making.by_git(tmp_path / f"{name}-plan", store, f"file://{url}", tmp_path / name, plan=made)
        assert making.fingerprint(tmp_path / name) == before, name
        assert making.wrong_with_branch(url, store.root, name) is None
        assert making.git(url, "rev-list", "--count", name) == str(count), name


@pytest.mark.parametrize("local", [True, False])
def test_a_repository_with_sha256(tmp_path: Path, store: FolderRemote, local: bool) -> None:
    url = making.server(tmp_path / "server.git", "sha256")
    tree = making.clone(url, tmp_path / "tree", "sha256")
    done = making.by_git(tmp_path, store, str(url), tree if local else None)
    assert len(done.identity) == 64
    assert making.wrong_with_branch(url, store.root) is None


def test_without_a_repository_the_branch_stands_alone(tmp_path: Path, store: FolderRemote) -> None:
    url = making.server(tmp_path / "server.git")
    making.by_git(tmp_path, store, str(url))
    assert making.wrong_with_branch(url, store.root) is None
    assert making.git(url, "rev-list", "--count", making.NAME) == "1"


def test_another_branch_of_this_name_stays(tmp_path: Path, store: FolderRemote) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    making.git(tree, "push", "--quiet", "origin", f"main:refs/heads/{making.NAME}")
    before = making.git(url, "rev-parse", making.NAME)
    with pytest.raises(PublishConflict):
        making.by_git(tmp_path, store, str(url), tree)
    assert making.git(url, "rev-parse", making.NAME) == before


@pytest.mark.parametrize("behind", [True, False])
def test_a_branch_that_came_after_the_look_stays(
    tmp_path: Path, store: FolderRemote, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    """It is created while the blobs are put; a push could move it forward, or replace it."""
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    if not behind:
        making.git(tree, "checkout", "--quiet", "--orphan", "other")
        making.git(tree, "commit", "--quiet", "-m", "other")
    theirs, real = making.git(tree, "rev-parse", "HEAD"), GitReference.create

    def create(self: GitReference, progress: Progress) -> int:
        making.git(tree, "push", "--quiet", "origin", f"HEAD:refs/heads/{making.NAME}")
        return real(self, progress)

    monkeypatch.setattr(GitReference, "create", create)
    with pytest.raises(PublishConflict):
        making.by_git(tmp_path, store, str(url), tree, base=making.git(tree, "rev-parse", "main"))
    assert making.git(url, "rev-parse", making.NAME) == theirs


def test_a_push_that_the_server_refuses(tmp_path: Path, store: FolderRemote) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    hook = url / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'branches need a ticket' >&2\nexit 1\n")
    hook.chmod(0o755)
    with messages.raises(PublishFailed, "publish/git-server-refuses", reason="branches need a ticket"):
        making.by_git(tmp_path, store, str(url), tree)
    hook.unlink()
    assert making.by_git(tmp_path, store, str(url), tree).sent == 0


def test_a_base_with_dvc_of_its_own_keeps_it(tmp_path: Path, store: FolderRemote) -> None:
    url = making.server(tmp_path / "server.git")
    tree = making.clone(url, tmp_path / "tree")
    own = (
        "[core]\n    remote = mine\n['remote \"mine\"']\n    url = s3://mine\n['remote \"outlast\"']\n    url = /else\n"
    )
    (tree / ".dvc").mkdir()
    (tree / ".dvc/config").write_text(own)
    (tree / ".dvc/.gitignore").write_text("/mine\n")
    making.git(tree, "add", ".")
    making.git(tree, "commit", "--quiet", "-m", "dvc")
    making.git(tree, "push", "--quiet", "origin", "main")
    making.by_git(tmp_path, store, str(url), tree)
    config = making.git(url, "show", f"{making.NAME}:.dvc/config")
    assert config.startswith(own.strip())
    assert making.git(url, "show", f"{making.NAME}:.dvc/.gitignore") == "/mine"
    pointer = making.git(url, "show", f"{making.NAME}:artifacts/detection/exp001/train/weights/last.safetensors.dvc")
    remote = pointer.rpartition("remote: ")[2]
    assert remote != "outlast"
    assert f"['remote \"{remote}\"']\n    url = {store.root}\n    verify = true" in config


@pytest.mark.parametrize(
    "url",
    ["https://user:secret@host/x", "https://secret@host/x", "http://host/x", "ext::sh -c id", "git://host/x", "-x:y"],
)
def test_urls_that_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError) as caught:
        url_of(url, tmp_path, tmp_path)
    assert "secret" not in str(caught.value)
    tree = making.clone(making.server(tmp_path / "server.git"), tmp_path / "tree")
    making.git(tree, "config", "remote.origin.url", url)
    with pytest.raises(UsageError) as caught:
        url_of("origin", tree, tmp_path)
    assert "secret" not in str(caught.value)


def test_remotes_by_name(tmp_path: Path) -> None:
    tree = making.clone(making.server(tmp_path / "server.git"), tmp_path / "tree")
    (tree / "deep").mkdir()
    assert url_of("origin", tree / "deep", tmp_path) == str(tmp_path / "server.git")
    making.git(tree, "config", "remote.origin.url", "../server.git")
    assert url_of("origin", tree / "deep", tmp_path) == str(tmp_path / "server.git")
    for url in ("git@host:owner/name.git", "https://host/x", "ssh://git@host/x"):
        assert url_of(url, tree, tmp_path) == url
    with messages.raises(UsageError, "publish/no-git-remote"):
        url_of("upstream", tree, tmp_path)


def test_tokens_go_where_they_belong() -> None:
    environment = {"GITHUB_TOKEN": "hub", "OUTLAST_GIT_TOKEN": "own"}
    assert gitcommand.token_for("https://github.com/a/b", {"GITHUB_TOKEN": "hub"}) == "hub"
    assert gitcommand.token_for("https://elsewhere.org/a/b", {"GITHUB_TOKEN": "hub"}) is None
    assert gitcommand.token_for("https://elsewhere.org/a/b", environment) == "own"
    assert gitcommand.token_for("http://elsewhere.org/a/b", environment) is None
    assert gitcommand.token_for("ssh://elsewhere.org/a/b", environment) is None
    assert gitcommand.token_for("/folder", environment) is None


def test_gits_environment_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "GITHUB_TOKEN", "GIT_TRACE", "GIT_INDEX_FILE", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary")
    script = tmp_path / "bin/git"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\nenv > {tmp_path}/env\necho "$@" > {tmp_path}/argv\n'
        'echo "fatal: $OUTLAST_GIT_TOKEN" >&2\ntest "$OUTLAST_GIT_TOKEN" != refused-t0ken\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    git = gitcommand.Git(tmp_path, token="t0ken")
    assert "t0ken" not in repr(git)
    git.run("status")
    assert "canary" not in (tmp_path / "env").read_text()
    assert "t0ken" not in (tmp_path / "env").read_text()
    assert {"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS="} < set((tmp_path / "env").read_text().splitlines())
    git.run("push", secret=True)
    assert "OUTLAST_GIT_TOKEN=t0ken" in (tmp_path / "env").read_text()
    assert "canary" not in (tmp_path / "env").read_text()
    assert "t0ken" not in (tmp_path / "argv").read_text()
    assert "t0ken" not in (tmp_path / "askpass").read_text()
    with pytest.raises(RemoteRefused, match=r"fatal: \*\*\*") as caught:
        gitcommand.Git(tmp_path, token="refused-t0ken").run("push", secret=True)
    assert "t0ken" not in caught.value.reason + str(caught.value)
    asked = subprocess.run(
        [tmp_path / "askpass", "Password for x"], env={"OUTLAST_GIT_TOKEN": "t"}, capture_output=True
    )
    assert asked.stdout == b"t\n"


def test_no_repository(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert repository_at(tmp_path / "plain", tmp_path) is None


def test_an_odd_character_in_the_path_of_a_repository(tmp_path: Path) -> None:
    for name in ("a\u2028b", "a\x85b"):
        found = repository_at(making.clone(making.server(tmp_path / name / "s"), tmp_path / name / "c"), tmp_path)
        assert found is not None
        assert (found.objects.name, found.format) == ("objects", "sha1")


def test_another_store_is_no_change_of_the_run(tmp_path: Path) -> None:
    server = making.server(tmp_path / "server")
    clone = making.clone(server, tmp_path / "clone")
    making.by_git(tmp_path, FolderRemote(tmp_path / "store"), str(server), clone)
    with messages.raises(PublishConflict, "publish/name-taken-elsewhere"):
        making.by_git(tmp_path, FolderRemote(tmp_path / "other"), str(server), clone)
