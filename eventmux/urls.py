"""The text of a URL to an `Endpoint`, and back.

    tcp://host:port       a name, an IPv4 address, or an IPv6 address in brackets
    unix://path           the path is all that follows, so unix:///run/x and unix://x.sock
    unix://@name          a name in Linux's abstract namespace

Parsing only: nothing is looked up or opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eventmux.errors import URLError

__all__ = ["Endpoint", "parse_url"]

_TCP = re.compile(
    r"tcp://(?:\[(?P<ipv6>[0-9a-f:.]+(?:%\w+)?)\]|(?P<host>[^\s\[\]:/?#@]*)):(?P<port>[0-9]{1,5})",
    re.ASCII | re.IGNORECASE,
)


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
        if not rest or "\0" in rest or not _is_path(rest):
            raise URLError(f"cannot parse {url!r}: expected unix://path")
        return Endpoint("unix", path=rest)
    if scheme == "tcp":
        return _parse_tcp(url)
    raise URLError(f"cannot parse {url!r}: the scheme {scheme!r} is not tcp or unix")


def _is_path(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")  # as os.fsencode() does
    except UnicodeEncodeError:
        return False
    return True


def _parse_tcp(url: str) -> Endpoint:
    match = _TCP.fullmatch(url)
    if match is None:
        raise URLError(f"cannot parse {url!r}: expected tcp://host:port")
    host, port = match["ipv6"] or match["host"], int(match["port"])
    if port > 65535:
        raise URLError(f"cannot parse {url!r}: the port is {port}, must be at most 65535")
    try:
        host.encode("idna")  # else looking it up fails in an odd way
    except UnicodeError as error:
        raise URLError(f"cannot parse {url!r}: {error}") from None
    return Endpoint("tcp", host=host, port=port)
