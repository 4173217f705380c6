"""What is typed of TLS: certificates to show, and whom to trust.

Where nothing of it is typed, nothing of it is imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rpcasync.cli.output import CommandFailed, say
from rpcasync.urls import is_tls_url

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["check_server_files", "client_options", "server_files"]


# The client's side


def client_options(options: argparse.Namespace, url: str) -> dict[str, Any]:
    """Return what a `Client` of a URL is given besides; {} if it needs nothing.

    Raises:
        CommandFailed: there are options for TLS, and the URL is of another kind; or a file is not
            what it should be.
    """
    has_own_clients = hasattr(options, "client_ca")  # `record` shows its certificate to these
    flags = _TRUST if has_own_clients else (*_TRUST, *_CERTIFICATE)
    given = [flag for flag in flags if getattr(options, _dest(flag))]
    if not given:
        return {}
    if not is_tls_url(url):
        raise CommandFailed(f"{given[0]} is for tls://host:port, but the URL is {url}", 2)
    cert, key = (None, None) if has_own_clients else (options.cert, options.key)
    if key is not None and cert is None:
        raise CommandFailed("--key goes with --cert FILE, and there is none", 2)
    found: dict[str, Any] = {"tls": _client_context(options, cert, key)}
    if options.server_name is not None:
        found["server_hostname"] = options.server_name
    if options.insecure:
        say("--insecure: it may be anybody who answers, and whoever is on the way can read all")
    return found


_TRUST = ("--ca", "--insecure", "--server-name")
_CERTIFICATE = ("--cert", "--key")


def _dest(flag: str) -> str:
    return flag[2:].replace("-", "_")


def _client_context(options: argparse.Namespace, cert: str | None, key: str | None) -> SSLContext:
    from rpcasync.certificates import CertificateError, client_context

    ask = _passphrase if sys.stdin is not None and sys.stdin.isatty() else None
    try:
        return client_context(options.ca, cert, key, is_insecure=options.insecure, password=ask)
    except CertificateError as error:
        raise CommandFailed(error, 2) from None


def _passphrase(file: str) -> str:
    from getpass import getpass

    return getpass(f"passphrase of {file}: ")


# The server's side


def check_server_files(
    options: argparse.Namespace, urls: Iterable[str], *, encrypts: bool = False
) -> None:
    """End if what is typed of TLS does not go together; `encrypts`: it is for others, too."""
    parser, encrypted = options.parser, [url for url in urls if is_tls_url(url)]
    if encrypted and options.cert is None:
        parser.error(f"{encrypted[0]} needs --cert FILE, and --key FILE unless the key is in it")
    for flag in ("--cert", "--key", "--client-ca"):
        if getattr(options, _dest(flag)) is None:
            continue
        if options.cert is None:
            parser.error(f"{flag} goes with --cert FILE, and there is none")
        if not (encrypted or encrypts):
            parser.error(f"{flag} is for tls://host:port, and there is none")


def server_files(options: argparse.Namespace) -> dict[str, str]:
    """Return the files for `server_context()`, which were tried; {} if there are none.

    Raises:
        CommandFailed: one is not what it should be.
    """
    given = {"cert": options.cert, "key": options.key, "client_ca": options.client_ca}
    files = {name: os.path.abspath(file) for name, file in given.items() if file is not None}
    if files:
        from rpcasync.certificates import CertificateError, server_context

        try:
            server_context(**files)
        except CertificateError as error:
            raise CommandFailed(error, 2) from None
    return files
