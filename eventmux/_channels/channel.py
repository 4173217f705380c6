"""What the mux knows about one handle: readiness in, events out.

A channel owns its handle's state and its input and output, and does the reading and writing
when it is told that it can. It computes which readiness it wants and never touches the
selector; it emits events and never hands them out. It knows no clock and no other channel.

This is what all channels have in common; each kind has a file of its own. A channel emits
`Closed` when nothing is left to be sent; the mux closes the handle when it hands that event
out, so that the program sees `Closing` with the handle still open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from eventmux._channels.ports import BorrowedSocket, Descriptor, Port, is_still, which_file
from eventmux.buffers import Buffer
from eventmux.errors import EventMuxError
from eventmux.events import Address, Closed, Closing, Event, Handle, Read

__all__ = [
    "DEFERRED",
    "HELD",
    "PAUSED",
    "THROTTLED",
    "WAITING",
    "Channel",
    "ChannelOptions",
    "Emit",
    "as_bytes",
    "reason_of",
]

Emit = Callable[[Event], None]

# Why nothing is read from a channel for now; `Channel.muted` has the sum.
HELD = 1  # the poller waits for another handle alone
PAUSED = 2  # the program does not want to: want_read(fh, False)
THROTTLED = 4  # more than high_water is queued for a peer that does not read
WAITING = 8  # the buffer waits for recvdata()
DEFERRED = 16  # resources have run out: it is tried again in a while


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """The options of a handle; a listener hands its own on to what it accepts."""

    read_size: int = 65536
    reads_per_turn: int = 10
    buffered: Buffer | None = None
    high_water: int | None = None
    max_outbuffer: int | None = None
    meta_handler: Callable[[Any, bytes, Address | None], object] | None = None
    errors: bool = False
    manual_accept: bool = False
    manual_read: bool = False
    manual_write: bool = False


class Channel:
    """What the mux and the poller need of any handle.

    `armed` and `armed_fd` are the poller's own notes of what it asked the selector for.
    """

    kind: ClassVar[str] = "stream"
    __slots__ = (
        "_emit",
        "_identity",
        "_lost",
        "_timeout",
        "armed",
        "armed_fd",
        "closed",
        "closing",
        "dialing",
        "fd",
        "fh",
        "is_quiet",
        "meta",
        "muted",
        "options",
        "port",
        "reason",
        "unflushed",
        "unsent",
        "write_off",
    )

    def __init__(
        self, fh: Handle, port: Port, emit: Emit, options: ChannelOptions, meta: object
    ) -> None:
        self.fh = fh
        self.port = port
        self.fd = port.fileno()  # it stays, should the program close the handle itself
        self.meta = meta
        self.options = options
        self.armed = 0
        self.armed_fd = -1
        self.reason: str | None = None
        self.closing = False
        self.closed: Closed | None = None  # once it is in the queue
        self.dialing = False  # it has no address yet to connect to: nothing to wait for
        self.muted = 0
        self.write_off = False  # the program writes itself, and does not want to now
        self.is_quiet = False  # a stream tells nobody when what is queued has left at once
        self.unflushed = False  # the mux will call flush() before it waits
        self.unsent = 0  # bytes, or packets, in the output queue
        self._lost = 0  # what was queued when the handle broke
        self._emit = emit
        self._identity = None if port is fh else which_file(self.fd)
        self._timeout = port.gettimeout()
        if not (options.manual_read and options.manual_write):
            port.setblocking(False)

    @property
    def wanted(self) -> int:
        """The readiness to wait for, as a mask of the selectors module."""
        raise NotImplementedError

    def readable(self) -> None:
        """Read, and emit what came of it."""
        raise NotImplementedError

    def writable(self) -> None:
        """Write what is queued, and emit what came of it."""
        raise NotImplementedError

    def queue(self, data: tuple[bytes, ...], receiver: Address | None = None) -> None:
        """Put bytes in the output queue, unless the handle failed or was closed by our side."""
        del data, receiver
        raise TypeError(f"cannot send on {self.fh!r}: it is a listener")

    def send_now(self, data: bytes) -> bool:
        """Send bytes past the queue, and queue what is left; False if nothing was done."""
        del data
        return False

    def put_off(self, data: bytes) -> bool:
        """Put bytes in the empty queue and set `unflushed`; False if nothing was done."""
        del data
        return False

    def append(self, data: bytes) -> bool:
        """Put bytes behind others that wait to be flushed; False if nothing was done.

        If enough has come together it is flushed now; `unflushed` is False then if some is left.
        """
        del data
        return False

    def flush(self) -> None:
        """Send what the kernel takes, and emit `Sent` if that was all."""

    def close(self) -> None:
        """Stop taking anything in and emit `Closing`; what is queued is sent first."""
        self._begin_to_close()

    def fail(self, error: OSError | EventMuxError) -> None:
        """The handle is broken: say why, and close it."""
        raise NotImplementedError

    def resume(self) -> None:
        """Go on after the pause that was asked for."""
        self.muted &= ~DEFERRED

    @property
    def missing(self) -> int:
        """How many bytes, or packets, were queued and not sent."""
        return self._lost + self.unsent

    @property
    def is_socket(self) -> bool:
        """True for sockets, False for pipes, terminals, files and devices."""
        return not isinstance(self.port, Descriptor)

    def is_lost(self) -> bool:
        """True if the program closed the handle without telling."""
        if self._identity is None:
            return self.port.fileno() != self.fd
        return not is_still(self.fh, self.fd, self._identity)

    def transplanted(self) -> None:
        """Note that the socket has another descriptor now."""
        self.fd = self.port.fileno()

    def silence(self) -> None:
        """Emit nothing any more: the mux has let go of it, perhaps in the middle of a read."""
        self.closing = self.dialing = True  # there is nothing to wait for
        self._emit = _ignore

    def release(self) -> None:
        """Give the handle back as it was."""
        self._restore()
        if isinstance(self.port, BorrowedSocket):
            self.port.detach()

    def shut(self) -> None:
        """Close the handle; O_NONBLOCK goes first where others may share the open file."""
        if self._identity is None:
            self.port.close()
        elif self.is_lost():  # the number may be that of another file by now
            self.port.detach()
        else:
            self._restore()
            self.port.close()

    def _restore(self) -> None:
        if not self.is_lost():
            with contextlib.suppress(OSError):
                self.port.settimeout(self._timeout)

    def _emit_read(self, data: bytes, sender: Address | None = None) -> None:
        if self.closing:  # the program's code has closed it in the middle of a read
            return
        event = Read(self.fh, data, sender)
        self._emit(event)  # first: should the program's code raise, no data is lost
        if self.options.meta_handler is not None:
            event.id = self.options.meta_handler(self.fh, data, sender)

    def _begin_to_close(self) -> None:
        if not self.closing:
            self.closing = True
            self._emit(Closing(self.fh, self.reason))
            self._end_if_drained()

    def _end_if_drained(self) -> None:
        """Emit `Closed` if nothing is left to be sent; if it is queued already, correct it."""
        if self.closed is not None:
            self.closed.missing, self.closed.reason = self.missing, self.reason
        elif not self.unsent:
            self.closed = Closed(self.fh, self.missing, self.reason)
            self._emit(self.closed)


def _ignore(event: Event) -> None:
    """Take an event that nobody is to have."""


def as_bytes(chunk: object) -> bytes:
    """Return a copy: the caller may change his while ours waits."""
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return bytes(chunk)
    raise TypeError(f"cannot send {type(chunk).__name__}, only bytes, bytearray or memoryview")


def reason_of(error: OSError | EventMuxError) -> str:
    """Return the reason without the number; strerror is None for errors made in Python."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
