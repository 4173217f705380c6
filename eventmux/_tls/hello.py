"""The name that a TLS client asks for, read from its first message.

Python tells a server of it only by a callback of the context, which is the program's.

    record     type 22 | version 2 | length 2 | part of a message             RFC 8446, 5.1
    message    type 1 | length 3 | version 2 | random 32                       4.1.2
               | session id, length 1 | cipher suites, length 2
               | compression methods, length 1 | extensions, length 2
    extension  type 2 | length 2 | data                                        4.2
    name       length 2 | (type 1, 0 is a host | length 2 | name), once        RFC 6066, 3

This file deals in bytes alone.
"""

from __future__ import annotations

__all__ = ["server_name"]

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = b"\0\0"


def server_name(data: bytes) -> str | None:
    """Return the name; None if there is none, or the bytes are no such message.

    Args:
        data: what the client sent, from the beginning, as far as it was kept.
    """
    try:
        return _name_in(_message_in(data))
    except (IndexError, ValueError):  # it is cut off, or was never one
        return None


def _message_in(data: bytes) -> bytes:
    """Return the first message, which may be spread over records.

    Raises:
        ValueError: there is none.
    """
    message, at = b"", 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        head = data[at : at + 5]
        if len(head) < 5 or head[0] != _HANDSHAKE:
            raise ValueError("no handshake")
        end = at + 5 + int.from_bytes(head[3:5], "big")
        message += data[at + 5 : end]
        at = end
    if message[0] != _CLIENT_HELLO:
        raise ValueError("no ClientHello")
    return message[4 : 4 + int.from_bytes(message[1:4], "big")]


def _name_in(message: bytes) -> str | None:
    """Return the name in a ClientHello.

    Raises:
        IndexError, ValueError: it is malformed.
    """
    at = 2 + 32
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    at += 2
    while at + 4 <= len(message):
        kind, size = message[at : at + 2], int.from_bytes(message[at + 2 : at + 4], "big")
        if kind == _SERVER_NAME:
            entry = message[at + 4 : at + 4 + size]
            length = int.from_bytes(entry[3:5], "big")
            return entry[5 : 5 + length].decode("ascii") or None
        at += 4 + size
    return None
