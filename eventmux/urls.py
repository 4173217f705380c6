"""The text of a URL to an `Endpoint`, and back.

    tcp://host:port       a name, an IPv4 address, or an IPv6 address in brackets
    unix://path           the path is all that follows, so unix:///run/x and unix://x.sock
    unix://@name          a name in Linux's abstract namespace

Parsing only: nothing is looked up or opened here.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from eventmux.errors import URLError

__all__ = ["Endpoint", "parse_url"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a stream socket listens or connects to."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return the URL that this was parsed from."""
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


def parse_url(url: str) -> Endpoint:
    """Parse a `tcp://` or `unix://` URL.

    The host of a TCP URL may be empty, which means every address when listening.

    Raises:
        URLError: the URL is not understood; the message says what is wrong with it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise URLError(f"cannot parse {url!r}: expected scheme://...")
    if scheme == "unix":
        if not rest or "\0" in rest:
            raise URLError(f"cannot parse {url!r}: expected unix://path")
        return Endpoint("unix", path=rest)
    if scheme == "tcp":
        return _parse_tcp(url)
    raise URLError(f"cannot parse {url!r}: the scheme {scheme!r} is not tcp or unix")


def _parse_tcp(url: str) -> Endpoint:
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # else looking it up fails in an odd way
    except ValueError as error:
        raise URLError(f"cannot parse {url!r}: {error}") from None
    if port is None or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise URLError(f"cannot parse {url!r}: expected tcp://host:port")
    return Endpoint("tcp", host=parts.hostname or "", port=port)
