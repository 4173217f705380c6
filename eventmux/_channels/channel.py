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
from typing import ClassVar, Protocol

from eventmux import sockets
from eventmux._channels.descriptors import Descriptor
from eventmux._channels.handles import is_still, which_file
from eventmux._channels.lending import Loan
from eventmux._channels.options import ChannelOptions
from eventmux._channels.passing import KeptFds
from eventmux._channels.ports import Port, prepare
from eventmux.errors import EventMuxError, OutputOverflow
from eventmux.events import Address, Closed, Closing, Error, Event, Handle, Read
from eventmux.peers import Peer

__all__ = [
    "BEHIND",
    "DEFERRED",
    "ENDED",
    "PAUSED",
    "THROTTLED",
    "TOLD",
    "WAITING",
    "Channel",
    "Outlet",
    "as_bytes",
    "reason_of",
]

Emit = Callable[[Event], None]


class SeeOff(Protocol):
    """Sees to it that a channel ends."""

    def __call__(self, channel: Channel, seconds: float | None = None, added: int = 0) -> None:
        """Do what `Endings.begin()` says."""


# Why nothing is read from a channel for now; `Channel.muted` has the sum.
# (HELD, the lowest bit, is the poller's: it waits for another handle alone.)
PAUSED = 2  # the program does not want to: want_read(fh, False)
THROTTLED = 4  # more than high_water is queued for a peer that does not read
WAITING = 8  # the buffer waits for recvdata()
DEFERRED = 16  # resources have run out: it is tried again in a while
BEHIND = 32  # what was read before is not cut yet
ENDED = 64  # nothing more comes: with half_close, the peer has finished, and the handle stays
TOLD = 128  # the program is to read first what it is told of, by an exceptional CanRead


def _see_nobody_off(channel: Channel, seconds: float | None = None, added: int = 0) -> None:
    """Let a channel take all the time it likes: it has no mux."""


def _withdraw_nothing(fh: Handle) -> list[Event]:
    """Have no queue."""
    del fh
    return []


def _settle_nothing(channel: Channel) -> None:
    """Have no queue."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where a channel puts what it has for its mux."""

    emit: Emit
    """Queues an event for the program."""
    take_back: Emit
    """Takes an event out again that was not handed out yet."""
    put_off: Callable[[Channel], None]
    """Has the mux flush a channel before it waits."""
    see_off: SeeOff = _see_nobody_off
    """Sees to it that a channel that is closing ends, as `Endings.begin()` says."""
    withdraw: Callable[[Handle], list[Event]] = _withdraw_nothing
    """Takes all events of a handle that were not handed out yet, and returns them."""
    settle: Callable[[Channel], None] = _settle_nothing
    """Has `settle()` of a channel called once all its events have been handed out."""


class Channel:
    """What the mux and the poller need of any handle.

    `armed` and `armed_fd` are the poller's own notes of what it asked the selector for.
    """

    kind: ClassVar[str] = "stream"
    most_queued: ClassVar[int] = 16384
    """How many bytes, or packets, may wait in the output queue unless the program says so."""
    why_not: ClassVar[str] = "it takes no output"
    """Why nothing can be sent, for those that take nothing."""
    __slots__ = (
        "_emit",
        "_identity",
        "_is_own",
        "_loan",
        "_lost",
        "_outlet",
        "armed",
        "armed_fd",
        "closed",
        "closing",
        "dialing",
        "fd",
        "fh",
        "meta",
        "muted",
        "options",
        "port",
        "quiet",
        "reason",
        "unflushed",
        "unsent",
        "write_off",
    )

    def __init__(
        self, fh: Handle, port: Port, outlet: Outlet, options: ChannelOptions, meta: object
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
        self.unflushed = False  # what is queued was put off: the mux is to flush it
        self.unsent = 0  # bytes, or packets, in the output queue
        self.quiet = 0  # looks of `Idling` since anything was read or sent
        self._lost = 0  # what was queued when the handle broke
        self._outlet = outlet
        self._emit = outlet.emit
        self._identity = None if port is fh else which_file(self.fd)
        self._loan: Loan | None = None
        self._is_own = False  # it was accepted
        self._prepare()

    def _prepare(self) -> None:
        """See to it that nothing waits, unless all that is done with it is the program's."""
        options = self.options
        if options.manual_read and options.manual_write:
            return
        is_ready = prepare(self.port)
        if (options.manual_read or options.manual_write) and self.is_socket:
            is_ready = self.port.gettimeout() == 0.0  # the program may read until it would wait
        if not is_ready:
            self._loan = Loan(self.port)

    def own(self) -> None:
        """Make a socket non-blocking that was accepted here, so that nobody else can have it."""
        self._is_own = True
        self.port.settimeout(0.0)

    @property
    def wanted(self) -> int:
        """The readiness to wait for, as a mask of the selectors module; or HANGUP."""
        raise NotImplementedError

    def readable(self) -> None:
        """Read, and emit what came of it."""
        raise NotImplementedError

    def writable(self) -> bool | None:
        """Write what is queued, and emit what came of it; see `Pollable`."""
        raise NotImplementedError

    # Output. The mux calls send() and flush(); what a kind of channel makes of them is in the rest.

    def send(self, data: tuple[bytes, ...], later: bool, receiver: Address | None = None) -> bool:
        """Take bytes to be sent, and send what the kernel takes; or put that off.

        With `later`, what is queued waits until the mux flushes it, at the end of the turn, unless
        there is enough of it. What waits for the kernel already goes on doing so.

        Returns:
            True if the channel may want another readiness now.

        Raises:
            TypeError: something is not bytes, or cannot be sent here.
            ValueError: an empty packet for a connection of packets.
        """
        before = self.unsent
        is_waiting = before and not self.unflushed
        self.queue(data, receiver)
        added = self.unsent - before
        if later and not self.closing and self._passed(before) is None:
            if is_waiting:
                return True  # too much may be queued now for it to be read from
            if not self._has_enough():
                self._put_off()
                return False
        self._flush_early()
        limit = self._passed(before) if self.unsent else None
        if limit is not None:
            self.fail(OutputOverflow(self.unsent, limit))
        elif self.closing and self.unsent:
            # The peer has finished. What goes to it only later still comes before that is told.
            if self.closed is not None:
                self._outlet.take_back(self.closed)
                self.closed = None
            self._outlet.see_off(self, added=added)
        return True

    def _passed(self, before: int) -> int | None:
        """Return the limit on the output queue that was passed, if one was.

        A limit of the program's is kept to the byte. The usual one is there to stop what would
        grow for ever, and not a program that has a file to send: one piece may have any length.
        """
        limit = self.options.max_outbuffer
        if isinstance(limit, int):
            return limit if self.unsent > limit else None
        if limit is None or min(before, self.unsent) <= self.most_queued:
            return None
        is_over = min(before, self.unsent) - self._longest_piece() > self.most_queued
        return self.most_queued if is_over else None

    def _longest_piece(self) -> int:
        """Return how much of the queue is one piece that cannot wait to be queued."""
        return 0

    def queue(self, data: tuple[bytes, ...], receiver: Address | None = None) -> None:
        """Put bytes in the output queue, unless the handle failed or was closed by our side."""
        del data, receiver
        raise TypeError(f"cannot send on {self.fh!r}: {self.why_not}")

    def send_fds(self, data: bytes, fds: KeptFds, receiver: Address | None = None) -> bool:
        """Do what `send()` does with one piece of data, and have descriptors go along.

        Raises:
            TypeError: nothing, or no descriptors, can be sent here.
        """
        del data, fds, receiver
        raise TypeError(f"cannot send descriptors on {self.fh!r}: {self.why_not}")

    def _has_enough(self) -> bool:
        """True if what was put off need not wait for more."""
        return False

    def _put_off(self) -> None:
        if self.unsent and not self.unflushed:
            self.unflushed = True
            self._outlet.put_off(self)

    def _flush_early(self) -> None:
        """Flush; a channel in the mux's list stays there while it has nothing that waits."""
        is_listed = self.unflushed
        self.flush()
        self.unflushed = is_listed and not self.unsent

    def flush(self) -> None:
        """Send what the kernel takes, and emit `Sent` if that was all."""

    def close(self) -> None:
        """Stop taking anything in and emit `Closing`; what is queued is sent first."""
        self._begin_to_close()

    def shutdown(self) -> None:
        """Take no more output, and end our side once what is queued has left; reading goes on.

        Raises:
            TypeError: it has no two sides.
        """
        raise TypeError(f"cannot end one side of {self.fh!r}: it is no stream")

    def fail(self, error: OSError | EventMuxError) -> None:
        """The handle is broken: say why, and close it."""
        self._drop_output()
        self.reason = reason_of(error)
        if self.closing:  # it was draining: `Closed` carries the reason
            self._end_if_drained()
            return
        self._emit(Error(self.fh, self.reason, getattr(error, "errno", None), error))
        self._begin_to_close()

    def give_up(self, within: str) -> None:
        """End what is closing as it is: it has had its time."""
        if self.unsent:
            text = f"the rest was not sent within {within}"
            self.reason = text if self.reason is None else f"{self.reason}; {text}"
            self._drop_output()
        self._end_if_drained()

    def left_to_send(self) -> int:
        """Return what becomes less as the peer reads."""
        return self.unsent

    def settle(self) -> None:
        """Go on after all its events have been handed out."""

    @property
    def is_behind(self) -> bool:
        """True if it has something to emit that nothing but `settle()` will."""
        return bool(self.muted & BEHIND)

    def linger(self) -> bool:
        """Let the peer read the last words; True if that takes time, and `Closed` comes after."""
        return False

    def has_put_off(self, closed: Closed) -> bool:
        """True if another `Closed` comes in the place of that one, because of `linger()`."""
        del closed
        return False

    def discard(self) -> None:
        """Drop unread input that would have the kernel drop the last words."""

    def _drop_output(self) -> None:
        """Count what is queued for output as lost."""

    def resume(self) -> None:
        """Go on after the pause that was asked for."""
        self.muted &= ~DEFERRED

    @property
    def missing(self) -> int:
        """How many bytes, or packets, were queued and not sent."""
        return self._lost + self.unsent

    @property
    def is_up(self) -> bool:
        """False while a connection is being made."""
        return not self.dialing

    @property
    def is_accepted(self) -> bool:
        """True if a listener here has accepted it."""
        return self._is_own

    @property
    def is_socket(self) -> bool:
        """True for sockets, False for pipes, terminals, files and devices."""
        return not isinstance(self.port, Descriptor)

    def peer(self) -> Peer:
        """Return who is at the other end."""
        port = self.port
        if isinstance(port, Descriptor):
            return Peer(None)
        return Peer(sockets.peer_address(port), sockets.credentials(port))

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
        if self.port is not self.fh:
            self.port.detach()

    def drop(self) -> None:
        """Close this process's copy of a handle that is its parent's."""
        self.port.close()  # as it is: O_NONBLOCK is the parent's, too

    def shut(self) -> None:
        """Close the handle; what was lent goes back first, as others may share the open file."""
        if self._loan is not None:
            self._loan.give_back()
        if self._identity is not None and self.is_lost():  # the number may be another file's by now
            self.port.detach()
        else:
            self.port.close()

    def _restore(self) -> None:
        if self._loan is not None:
            self._loan.give_back()
        elif self._is_own and not self.is_lost():
            with contextlib.suppress(OSError):
                self.port.settimeout(None)

    def _emit_read(self, data: bytes) -> None:
        if self.closing:  # the program's code has closed it in the middle of a read
            return
        event = Read(self.fh, data)
        self._emit(event)  # first: should the program's code raise, no data is lost
        self._identify(event)

    def _identify(self, event: Read) -> None:
        """Let the program say which session it belongs to, if it wants to."""
        if self.options.meta_handler is not None:
            event.id = self.options.meta_handler(self.fh, event.data, event.sender)

    def _begin_to_close(self) -> None:
        if not self.closing:
            event = Closing(self.fh, self.reason)
            self.closing = True  # from here on nothing comes in between
            self._emit(event)
            self._end_if_drained()

    def tell_end(self) -> None:
        """Emit `Closed` if that is what is missing: something was interrupted."""
        if self.closing and self.closed is None:
            self._end_if_drained()

    def _end_if_drained(self) -> None:
        """Emit `Closed` if nothing is left to be sent; if it is queued already, correct it."""
        if self.closed is not None:
            self.closed.missing, self.closed.reason = self.missing, self.reason
            return
        if not self.unsent:
            self.closed = Closed(self.fh, self.missing, self.reason)
            self._emit(self.closed)
        self._outlet.see_off(self)


def _ignore(event: Event) -> None:
    """Take an event that nobody is to have."""


def as_bytes(chunk: object) -> bytes:
    """Return a copy: the caller may change his while ours waits."""
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return bytes(chunk)
    advice = "; encode it, as in text.encode()" if isinstance(chunk, str) else ""
    kind = type(chunk).__name__
    raise TypeError(f"cannot send {kind}, only bytes, bytearray or memoryview{advice}")


def reason_of(error: OSError | EventMuxError) -> str:
    """Return the reason without the number; strerror is None for errors made in Python."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
