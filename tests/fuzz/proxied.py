"""PROXY headers: however one arrives, it is the same header, and what is behind it stays."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from random import Random

from eventmux.errors import MalformedHeader
from eventmux.proxy import MAX_LENGTH, header_length, parse_header
from fuzz.mutators import cut
from fuzz.targets import Target, check, drawn_from

__all__ = ["PROXIED", "Headers"]

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HOSTS = ("192.0.2.1", "0.0.0.0", "255.255.255.255", "::1", "2001:db8::9", "::ffff:192.0.2.1")
_LENGTHS = (0, 12, 12, 36, 36, 216, 216, 300)  # of the addresses of a family, and others
_TYPES = (1, 2, 3, 4, 5, 0x20, 0x21, 0x22, 0x30, 0xEA)


class Headers(Target):
    """`header_length()` and `parse_header()`: a header or MalformedHeader; cuts change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = [
            b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\nhello",
            b"PROXY UNKNOWN\r\nhello",
            _SIGNATURE + b"\x21\x11\0\x0c" + bytes(12) + b"hello",
            _SIGNATURE + b"\x20\0\0\0hello",
        ]

    def make(self, source: Random) -> bytes:
        """Return a header, and something behind it."""
        return (_line(source) if source.random() < 0.3 else _binary(source)) + b"\r\nhello"

    def run(self, data: bytes) -> str:
        """Read it whole and in pieces, each no longer than is known to belong to it."""
        whole = _read([data])
        if len(data) < 10_000:
            pieces = _read(cut(drawn_from(data), data))
            check(whole == pieces, "differs when cut", whole, pieces)
        if isinstance(whole, str):
            return re.sub(r"[0-9]+\w*|b'.*|b\".*", "N", whole)[:40]
        return "header" if whole else "not whole"

    def read(self, data: bytes) -> None:
        """Read it whole."""
        _read([data])


def _read(pieces: list[bytes]) -> object:
    """Return the header and its length, the error, or None if it is not whole."""
    came = b""
    for piece in pieces:
        came += piece
        try:
            length = header_length(came)
            check(0 < length <= MAX_LENGTH, "length", length)
            if length <= len(came):
                return length, repr(parse_header(came[:length]))
        except MalformedHeader as error:
            # What is shown of a line depends on how much of it is there.
            return str(error).partition(" in b")[0].partition(" begins with ")[0]
    return None


def _line(source: Random) -> bytes:
    family = source.choice(("TCP4", "TCP6", "UNKNOWN", "UDP4"))
    hosts = source.choices(_HOSTS, k=2)
    ports = [source.choice((0, 1, 443, 65535, 65536)) for _ in range(2)]
    return f"PROXY {family} {hosts[0]} {hosts[1]} {ports[0]} {ports[1]}\r\n".encode()


def _binary(source: Random) -> bytes:
    family = source.choice((0, 0x11, 0x12, 0x21, 0x31, source.randrange(256)))
    command = source.choice((0x21, 0x21, 0x21, 0x20, source.randrange(256)))
    length = {0: 0, 1: 12, 2: 36, 3: 216}.get(family >> 4) or source.choice(_LENGTHS)
    body = source.randbytes(length) + _fields(source, 2)
    return _SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def _fields(source: Random, depth: int) -> bytes:
    fields = b""
    for _ in range(source.randrange(4)):
        kind = source.choice(_TYPES)
        value = source.randbytes(source.choice((0, 1, 4, 5, 20, 200)))
        if kind == 0x20 and depth:
            value = source.randbytes(5) + _fields(source, depth - 1)
        fields += struct.pack("!BH", kind, len(value)) + value
    return fields


PROXIED: dict[str, Callable[[], Target]] = {"proxy-header": Headers}
"""What makes the target of this file, by name."""
