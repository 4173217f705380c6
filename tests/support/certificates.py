"""Certificates for TLS: of an authority that nobody but the tests trusts, as files and as contexts.

Each kind is made when it is first asked for, once in a process; the files go when it ends.

| kind | what is wrong with it |
| --- | --- |
| server | nothing: it is for localhost, 127.0.0.1 and ::1 |
| second | nothing: the same, with another common name, and for second.example |
| client | nothing: it is for a person |
| elsewhere | it is for elsewhere.example |
| expired | its time was over long ago |
| foreign | another authority has issued it |
| long | nothing, but it takes 60 KB: more than three records of TLS |
"""

from __future__ import annotations

import atexit
import datetime
import shutil
import ssl
import tempfile
from functools import cache
from pathlib import Path

import trustme

__all__ = ["ca_file", "client_context", "pem_file", "server_context"]

_HERE = ("localhost", "127.0.0.1", "::1")
_NAMES: dict[str, tuple[str, ...]] = {
    "server": _HERE,
    "second": (*_HERE, "second.example"),
    "client": ("someone@example.org",),
    "elsewhere": ("elsewhere.example",),
    "expired": _HERE,
    "foreign": _HERE,
    "long": (*_HERE, *(f"a-name-that-makes-it-long-{n:04}.example" for n in range(1500))),
}
_LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
_ONE_DAY = datetime.timedelta(days=1)


def server_context(kind: str = "server", *, asks: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
    """Return a new context of a server.

    Args:
        kind: of its certificate.
        asks: whether clients are asked for a certificate, of our authority.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca_file())
    context.load_cert_chain(pem_file(kind))
    context.verify_mode = asks
    return context


def client_context(kind: str | None = None, *, trusts: str = "server") -> ssl.SSLContext:
    """Return a new context of a client, which checks names.

    Args:
        kind: of the certificate that it shows; None shows none.
        trusts: the authority of this kind of certificates.
    """
    context = ssl.create_default_context(cafile=ca_file(trusts))
    if kind is not None:
        context.load_cert_chain(pem_file(kind))
    return context


@cache
def pem_file(kind: str) -> str:
    """Return the path of a file with the private key, the certificate and its chain."""
    # None is from now on, for as long as trustme likes.
    begins, ends = (_LONG_AGO, _LONG_AGO + _ONE_DAY) if kind == "expired" else (None, None)
    issued = _authority(kind == "foreign").issue_cert(
        *_NAMES[kind], common_name=f"{kind}.example", not_before=begins, not_after=ends
    )
    path = _folder() / f"{kind}.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


@cache
def ca_file(kind: str = "server") -> str:
    """Return the path of a file with the authority that has issued this kind of certificates."""
    path = _folder() / f"ca-of-{kind}.pem"
    _authority(kind == "foreign").cert_pem.write_to_path(str(path))
    return str(path)


@cache
def _authority(is_foreign: bool) -> trustme.CA:
    return trustme.CA(organization_name="Strangers" if is_foreign else "Tests of eventmux")


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="certificates-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
