"""What the head of an HTTP/1 message says about how the message goes on.

The one rule: a head that two readers could understand in different ways is refused, since that is
how requests are smuggled past a proxy (RFC 9112, sections 5 and 6.3). So there is no blank before a
colon, no folded line, no bare CR, one kind of line end, one length, and one Host.

This file does not know how a message arrives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from eventmux.errors import MalformedRecord

__all__ = ["CHUNKED", "TO_END", "announced", "check_trailers", "expects_continue", "shown"]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST = re.compile(_TOKEN + rb" [^\x00-\x20\x7f]+ HTTP/1\.([0-9])\r?\n")
_RESPONSE = re.compile(rb"HTTP/1\.([0-9]) ([0-9]{3})(?: [^\x00\r\n]*)?\r?\n")
# By the end of the start line. Who sends both kinds means one of them to be part of a value.
_FIELDS = {
    end: re.compile(rb"(?:" + _TOKEN + rb":[^\x00\r\n]*" + end + rb")*") for end in (b"\r\n", b"\n")
}
_FRAMING = re.compile(rb"^(content-length|transfer-encoding|host):([^\r\n]*)", re.I | re.M)
_EXPECT = re.compile(rb"^expect:[ \t]*100-continue[ \t]*\r?$", re.I | re.M)
_CR = 13
_LENGTH = re.compile(rb"[0-9]{1,19}")

# What a head says about its body, besides a length.
CHUNKED = -1
TO_END = -2


def announced(head: bytes) -> int:
    """Return the length of the body that belongs to a head; CHUNKED or TO_END for none.

    Raises:
        MalformedRecord: the head is not one of HTTP/1, or the length is in doubt.
    """
    is_response = head.startswith(b"HTTP/")
    start = (_RESPONSE if is_response else _REQUEST).match(head)
    if start is None:
        raise MalformedRecord(f"message begins with {shown(head)}, must be a start line of HTTP/1")
    position = start.end()
    _check_fields(head, position, b"\r\n" if head[position - 2] == _CR else b"\n")
    if is_response and (start[2] in (b"204", b"304") or start[2].startswith(b"1")):
        return 0  # whatever its fields say: they may be about another response
    found = _FRAMING.findall(head, position)
    if not is_response and len(found) == 1 and found[0][0][:1] in b"Hh":
        return 0  # as most requests
    lengths: list[bytes] = []
    codings: list[bytes] = []
    hosts: list[bytes] = []
    by_letter = {b"c": lengths, b"t": codings, b"h": hosts}
    for name, value in found:
        by_letter[name[:1].lower()].append(value)
    if len(hosts) > 1 and not is_response:
        raise MalformedRecord(f"request has {len(hosts)} Host fields, must have one")
    if codings:
        if lengths:
            raise MalformedRecord("message has both Content-Length and Transfer-Encoding")
        if start[1] == b"0":
            raise MalformedRecord("message of HTTP/1.0 has a Transfer-Encoding")
        return _of_codings(codings, is_response)
    if lengths:
        return _of_lengths(lengths)
    return TO_END if is_response else 0


def expects_continue(head: bytes) -> bool:
    """True if the client waits for a "100 Continue" before it sends the body of this request."""
    if _EXPECT.search(head) is None:
        return False
    start = _REQUEST.match(head)
    return start is not None and start[1] != b"0"  # RFC 9110, section 10.1.1


def check_trailers(block: bytes) -> None:
    """Raise MalformedRecord for what cannot be behind the LF of the last chunk's line."""
    _check_fields(block, 1, b"\r\n")


def _check_fields(block: bytes, position: int, end: bytes) -> None:
    """Raise if there is anything but field lines between the position and the blank line."""
    fields = _FIELDS[end].match(block, position)
    rest = block[fields.end() :] if fields is not None else block
    if rest != end:
        raise MalformedRecord(
            f"header line is {shown(rest)}, must be 'name: value', and end as the others do"
        )


def _of_codings(values: list[bytes], is_response: bool) -> int:
    codings = [coding.lower() for coding in _items(values) if coding]
    if codings and b"chunked" not in codings[:-1]:
        if codings[-1] == b"chunked":
            return CHUNKED
        if is_response:
            return TO_END
    raise MalformedRecord(f"Transfer-Encoding is {shown(b','.join(values))}, must end in chunked")


def _of_lengths(values: list[bytes]) -> int:
    lengths = set(_items(values))  # a proxy may have put equal ones together
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length):
        raise MalformedRecord(f"Content-Length is {shown(b','.join(values))}, must be one number")
    return int(length)


def _items(values: Iterable[bytes]) -> list[bytes]:
    return [item.strip(b" \t") for value in values for item in value.split(b",")]


def shown(data: bytes | bytearray) -> str:
    """Return the first line for a message, shortened."""
    return repr(bytes(data[:60]).partition(b"\n")[0])
