"""What `EventMux.mux()` returns: one small class per type of event.

`event.type` is a plain string, so `if event.type == "read"` reads well; the classes take part
in pattern matching, so `case Read(fh, data)` does too. Every event has `fh`, which is None
where no handle is concerned. Programs may define subclasses of `Event` of their own and put
them in the queue with `EventMux.push_event()`.

This file knows nothing of how the events come about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

__all__ = [
    "Address",
    "Closed",
    "Closing",
    "Connect",
    "Error",
    "Event",
    "Handle",
    "Read",
    "ReadLast",
    "Ready",
    "Sent",
    "Timeout",
]


class Handle(Protocol):
    """What can be watched: anything that has a file descriptor, such as a socket."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        ...


Address = tuple[str, int] | tuple[str, int, int, int] | str | bytes
"""A socket address as the `socket` module gives it: IPv4, IPv6, or the path of a UNIX socket."""


@dataclass(slots=True)
class Event:
    """Something that happened; the base of all events."""

    type: ClassVar[str] = ""
    fh: Handle | None = None


@dataclass(slots=True)
class Timeout(Event):
    """The wait ended with nothing to report."""

    type: ClassVar[str] = "timeout"


@dataclass(slots=True)
class Connect(Event):
    """A listening socket accepted a connection: `fh` is new and watched already.

    `parent_fh` is the listener, `address` the peer's. The ids of the peer's process, user and
    group are known for UNIX sockets on Linux and None elsewhere.
    """

    type: ClassVar[str] = "connect"
    parent_fh: Handle | None = None
    address: Address | None = None
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(slots=True)
class Ready(Event):
    """A stream that was added became writable for the first time: a connection is up."""

    type: ClassVar[str] = "ready"


@dataclass(slots=True)
class Read(Event):
    """Data arrived: what there was, or one whole record where the handle has a buffer."""

    type: ClassVar[str] = "read"
    data: bytes = b""


@dataclass(slots=True)
class ReadLast(Event):
    """What was left in the buffer, an incomplete record, when the stream ended or broke."""

    type: ClassVar[str] = "read_last"
    data: bytes = b""


@dataclass(slots=True)
class Sent(Event):
    """The output queue of the handle became empty."""

    type: ClassVar[str] = "sent"


@dataclass(slots=True)
class Closing(Event):
    """The stream ended or failed, or `close()` was called.

    The handle is still open and its `meta` is still there. `reason` is None for an orderly end,
    otherwise a text.
    """

    type: ClassVar[str] = "closing"
    reason: str | None = None


@dataclass(slots=True)
class Closed(Event):
    """The handle is closed and forgotten; nothing more is reported about it.

    `missing` is the number of bytes that were queued and never sent.
    """

    type: ClassVar[str] = "closed"
    missing: int = 0
    reason: str | None = None


@dataclass(slots=True)
class Error(Event):
    """What the kernel or the peer did to a handle.

    `error` is the text, `errno` the number (None where there is none), `exception` what was
    caught, and `data` what could not be cut into records, from the one over the limit on.
    """

    type: ClassVar[str] = "error"
    error: str = ""
    errno: int | None = None
    exception: Exception | None = None
    data: bytes = b""
