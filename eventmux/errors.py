"""The exceptions of eventmux, in one tree.

A wrong call raises; what a peer or the kernel does is reported as an `Error` event instead.
Of these, only URLError is raised out of `EventMux`. The others concern one handle, and the mux
reports them by an event; a buffer that is used on its own raises them.
"""

from __future__ import annotations

import errno
from typing import ClassVar

__all__ = [
    "BufferOverflow",
    "EventMuxError",
    "FileError",
    "FramingError",
    "HeaderOverflow",
    "IdleTimeout",
    "MalformedHeader",
    "MalformedRecord",
    "OutputOverflow",
    "TLSError",
    "URLError",
]


class EventMuxError(Exception):
    """Whatever is wrong that eventmux itself found out."""


class _OverLimit(EventMuxError):
    """Something is larger than it may be."""

    text: ClassVar[str]

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(self.text.format(size, limit))
        self.size = size
        self.limit = limit

    def __reduce__(self) -> tuple[type[_OverLimit], tuple[int, int]]:
        """Pickle by the two numbers, not by the text."""
        return type(self), (self.size, self.limit)


class BufferOverflow(_OverLimit):
    """A record, complete or announced, is longer than its buffer allows.

    `size` is its length as far as it is known, and `limit` what is allowed, in bytes.
    """

    text = "record of {} bytes, limit is {}"


class HeaderOverflow(BufferOverflow):
    """The part of an HTTP message that has to be read as a whole is longer than `max_header`.

    To a request it is answered by 431, and another BufferOverflow by 413.
    """


class OutputOverflow(_OverLimit):
    """A peer does not read: the output queue of its handle is over `max_outbuffer`.

    `size` is what was queued and `limit` what is allowed, in bytes, or in packets where the
    handle sends packets. It is the `exception` of an `Error` event.
    """

    text = "output queue of {}, limit is {}: the peer does not read (max_outbuffer)"


class FileError(EventMuxError):
    """What `EventMux.sendfile()` was to send is not there any more, or cannot be read.

    The peer waits for it, and the connection is closed. It is the `exception` of an `Error` event.
    """


class IdleTimeout(EventMuxError, TimeoutError):
    """Nothing has come or gone on a handle for as long as its `idle_timeout`.

    `seconds` is that. It is the `exception` of an `Error` event, and its `errno` is ETIMEDOUT.
    """

    def __init__(self, seconds: float) -> None:
        text = f"nothing has come or gone for {seconds:g} seconds (idle_timeout)"
        super().__init__(errno.ETIMEDOUT, text)
        self.seconds = seconds

    def __reduce__(self) -> tuple[type[IdleTimeout], tuple[float]]:
        """Pickle by the number, not by the text."""
        return type(self), (self.seconds,)


class MalformedHeader(EventMuxError, ValueError):
    """What a connection begins with is no PROXY header, or one that breaks the protocol."""


class MalformedRecord(EventMuxError, ValueError):
    """The bytes cannot be cut into records, for example a length that is impossible."""


class FramingError(EventMuxError):
    """The function of a program that tells where records end is at fault, not the peer.

    `__cause__` is what it raised, or a TypeError about what it returned. It is the `exception` of
    an `Error` event, and the cause comes out of `mux()`.
    """


class TLSError(EventMuxError, OSError):
    """A TLS connection that cannot be made, or has broken; or that ended without saying so.

    It is the `exception` of an `Error` event; its `__cause__` is the `ssl.SSLError`, if there was
    one.

    Args:
        text: what is wrong.
        reason: OpenSSL's name for it, such as "CERTIFICATE_VERIFY_FAILED"; None if we say so.
    """

    def __init__(self, text: str, reason: str | None = None) -> None:
        super().__init__(text)
        self.reason = reason


class URLError(EventMuxError, ValueError):
    """A URL that is not understood."""
