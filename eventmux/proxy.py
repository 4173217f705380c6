r"""The header by which a proxy says whose connection it passes on: the PROXY protocol, 1 and 2.

Version 1 is a line of text, of at most 107 bytes with its end:

    PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n        source, destination, their ports
    PROXY TCP6 2001:db8::1 2001:db8::9 56324 443\r\n
    PROXY UNKNOWN ...\r\n                               what follows the word is ignored

Version 2 is binary, most significant byte first:

    offset  size  meaning
    0       12    0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A
    12      1     version, always 2, and command: 0 is LOCAL, 1 is PROXY, in 4 bits each
    13      1     family: 0 UNSPEC, 1 INET, 2 INET6, 3 UNIX; protocol: 1 STREAM, 2 DGRAM
    14      2     how many bytes follow
    16      ...   source and destination: 4, 16 or 108 bytes each; then two ports of 2 bytes
    ...     ...   what else is told, one after the other: type (1), length (2), value

A header is believed as it is: whoever reads one has to know that it comes from a proxy. What
breaks the protocol is refused, in whole.

Source: https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt, sections 2.1 and 2.2.

This file knows no sockets, and nothing of who may be believed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from eventmux._crc32c import crc32c
from eventmux.errors import MalformedHeader
from eventmux.peers import Address, ProxyHeader, ProxySSL

__all__ = ["MAX_LENGTH", "header_length", "parse_header"]

MAX_LENGTH = 4096
"""Bytes in a header. The protocol itself has 65,551; what proxies send is a tenth of this."""

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_TEXT = b"PROXY "
_SHORTEST_LINE = len(b"PROXY UNKNOWN\r\n")
_LONGEST_LINE = 107
_HEAD = struct.Struct("!12sBBH")
_FIELD = struct.Struct("!BH")
_SSL = struct.Struct("!BI")

_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DGRAM = 1, 2
_ADDRESSES = {
    _UNSPEC: struct.Struct(""),
    _INET: struct.Struct("!4s4sHH"),
    _INET6: struct.Struct("!16s16sHH"),
    _UNIX: struct.Struct("!108s108s"),
}
_ALPN, _AUTHORITY, _CRC32C, _NOOP, _UNIQUE_ID, _SSL_TYPE, _NETNS = 1, 2, 3, 4, 5, 0x20, 0x30
_LONGEST_ID = 128
# What the client did, in the first byte of the value of _SSL_TYPE.
_HAS_TLS, _HAS_CERTIFICATE, _HAD_CERTIFICATE = 1, 2, 4

_NUMBER = r"(?:0|[1-9][0-9]{0,4})"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_IPV6 = r"[0-9A-Fa-f:.]{2,45}"  # what IPv6Address() is to judge: it would take a zone, too
_LINES = {
    family: re.compile(rf"PROXY {family} ({host}) ({host}) ({_NUMBER}) ({_NUMBER})\r\n".encode())
    for family, host in (("TCP4", _IPV4), ("TCP6", _IPV6))
}
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?\r\n", re.DOTALL)


def header_length(data: bytes) -> int:
    """Return how many bytes a header has at least that begins with these.

    Once there are so many, the header is complete, and what follows it is the client's. As long as
    there are not, all that came belongs to the header, and so do the next ones, up to that number.

    Raises:
        MalformedHeader: no header begins like that, or it is too long.
    """
    if data.startswith(_SIGNATURE):
        return _binary_length(data)
    if data.startswith(_TEXT):
        return _line_length(data)
    if _SIGNATURE.startswith(data) or _TEXT.startswith(data):
        return _SHORTEST_LINE
    raise MalformedHeader(f"no PROXY header begins with {data[: len(_SIGNATURE)]!r}")


def _line_length(data: bytes) -> int:
    line, end, _ = data[:_LONGEST_LINE].partition(b"\r\n")
    if b"\n" in line or b"\r" in line[:-1] or (end and b"\r" in line):
        raise MalformedHeader(f"CR or LF alone in {line!r}")
    if end:
        return len(line) + len(end)
    if len(line) == _LONGEST_LINE:
        raise MalformedHeader(f"no end of line in {_LONGEST_LINE} bytes: {line!r}")
    return max(len(line) + (1 if line.endswith(b"\r") else 2), _SHORTEST_LINE)


def _binary_length(data: bytes) -> int:
    if len(data) > len(_SIGNATURE) and data[len(_SIGNATURE)] >> 4 != 2:
        raise MalformedHeader(f"version {data[len(_SIGNATURE)] >> 4}, must be 2")
    if len(data) < _HEAD.size:
        return _HEAD.size
    length: int = _HEAD.size + _HEAD.unpack_from(data)[3]
    if length > MAX_LENGTH:
        raise MalformedHeader(f"PROXY header of {length} bytes, limit is {MAX_LENGTH}")
    return length


def parse_header(data: bytes) -> ProxyHeader:
    """Return what a header says.

    Args:
        data: all of it, and nothing more; see `header_length()`.

    Raises:
        MalformedHeader: it breaks the protocol.
    """
    length = header_length(data)
    if length != len(data):
        raise MalformedHeader(f"PROXY header of {length} bytes in {len(data)}")
    return _binary(data) if data.startswith(_SIGNATURE) else _line(data)


# Version 1


def _line(line: bytes) -> ProxyHeader:
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(1)
    for family, pattern in _LINES.items():
        found = pattern.fullmatch(line)
        if found is not None:
            source, destination, *ports = (part.decode() for part in found.groups())
            return ProxyHeader(
                1, _in_text(family, source, ports[0]), _in_text(family, destination, ports[1])
            )
    raise MalformedHeader(f"malformed PROXY header {line!r}")


def _in_text(family: str, host: str, port: str) -> Address:
    if int(port) > 0xFFFF:
        raise MalformedHeader(f"port {port}, must be from 0 to 65535")
    if family == "TCP4":
        return host, int(port)
    try:
        return _ipv6(IPv6Address(host), int(port))
    except ValueError:
        raise MalformedHeader(f"{host!r} is no IPv6 address") from None


def _ipv6(host: IPv6Address, port: int) -> Address:
    """Return an address as the `socket` module has it: it writes IPv4 that is mapped with dots."""
    mapped = host.ipv4_mapped
    return str(host) if mapped is None else f"::ffff:{mapped}", port, 0, 0


# Version 2


def _binary(data: bytes) -> ProxyHeader:
    _, version_command, family_protocol, _ = _HEAD.unpack_from(data)
    command, family, protocol = version_command & 15, family_protocol >> 4, family_protocol & 15
    if command == _LOCAL:  # whatever follows is to be ignored, its family included
        return ProxyHeader(2, is_local=True)
    if command != _PROXY:
        raise MalformedHeader(f"command {command}, must be 0 or 1")
    if family not in _ADDRESSES:
        raise MalformedHeader(f"address family {family}, must be from 0 to 3")
    if protocol not in (_UNSPEC, _STREAM):
        why = "is for datagrams" if protocol == _DGRAM else "is unknown"
        raise MalformedHeader(f"transport protocol {protocol} {why}, must be 0 or 1")
    layout = _ADDRESSES[family]
    body = memoryview(data)[_HEAD.size :]
    if len(body) < layout.size:
        raise MalformedHeader(f"addresses of {len(body)} bytes, must be {layout.size}")
    told = _told(data, _HEAD.size + layout.size)
    if family == _UNSPEC or protocol == _UNSPEC:
        return told(2)
    source, destination = _addresses(family, *layout.unpack_from(body))
    return told(2, source, destination)


def _addresses(
    family: int, source: bytes, destination: bytes, *ports: int
) -> tuple[Address, Address]:
    if family == _UNIX:
        return _path(source), _path(destination)
    if family == _INET:
        return (
            (str(IPv4Address(source)), ports[0]),
            (str(IPv4Address(destination)), ports[1]),
        )
    return _ipv6(IPv6Address(source), ports[0]), _ipv6(IPv6Address(destination), ports[1])


def _path(name: bytes) -> Address:
    """Return the path of a UNIX socket; a name of Linux's abstract namespace begins with NUL."""
    if name[0] == 0:
        return name.rstrip(b"\0") or ""
    return name.partition(b"\0")[0].decode("utf-8", "surrogateescape")  # as os.fsdecode()


def _told(data: bytes, start: int) -> Callable[..., ProxyHeader]:
    """Return what makes a header of version, source and destination with all else that it says."""
    values: dict[int, bytes] = {}
    for type_, value, at in _fields(data, start):
        if type_ == _NOOP:
            continue
        if type_ in values and type_ in _KNOWN:
            raise MalformedHeader(f"type {type_:#04x} comes twice")
        if type_ == _CRC32C:
            _check_sum(data, value, at)
        values[type_] = value
    unique_id = values.get(_UNIQUE_ID)
    if unique_id is not None and len(unique_id) > _LONGEST_ID:
        raise MalformedHeader(f"unique id of {len(unique_id)} bytes, limit is {_LONGEST_ID}")
    return partial(
        ProxyHeader,
        alpn=values.get(_ALPN),
        authority=_text(values, _AUTHORITY, "utf-8"),
        unique_id=unique_id,
        namespace=_text(values, _NETNS),
        ssl=_ssl(values[_SSL_TYPE]) if _SSL_TYPE in values else None,
        tlvs=values,
    )


_KNOWN = {_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL_TYPE, _NETNS}


def _fields(data: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    """Give the type, the value and the place of the value of each field, from a place on."""
    while at < len(data):
        if len(data) - at < _FIELD.size:
            raise MalformedHeader(f"{len(data) - at} bytes behind the last field")
        type_, length = _FIELD.unpack_from(data, at)
        at += _FIELD.size
        if length > len(data) - at:
            has = len(data) - at
            raise MalformedHeader(f"type {type_:#04x} of {length} bytes, only {has} are there")
        yield type_, data[at : at + length], at
        at += length


def _check_sum(data: bytes, value: bytes, at: int) -> None:
    """Section 2.2.3: it counts as zero itself."""
    if len(value) != 4:
        raise MalformedHeader(f"checksum of {len(value)} bytes, must be 4")
    told = int.from_bytes(value, "big")
    found = crc32c(data[:at] + bytes(4) + data[at + 4 :])
    if told != found:
        raise MalformedHeader(f"checksum {told:#010x}, must be {found:#010x}")


def _text(values: dict[int, bytes], type_: int, encoding: str = "ascii") -> str | None:
    value = values.get(type_)
    try:
        return None if value is None else value.decode(encoding)
    except UnicodeDecodeError:
        raise MalformedHeader(f"type {type_:#04x} is no {encoding}: {value!r}") from None


def _ssl(value: bytes) -> ProxySSL | None:
    """Section 2.2.6. Proxies tell of it, too, if a client came without TLS: then it is None."""
    if len(value) < _SSL.size:
        raise MalformedHeader(f"TLS of {len(value)} bytes, must be at least {_SSL.size}")
    client, result = _SSL.unpack_from(value)
    values: dict[int, bytes] = {}
    for type_, inner, _ in _fields(value, _SSL.size):
        if type_ in values and type_ in _KNOWN_OF_TLS:
            raise MalformedHeader(f"type {type_:#04x} comes twice")
        values[type_] = inner
    version, common_name, cipher, signature, key = (
        _text(values, type_, encoding) for type_, encoding in _KNOWN_OF_TLS.items()
    )
    if not client & _HAS_TLS:
        return None
    return ProxySSL(
        # Without a certificate there was nothing to verify, and the result is 0 even so.
        bool(client & (_HAS_CERTIFICATE | _HAD_CERTIFICATE)) and result == 0,
        result,
        bool(client & _HAS_CERTIFICATE),
        bool(client & _HAD_CERTIFICATE),
        version,
        common_name,
        cipher,
        signature,
        key,
        values,
    )


_KNOWN_OF_TLS = {0x21: "ascii", 0x22: "utf-8", 0x23: "ascii", 0x24: "ascii", 0x25: "ascii"}
