"""What TLS to a URL is like unless the program says otherwise: whom it trusts, and which name."""

from __future__ import annotations

import ssl
from functools import cache

__all__ = ["name_of", "usual_context"]


@cache
def usual_context() -> ssl.SSLContext:
    """Return one that trusts whom the system trusts; it takes 20 ms to make."""
    return ssl.create_default_context()


def name_of(host: str) -> str:
    """Return the name that the certificate of a host in a URL has to be for.

    It has no zone, as fe80::1%eth0 has, and no root, as example.org. has.
    """
    return host.partition("%")[0].removesuffix(".")
