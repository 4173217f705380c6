"""What `EventMux.mux()` returns: one small class per type of event.

`event.type` is a plain string, so `if event.type == "read"` reads well; the classes take part
in pattern matching, so `case Read(fh, data)` does too. Every event has `fh`, which is None
where no handle is concerned. Type checkers know by either which event it is, and with that its
fields. Programs may define subclasses of `Event` of their own and put them in the queue with
`EventMux.push_event()`.

This file knows nothing of how the events come about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from eventmux.peers import Address, Peer

if TYPE_CHECKING:
    import socket

    from eventmux.passing import PassedFds

__all__ = [
    "Accepting",
    "Address",
    "AnyEvent",
    "CanRead",
    "CanWrite",
    "Child",
    "Closed",
    "Closing",
    "Connect",
    "Error",
    "Event",
    "HalfClosed",
    "Handle",
    "MaybeNone",
    "Read",
    "ReadLast",
    "ReadWithDestination",
    "ReadWithFds",
    "Ready",
    "Records",
    "Sent",
    "Signal",
    "SomeEvent",
    "Timeout",
    "Timer",
]


class HasFileno(Protocol):
    """An object with a file descriptor, such as a socket or a pipe of a child process."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        ...


Handle = HasFileno | int
"""What can be watched: an object that has a file descriptor, or the descriptor itself."""

MaybeNone = Any
"""In a union: or None, but what the program watches tells whether; type checkers do not ask."""

# For what an event that we make always has.
_NOT_GIVEN: Any = None


@dataclass(slots=True)
class Event:
    """Something that happened; the base of all events, and of those that programs define."""

    # A str. It is Any for type checkers, since they take a variable of a class for one that may be
    # set, and would not let a subclass narrow it to a Literal.
    type: ClassVar[Any] = ""
    fh: Handle | None = None


@dataclass(slots=True)
class Timeout(Event):
    """The wait ended with nothing to report."""

    type: ClassVar[Literal["timeout"]] = "timeout"


@dataclass(slots=True)
class Connect(Event):
    """A listening socket accepted a connection: `fh` is new and watched already.

    `parent_fh` is the listener, `address` the peer's. `pid`, `uid` and `gid` are the peer's
    process, user and group, for UNIX sockets on Linux; they are None elsewhere. `peer` has all
    that is known of it, as `EventMux.peer()`.
    """

    type: ClassVar[Literal["connect"]] = "connect"
    fh: socket.socket = _NOT_GIVEN
    parent_fh: Handle = _NOT_GIVEN
    address: Address = _NOT_GIVEN
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    peer: Peer = _NOT_GIVEN


@dataclass(slots=True)
class Accepting(Event):
    """A connection waits on a listener with `manual_accept`.

    It comes again at each turn until the program has accepted.
    """

    type: ClassVar[Literal["accepting"]] = "accepting"
    fh: Handle = _NOT_GIVEN


@dataclass(slots=True)
class Ready(Event):
    """A stream that was added became writable for the first time: a connection is up.

    What can only be read from has none, and nor has a datagram socket. What cannot be written to
    yet may have a `Read` before.
    """

    type: ClassVar[Literal["ready"]] = "ready"
    fh: Handle = _NOT_GIVEN


@dataclass(slots=True)
class Read(Event):
    """`data` arrived: what there was, one record where the handle has a buffer, or one packet.

    `sender` is the address a datagram came from, None for a stream. `id` is what the handle's
    `meta_handler` returned, None without one.
    """

    type: ClassVar[Literal["read"]] = "read"
    fh: Handle = _NOT_GIVEN
    data: bytes = b""
    sender: Address | MaybeNone = None
    id: Any = None


@dataclass(slots=True)
class ReadWithFds(Read):
    """A `Read` of a handle with `receive_fds`: descriptors may have come with the data.

    `data`, `sender` and `id` are as in a `Read`. `fds` has the descriptors, and closes what the
    program does not take. On a stream they were sent with the piece of data that ends this read;
    more may be in front of it.
    """

    fds: PassedFds = _NOT_GIVEN


@dataclass(slots=True)
class ReadWithDestination(Read):
    """A `Read` of a handle with `destination`: it says which address the packet was sent to.

    `data`, `sender` and `id` are as in a `Read`. `destination` is the one in the packet,
    `interface` the number of the network interface by which it came, and `local` the address of
    ours to answer from, as the `source` of `sendto()`. It is the same as `destination`, but for
    what was sent to a group or to all: then it is that of the interface, and None with IPv6, where
    the kernel chooses.
    """

    destination: str = ""
    interface: int = 0
    local: str | None = None


@dataclass(slots=True)
class Records(Event):
    """What a handle with the buffer `Batch` has instead of `Read`: all records of one read.

    `records` are in order, at least one. `ids` are what the handle's `meta_handler` returned for
    each of them; None without one.
    """

    type: ClassVar[Literal["records"]] = "records"
    fh: Handle = _NOT_GIVEN
    records: list[bytes] = _NOT_GIVEN
    ids: list[Any] | None = None


@dataclass(slots=True)
class ReadLast(Event):
    """What was left in the buffer, an incomplete record, when the stream ended or broke."""

    type: ClassVar[Literal["read_last"]] = "read_last"
    fh: Handle = _NOT_GIVEN
    data: bytes = b""


@dataclass(slots=True)
class Sent(Event):
    """The output queue of the handle became empty.

    What was sent to a stream with `later=True` has one only if it had to wait for the peer.
    """

    type: ClassVar[Literal["sent"]] = "sent"
    fh: Handle = _NOT_GIVEN


@dataclass(slots=True)
class HalfClosed(Event):
    """The peer has finished sending, and may still read: with `half_close`, writing goes on.

    It comes behind all that was read, `ReadLast` included, and nothing is read any more. What is to
    be said is sent, and then the program closes the handle. `Closing` comes by itself if sending
    fails, or it turns out that the peer has gone altogether.

    A UNIX socket whose peer is closed has no `HalfClosed`, but `Closing`. TCP does not tell a peer
    that has closed its socket from one that waits for an answer, until it answers what is sent, or
    keepalive asks. With TLS the end is close_notify, as ever; without that it is an `Error`.
    """

    type: ClassVar[Literal["half_closed"]] = "half_closed"
    fh: Handle = _NOT_GIVEN


@dataclass(slots=True)
class Closing(Event):
    """The stream ended or failed, or `close()` was called.

    The handle is still open and its `meta` is still there. `reason` is None for an orderly end,
    otherwise a text.
    """

    type: ClassVar[Literal["closing"]] = "closing"
    fh: Handle = _NOT_GIVEN
    reason: str | None = None


@dataclass(slots=True)
class Closed(Event):
    """The handle is closed and forgotten; nothing more is reported about it.

    `missing` is the number of bytes, or of packets where the handle sends packets, that were
    queued and never sent. `reason` is None for an orderly end, otherwise a text.
    """

    type: ClassVar[Literal["closed"]] = "closed"
    fh: Handle = _NOT_GIVEN
    missing: int = 0
    reason: str | None = None


@dataclass(slots=True)
class Error(Event):
    """What the kernel or the peer did to a handle.

    `error` is the text, `errno` the number (None where there is none) and `exception` what was
    caught. `data` is what could not be cut into records, from the one over the limit on, or the
    packet that could not be delivered; `receiver` is where that packet was to go, `sender` who
    sent a packet that was too long to be read, or who reported that one was not delivered, and
    `mtu` the most bytes that the way to the receiver takes.
    """

    type: ClassVar[Literal["error"]] = "error"
    fh: Handle = _NOT_GIVEN
    error: str = ""
    errno: int | None = None
    exception: Exception | None = None
    data: bytes = b""
    receiver: Address | None = None
    sender: Address | None = None
    mtu: int | None = None


@dataclass(slots=True)
class CanRead(Event):
    """A handle with `manual_read`, or a mux in this one, can be read from.

    It comes again at each turn while it can. The end of a stream is the program's to see: a read
    returns `b""`, and the program calls `close()` or `kill()`.

    With `exceptional` it is another thing that there is to be read, such as urgent data of TCP, of
    a handle that was added with that option. That comes once for each time the kernel tells of it.
    """

    type: ClassVar[Literal["can_read"]] = "can_read"
    fh: Handle = _NOT_GIVEN
    exceptional: bool = False


@dataclass(slots=True)
class CanWrite(Event):
    """A handle with `manual_write` can be written to. It comes again at each turn while it can."""

    type: ClassVar[Literal["can_write"]] = "can_write"
    fh: Handle = _NOT_GIVEN


@dataclass(slots=True)
class Timer(Event):
    """A timer is due; `data` is what it was made with."""

    type: ClassVar[Literal["timer"]] = "timer"
    data: Any = None


@dataclass(slots=True)
class Signal(Event):
    """The signal `signum`, which is watched, arrived, `count` times since the last report."""

    type: ClassVar[Literal["signal"]] = "signal"
    signum: int = 0
    count: int = 1


@dataclass(slots=True)
class Child(Event):
    """A child process that is watched ended: the one with the number `pid`.

    `returncode` is its exit status, negative if a signal ended it; None if something else in
    this program has waited for the process, and the status is lost.
    """

    type: ClassVar[Literal["child"]] = "child"
    pid: int = 0
    returncode: int | None = None


AnyEvent = (
    Accepting
    | CanRead
    | CanWrite
    | Child
    | Closed
    | Closing
    | Connect
    | Error
    | HalfClosed
    | Read
    | ReadLast
    | Ready
    | Records
    | Sent
    | Signal
    | Timeout
    | Timer
)
"""What a mux makes: any of these classes, by whose `type` a type checker knows one from another."""

SomeEvent = TypeVar("SomeEvent", bound=Event | None)
"""What a filter of events, as `Client.io()`, is given, and returns if it is not its own."""
