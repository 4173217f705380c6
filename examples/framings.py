"""Where records end, for `Frames`: how many bytes the one that begins at `at` takes.

What `int()` refuses is malformed, and so is what has no length within `max_header`.
"""

import re

from eventmux.buffers import AtLeast, Frames

_NETSTRING = re.compile(rb"([0-9]{1,9}):")
_SYSLOG = re.compile(rb"([1-9][0-9]{0,8}) ")
_MQTT = re.compile(rb"(?s).([\x80-\xff]{0,3}[\x00-\x7f])")


def netstring(data, at):
    """Netstrings, `5:hello,`: a length, a colon, the bytes, a comma."""
    head = _NETSTRING.match(data, at)
    return None if head is None else head.end() - at + int(head[1]) + 1


def syslog(data, at):
    """Messages of syslog over TCP or TLS, `11 <13>1 hello`: RFC 6587, octet counting."""
    head = _SYSLOG.match(data, at)
    return None if head is None else head.end() - at + int(head[1])


def mqtt(data, at):
    """Packets of MQTT: a type, and a length with seven bits in each byte, the lowest first."""
    head = _MQTT.match(data, at)
    size = sum((byte & 127) << 7 * i for i, byte in enumerate(head[1])) if head else 0
    return None if head is None else head.end() - at + size


def resp(data, at):
    """Values of RESP, as Redis has them: a line, and behind it the bytes or values it counts."""
    end, left = at, 1
    while left:
        start, end = end, data.find(b"\r\n", end) + 2
        if end < 2:
            return AtLeast(start - at + 3 * left)  # a value has three bytes or more
        kind = data[start : start + 1]
        size = max(-1, int(data[start + 1 : end - 2])) if kind in (b"$", b"*") else -1
        if kind == b"$" and size >= 0:
            end += size + 2
        left += size - 1 if kind == b"*" and size >= 0 else -1
    return end - at


NETSTRINGS = Frames(netstring, max_header=10)
SYSLOG = Frames(syslog, max_header=10, max_size=65536)
MQTT = Frames(mqtt, max_header=5)
RESP = Frames(resp, max_size=1024 * 1024)
