"""Contexts of TLS from the files that somebody has named, and what is wrong with those.

Python's own errors are made for programmers, and name no file. Here each has one line for whoever
has typed its name.

`ssl` takes 15 ms to import, so whoever does not encrypt does not come here.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

__all__ = ["CertificateError", "client_context", "server_context"]


class CertificateError(ValueError):
    """A file has no certificate, or no key, or it is not the right one."""


Password = Callable[[str], str]
"""Returns the passphrase of a key, whose file it is given."""


def server_context(
    cert: str, key: str | None = None, client_ca: str | None = None
) -> ssl.SSLContext:
    """Return what a server needs: TLS 1.2 or later, and its certificate.

    The key must not be encrypted: a server that is started again cannot be asked for a passphrase.

    Args:
        cert: a file with the certificate of the server, and behind it those of its chain.
        key: a file with its private key; None if that is in the same.
        client_ca: a file with the authorities whose certificates clients have to show; None if
            they need none.

    Raises:
        CertificateError: a file cannot be read, or has something else.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(context, cert, key, None)
    if client_ca is not None:
        _trust(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    *,
    is_insecure: bool = False,
    password: Password | None = None,
) -> ssl.SSLContext:
    """Return what a client needs: TLS 1.2 or later, and whom to trust.

    Args:
        ca: a file with the authorities that are trusted; None is those of the system.
        cert: a file with a certificate to show, None for none.
        key: a file with its private key; None if that is in the same.
        is_insecure: trust everybody, so that it may be anybody.
        password: is asked if the key is encrypted; without it, that is an error.

    Raises:
        CertificateError: a file cannot be read, or has something else; or the passphrase is wrong.
    """
    context = (
        ssl.create_default_context() if ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None:
        _trust(context, ca)
    if is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        _show(context, cert, key, password)
    return context


def _trust(context: ssl.SSLContext, file: str) -> None:
    _check_readable(file)
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise CertificateError(f"{file} has no certificates in PEM form") from None


def _show(context: ssl.SSLContext, cert: str, key: str | None, password: Password | None) -> None:
    """Load a certificate and its key."""
    own = cert if key is None else key
    is_encrypted = False

    def ask() -> str:
        nonlocal is_encrypted
        is_encrypted = True
        return "" if password is None else password(own)

    for file in (cert, own):
        _check_readable(file)
    try:
        context.load_cert_chain(cert, key, ask)
    except ssl.SSLError as error:
        raise CertificateError(_problem(error, cert, own, is_encrypted, password)) from None


def _problem(
    error: ssl.SSLError, cert: str, own: str, is_encrypted: bool, password: Password | None
) -> str:
    if error.reason == "KEY_VALUES_MISMATCH" and own == cert:
        return f"the key in {cert} is not that of its certificate"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{own} is not the key of the certificate in {cert}"
    if error.reason == "KEY_TYPE_MISMATCH":
        return f"{own} is not the key of the certificate in {cert}: it is of another kind"
    if is_encrypted:
        if password is not None:
            return f"{own}: the passphrase is wrong"
        return f"{own} is encrypted: `openssl pkey -in {own} -out FILE` writes it as it is needed"
    if not _has(cert, "CERTIFICATE"):
        return f"{cert} has no certificate in PEM form"
    if not _has(own, "PRIVATE KEY"):
        mend = "; --key FILE says where" if own == cert else ""
        return f"{own} has no private key in PEM form{mend}"
    return f"{cert}: {error.reason or error}"


def _has(file: str, what: str) -> bool:
    with open(file, encoding="latin-1") as lines:
        return any(line.startswith("-----BEGIN ") and what in line for line in lines)


def _check_readable(file: str) -> None:
    """See that there is a file: OpenSSL would not say which one is missing."""
    try:
        with open(file, "rb"):
            pass
    except OSError as error:
        raise CertificateError(f"{file}: {error.strerror}") from None
