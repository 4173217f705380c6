"""The text of a URL to an `Endpoint`, and back.

    tcp://host:port         a name, an IPv4 address, or an IPv6 address in brackets, which may have
                            a zone as it is: [fe80::1%br-lan], not %25 as in RFC 6874
    tls://host:port         the same, and TLS (see `EventMux.listen()` and `connect()`)
    udp://host:port         datagrams; udp://:port and udp:// are sockets without a peer
    unix://path             the path is all that follows, so unix:///run/x and unix://x.sock
    unix://@name            a name in Linux's abstract namespace
    unix_dgram://path       datagrams
    unix_seqpacket://path   a connection that keeps the bounds of what is sent

Parsing only: nothing is looked up or opened here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from eventmux._nearest import nearest
from eventmux.errors import URLError

__all__ = ["Endpoint", "meant_url", "parse_url"]

_EXPECTED = {
    "tcp": "tcp://host:port",
    "tls": "tls://host:port",
    "udp": "udp://host:port, udp://:port or udp://",
    "unix": "unix://path",
    "unix_dgram": "unix_dgram://path",
    "unix_seqpacket": "unix_seqpacket://path",
}
_HOST_PORT = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+(?:%(?P<zone>.+))?)\]|(?P<host>[^\s\0\[\]:/?#@]*))"
    r":(?P<port>[0-9]{1,5})",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_LONGEST_ZONE = 15  # bytes, as the kernel has it (dev_valid_name() of Linux), and what is in them
_NOT_IN_A_ZONE = re.compile(rb"[\0\t-\r /\xa0]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a socket listens or connects to, or receives datagrams."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return the URL that this was parsed from."""
        if self.scheme.startswith("unix"):
            return f"{self.scheme}://{self.path}"
        if self == Endpoint("udp"):
            return "udp://"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_url(url: str) -> Endpoint:
    """Parse a `tcp`, `tls`, `udp`, `unix`, `unix_dgram` or `unix_seqpacket` URL.

    The host of a TCP, TLS or UDP URL may be empty, which means every address when listening. The
    port of `udp://` is 0.

    Raises:
        URLError: the URL is not understood; the message says what is wrong with it.
        TypeError: it is no str.
    """
    if not isinstance(url, str):
        raise TypeError(f"url is {url!r}, must be a str such as 'tcp://host:port'")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise URLError(f"cannot parse {url!r}: expected scheme://...{_suggestion(url)}")
    if scheme not in _EXPECTED:
        *most, last = _EXPECTED
        known = f"{', '.join(most)} or {last}{_suggestion(url)}"
        raise URLError(f"cannot parse {url!r}: the scheme {scheme!r} is not {known}")
    if scheme.startswith("unix"):
        return _parse_path(url, scheme, rest)
    return Endpoint("udp") if url == "udp://" else _parse_host(url, scheme, rest)


def _parse_path(url: str, scheme: str, path: str) -> Endpoint:
    if not path or "\0" in path or not _is_path(path):
        raise URLError(f"cannot parse {url!r}: expected {_EXPECTED[scheme]}")
    return Endpoint(scheme, path=path)


def _is_path(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")  # as os.fsencode() does
    except UnicodeEncodeError:
        return False
    return True


def _is_zone(name: str) -> bool:
    """True for what Linux takes for the name of an interface; the numbers are among them."""
    if name in (".", "..") or not _is_path(name):
        return False
    raw = name.encode("utf-8", "surrogateescape")
    return len(raw) <= _LONGEST_ZONE and not _NOT_IN_A_ZONE.search(raw)


def _parse_host(url: str, scheme: str, rest: str) -> Endpoint:
    match = _HOST_PORT.fullmatch(rest)
    if match is None:
        why = _port_problem(rest)
        raise URLError(f"cannot parse {url!r}: {why}expected {_EXPECTED[scheme]}")
    host, port = match["ipv6"] or match["host"], int(match["port"])
    if port > 65535:
        raise URLError(f"cannot parse {url!r}: the port is {port}, must be at most 65535")
    if match["ipv6"]:
        if match["zone"] and not _is_zone(match["zone"]):
            raise URLError(f"cannot parse {url!r}: {match['zone']!r} is no name of an interface")
        return Endpoint(scheme, host=host, port=port)
    try:
        host.encode("idna")  # else looking it up fails in an odd way
    except UnicodeError as error:
        raise URLError(f"cannot parse {url!r}: {error}") from None
    return Endpoint(scheme, host=host, port=port)


def _port_problem(rest: str) -> str:
    """Return what is wrong with the port alone; "" if more is wrong."""
    host, separator, port = rest.rpartition(":")
    if not separator or (host.startswith("[") and not host.endswith("]")):
        host, port = rest, ""
    if not _HOST_PORT.fullmatch(f"{host}:0"):
        return ""
    return f"the port is {port!r}, must be 0 to 65535; " if port else "the port is missing; "


# What was meant

_LONGEST = 200  # characters; nobody has mistyped a longer one by hand
_WITHOUT_SLASHES = re.compile(r"(?P<scheme>\w+)(?::|(?=//))(?P<rest>.+)", re.ASCII)
_SOCKET_FILES = (".sock", ".socket")
_SOCKET_FOLDERS = ("/run/", "/var/run/")


def meant_url(url: str, schemes: Iterable[str] = tuple(_EXPECTED)) -> str | None:
    """Return the URL that was most likely meant by one that is none; None if nobody can tell.

    The scheme was mistyped, or something is missing in front: `127.0.0.1:7007`, `7007`,
    `/run/x.sock`, `tcp:/host:7007`.

        >>> from eventmux.urls import meant_url
        >>> meant_url("127.0.0.1:7007"), meant_url("tpc://host:7007"), meant_url("nonsense")
        ('tcp://127.0.0.1:7007', 'tcp://host:7007', None)

    Args:
        url: what was given.
        schemes: those that are possible.
    """
    if len(url) > _LONGEST:
        return None
    known = tuple(schemes)
    found = _with_scheme(url, known)
    scheme = "" if found is None else found.partition("://")[0]
    if found is None or scheme not in known or found == url:
        return None
    if scheme in _EXPECTED:
        try:
            parse_url(found)
        except URLError:  # it was something else, then
            return None
    return found


def _with_scheme(url: str, schemes: tuple[str, ...]) -> str | None:
    scheme, separator, rest = url.partition("://")
    if separator:
        return f"{nearest(scheme.lower(), schemes)}://{rest}"
    match = _WITHOUT_SLASHES.fullmatch(url)
    if match and match["scheme"] in schemes:
        rest = match["rest"].lstrip("/")
        is_absolute = match["rest"].startswith("/") and match["scheme"] not in ("tcp", "tls", "udp")
        return f"{match['scheme']}://{'/' if is_absolute else ''}{rest}"
    if re.fullmatch(":?[0-9]{1,5}", url, re.ASCII):
        return f"tcp://127.0.0.1:{url.removeprefix(':')}"
    if _HOST_PORT.fullmatch(url.removeprefix("//")):
        return f"tcp://{url.removeprefix('//')}"
    if url.startswith(("@", *_SOCKET_FOLDERS)) or url.endswith(_SOCKET_FILES):
        return f"unix://{url}"
    return None


def _suggestion(url: str) -> str:
    found = meant_url(url)
    return "" if found is None else f"; did you mean {found!r}?"
