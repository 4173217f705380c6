"""The exceptions of eventmux, in one tree.

A wrong call raises; what a peer or the kernel does is reported as an `Error` event instead.
Of these, only URLError is raised out of `EventMux`; the others come from a buffer, and the
mux turns them into an event when the buffer belongs to one of its handles.
"""

from __future__ import annotations

__all__ = ["BufferOverflow", "EventMuxError", "MalformedRecord", "URLError"]


class EventMuxError(Exception):
    """Whatever is wrong that eventmux itself found out."""


class BufferOverflow(EventMuxError):
    """A record, complete or announced, is longer than the buffer's limit.

    `size` is its length as far as it is known, and `limit` what is allowed, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"record of {size} bytes, limit is {limit}")
        self.size = size
        self.limit = limit

    def __reduce__(self) -> tuple[type[BufferOverflow], tuple[int, int]]:
        """Pickle by the two numbers, not by the text."""
        return type(self), (self.size, self.limit)


class MalformedRecord(EventMuxError, ValueError):
    """The bytes cannot be cut into records, for example a length that is impossible."""


class URLError(EventMuxError, ValueError):
    """A URL that is not understood."""
