"""The remote that follows a launched run: its address in the session, and the login that the session needs for it.

An address is sent with the request and holds no secret. A login is sent only as the provider sends keys.
"""

from __future__ import annotations

from pathlib import Path

from outlast.config import find_file
from outlast.errors import UsageError
from outlast.launch.provider import Provider, Terms
from outlast.launch.work import Work
from outlast.remote.address import driver_of
from outlast.run.arguments import remote_address


def address_for(provider: Provider, work: Work, terms: Terms, given: str | None) -> str | None:
    """The address that the session is told; None: the session's own files say whether there is one.

    In this order: what is given for the run, the environment file of the session, OUTLAST_REMOTE of this process. A
    folder of this machine is sent by its whole path, as the session works elsewhere.

    Args:
        provider: where the session runs.
        work: the run.
        terms: of the session.
        given: the address that was given on this machine, by a flag or a file of the run.

    Raises:
        UsageError: the session does not see that folder, or it would have no login for that remote.
    """
    capabilities = provider.capabilities
    address, words = given, "--remote"
    if address is None and capabilities.folders:
        address = work.remote
    if address is None and not capabilities.folders:
        file = find_file(f"environment/{provider.environment}.yaml")
        own = work.remote_in(file)
        if own is not None:
            if not _is_folder(own):  # otherwise it is one of the session
                _check_login(own, f"remote of {file}", provider, terms)
            return None
    if address is None:
        address, words = remote_address(None), "OUTLAST_REMOTE"
    if address is None:
        return None
    if not _is_folder(address):
        _check_login(address, words, provider, terms)
        return address
    if not capabilities.folders:
        raise UsageError(
            f"{words} is {address}, a folder of this machine, which a session of {provider.title} does not see. "
            "Give the URL of a remote, such as gs://bucket/prefix. Nothing was started."
        )
    return address if "://" in address else str(Path(address).expanduser().resolve())


def _is_folder(address: str) -> bool:
    return "://" not in address or driver_of(address).module == "folder"


def _check_login(address: str, words: str, provider: Provider, terms: Terms) -> None:
    """Raise UsageError, before anything is sent, if the session could not log in there."""
    driver, keys = driver_of(address), provider.capabilities.keys
    if keys is None:
        return
    needed = driver.login_at or " and ".join(driver.login)
    if not driver.login or not set(driver.login) <= set(keys):
        raise UsageError(
            f"{words} is {address}, which needs {needed}, and a session of {provider.title} gets no others than "
            f"{', '.join(keys)}. Use a remote of hf:// or drive://, or none: the session's outputs are fetched in any "
            "case. Nothing was started."
        )
    if not terms.options.get("secrets"):
        raise UsageError(
            f"{words} is {address}, which needs {needed}, and a session of {provider.title} gets keys with --secrets "
            f"alone. Put {needed} into a file, run `outlast {provider.name} secrets push FILE`, and add --secrets. "
            "Nothing was started."
        )
