"""What is read of the user's git repository, whatever its state is. Nothing of it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import UsageError
from outlast.publish.gitcommand import Git, checked_url, lines
from outlast.terminal import command


@dataclass(frozen=True)
class Repository:
    """What is read from the user's repository.

    Attributes:
        objects: its folder of objects.
        format: of its hashes: "sha1" or "sha256".
        head: the commit that HEAD names; None before the first one.
        shallow: its list of commits whose parents it lacks; None when it is complete.
    """

    objects: Path
    format: str
    head: str | None
    shallow: Path | None


def repository_at(folder: Path, scratch: Path) -> Repository | None:
    """The repository around a folder, whatever its state is: dirty, detached, shallow, bare, a worktree.

    Returns:
        None: there is none.
    """
    git = Git(scratch, {"GIT_CEILING_DIRECTORIES": ""})
    place = folder.resolve()
    asked = ("--show-object-format", "--git-path", "objects", "--git-path", "shallow")
    code, out, err = git.ask("-C", place, "rev-parse", *asked)
    if code != 0:
        if b"dubious ownership" in err:
            raise UsageError(
                f"git does not read {place}, because another user owns it: "
                f"{command('git', 'config', '--global', '--add', 'safe.directory', place)}"
            )
        return None
    if len(lines(out)) != len(asked) - 2:
        raise UsageError(f"The path of the git repository at {str(place)!r} has a line break. Rename its folder.")
    form, objects, shallow = lines(out)
    code, out, _ = git.ask("-C", place, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    head = lines(out)[0] if code == 0 else None
    kept = place / shallow
    return Repository((place / objects).resolve(), form, head, kept if kept.is_file() else None)


def url_of(name: str, folder: Path, scratch: Path) -> str:
    """The URL of a remote that the user names: a remote of the repository around a folder, or a URL.

    Raises:
        UsageError: there is no such remote, or its URL has a secret in it.
    """
    if "/" in name or ":" in name:
        place = Path(name).expanduser()
        return checked_url(str(place.resolve()) if "://" not in name and place.is_dir() else name, "--git")
    git = Git(scratch, {"GIT_CEILING_DIRECTORIES": ""})
    code, out, _ = git.ask("-C", folder.resolve(), "remote", "get-url", "--push", name)
    if code != 0:
        raise UsageError(
            f"--git is {name}, and the repository around {folder.resolve()} has no remote of that name. Give the URL: "
            "--git URL"
        )
    url = checked_url(lines(out)[0], f"The git remote {name}")
    relative = "://" not in url and not re.match(r"[^/]+:", url) and not Path(url).is_absolute()
    return str((_top(folder, git) / url).resolve()) if relative else url


def _top(folder: Path, git: Git) -> Path:
    code, out, _ = git.ask("-C", folder.resolve(), "rev-parse", "--show-toplevel")
    return Path(lines(out)[0]) if code == 0 else folder.resolve()
