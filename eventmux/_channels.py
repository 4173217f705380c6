"""What the mux knows about one handle: readiness in, events out.

A channel owns its handle's state and its input and output, and does the reading and writing
when it is told that it can. It computes which readiness it wants and never touches the
selector; it emits events and never hands them out. It knows no clock and no other channel.

The life of a stream, and the events on the way:

    connecting --Ready--> open --Closing--> closing --(queue empty)--> finished: Closed
    accepted -----------/

`Closing` is always followed by a `Finish` in the queue. When its turn comes, the mux asks
whether output is left; if so the stream drains, and emits another `Finish` when it is done.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE
from typing import Protocol

from eventmux import sockets
from eventmux.buffers import Buffer
from eventmux.errors import EventMuxError
from eventmux.events import Closing, Connect, Error, Event, Read, ReadLast, Ready, Sent

__all__ = ["Channel", "Emit", "Finish", "Listener", "Stream", "StreamOptions"]

Emit = Callable[[Event], None]

_WRITE_SIZE = 128 * 1024  # small chunks are joined up to this size for one send
_WRITES_PER_TURN = 16  # so that one fast reader does not keep the loop to itself
_ACCEPTS_PER_TURN = 64


@dataclass(slots=True)
class Finish(Event):
    """In the queue behind `Closing`: when its turn comes the mux closes the handle.

    Private to the mux, which never hands it out.
    """


class Channel(Protocol):
    """What the mux needs of a channel. `armed` is the mux's own note of what it asked for."""

    fh: socket.socket
    fd: int
    meta: object
    armed: int
    reason: str | None

    @property
    def wanted(self) -> int:
        """The readiness to wait for, as a mask of the selectors module."""
        ...

    @property
    def unsent(self) -> int:
        """The number of bytes in the output queue."""
        ...

    @property
    def missing(self) -> int:
        """The number of bytes that were queued and not sent."""
        ...

    @property
    def finished(self) -> bool:
        """True if nothing is left to do once `Closing` was handed out."""
        ...

    def readable(self) -> None:
        """Read, and emit what came of it."""
        ...

    def writable(self) -> None:
        """Write what is queued, and emit what came of it."""
        ...

    def close(self) -> None:
        """Stop taking anything in and emit `Closing`."""
        ...

    def restore(self) -> None:
        """Give the handle back the blocking mode that it had."""
        ...


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The options of a stream; a listener hands its own on to what it accepts."""

    read_size: int
    reads_per_turn: int
    buffered: Buffer | None = None
    high_water: int | None = None


class _Socket:
    """What streams and listeners have in common."""

    __slots__ = ("_emit", "_timeout", "armed", "closing", "fd", "fh", "meta", "options", "reason")

    def __init__(self, fh: socket.socket, emit: Emit, options: StreamOptions, meta: object) -> None:
        self.fh = fh
        self.fd = fh.fileno()
        self.meta = meta
        self.options = options
        self.armed = 0
        self.reason: str | None = None
        self.closing = False
        self._emit = emit
        self._timeout = fh.gettimeout()

    def restore(self) -> None:
        """Give the handle back the blocking mode that it had."""
        self.fh.settimeout(self._timeout)

    def _begin_to_close(self) -> None:
        if not self.closing:
            self.closing = True
            self._emit(Closing(self.fh, self.reason))
            self._emit(Finish(self.fh))


class Stream(_Socket):
    """A connected socket, or one that is about to be."""

    __slots__ = (
        "_buffer",
        "_lost",
        "_out",
        "_ready",
        "_recv",
        "_send",
        "_takes_output",
        "unflushed",
        "unsent",
    )

    def __init__(
        self, fh: socket.socket, emit: Emit, options: StreamOptions, meta: object, *, ready: bool
    ) -> None:
        super().__init__(fh, emit, options, meta)
        sockets.set_stream_options(fh)
        self.unsent = 0
        self.unflushed = False  # the mux's note that it will call flush() before it waits
        self._buffer = options.buffered.fresh() if options.buffered is not None else None
        self._ready = ready
        self._takes_output = True
        self._out: list[bytes | memoryview] = []
        self._lost = 0  # bytes that were queued when the stream broke
        self._recv = fh.recv
        self._send = fh.send

    @property
    def wanted(self) -> int:
        """The readiness to wait for; until the stream is up, that it can be written to."""
        unsent = self.unsent
        if self.closing:
            return EVENT_WRITE if unsent else 0
        if not self._ready:
            return EVENT_WRITE
        if not unsent:
            return EVENT_READ
        high_water = self.options.high_water
        if high_water is not None and unsent > high_water:
            return EVENT_WRITE
        return EVENT_READ | EVENT_WRITE

    @property
    def finished(self) -> bool:
        """True if no output is left that could be sent."""
        return not self.unsent

    @property
    def missing(self) -> int:
        """The number of bytes that were queued and not sent."""
        return self._lost + self.unsent

    # Input

    def readable(self) -> None:
        """Read once; with a buffer, until a record is complete or there is no more to read."""
        if self.closing:
            return
        read_size = self.options.read_size
        for _ in range(self.options.reads_per_turn):
            try:
                data = self._recv(read_size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.fail(error)
                return
            if not data:
                self._end()
                return
            if self._buffer is None:
                self._emit(Read(self.fh, data))
                return
            # A short read has emptied the socket: asking again would only cost a system call.
            if self._cut(self._buffer, data) or len(data) < read_size:
                return

    def _cut(self, buffer: Buffer, data: bytes) -> bool:
        """Emit the records that the data completes; False if there were none."""
        failure = None
        try:
            buffer.write(data)
        except EventMuxError as error:
            failure = error
        records = buffer.read()
        for record in records:
            self._emit(Read(self.fh, record))
        if failure is not None:
            self.fail(failure)
            return True
        return bool(records)

    def _end(self) -> None:
        """The peer has finished sending. It may still read, so queued output is not dropped."""
        if self._buffer is not None:
            kind = ReadLast if self._buffer.returns_last else Read
            for rest in self._buffer.read_last():
                self._emit(kind(self.fh, rest))
        self._begin_to_close()

    # Output

    def queue(self, data: tuple[bytes, ...]) -> None:
        """Put bytes in the output queue, unless the stream failed or was closed by our side."""
        chunks = [chunk if type(chunk) is bytes else _as_bytes(chunk) for chunk in data]
        if self._takes_output:
            for chunk in chunks:
                if chunk:
                    self._out.append(chunk)
                    self.unsent += len(chunk)

    def flush(self) -> None:
        """Send what the kernel takes, and emit `Sent` if that was all."""
        self.unflushed = False
        if not self.unsent:
            return
        for _ in range(_WRITES_PER_TURN):
            if not self._send_once():
                return
            if not self._out:
                self._emit(Finish(self.fh) if self.closing else Sent(self.fh))
                return

    def _send_once(self) -> bool:
        """Send one piece; False if the kernel did not take all of it."""
        out = self._out
        data = out[0] if len(out) == 1 else self._join()
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.fail(error)
            return False
        if not self._ready:
            self._get_ready()
        self.unsent -= sent
        if sent < len(data):
            out[0] = memoryview(data)[sent:]
            return False
        del out[0]
        return True

    def _join(self) -> bytes | memoryview:
        """Join the chunks at the front of the queue, so that one send takes them."""
        out = self._out
        count = size = 0
        for chunk in out:
            count += 1
            size += len(chunk)
            if size >= _WRITE_SIZE:
                break
        if count > 1:
            out[:count] = [b"".join(out[:count])]
        return out[0]

    def writable(self) -> None:
        """The stream is up, if it was not before; send what is queued."""
        if not self._ready:
            error = sockets.connect_error(self.fh)
            if error is not None:
                self.fail(error)
                return
            self._get_ready()
        self.flush()

    def _get_ready(self) -> None:
        self._ready = True
        if not self.closing:
            self._emit(Ready(self.fh))

    # The end

    def close(self) -> None:
        """Stop taking anything in and emit `Closing`; what is queued is sent first."""
        self._takes_output = False
        self._begin_to_close()

    def fail(self, error: OSError | EventMuxError) -> None:
        """The stream is broken: say why, give out what is left, and close it."""
        self._takes_output = False
        self._out.clear()
        self._lost, self.unsent = self._lost + self.unsent, 0
        self.reason = _text(error)
        if self.closing:  # it was draining: `Closed` carries the reason
            self._emit(Finish(self.fh))
            return
        rest = self._buffer.read_last() if self._buffer is not None else []
        number = error.errno if isinstance(error, OSError) else None
        self._emit(Error(self.fh, self.reason, number, error, b"".join(rest)))
        for data in rest:
            self._emit(ReadLast(self.fh, data))
        self._begin_to_close()


class Listener(_Socket):
    """A listening socket; it hands each connection to the mux, which makes a `Stream` of it."""

    __slots__ = ("_adopt", "_exhausted", "paused")

    unsent = 0
    missing = 0
    finished = True

    def __init__(
        self,
        fh: socket.socket,
        emit: Emit,
        options: StreamOptions,
        meta: object,
        *,
        adopt: Callable[[Listener, socket.socket], None],
        exhausted: Callable[[Listener], None],
    ) -> None:
        super().__init__(fh, emit, options, meta)
        fh.setblocking(False)
        self.paused = False
        self._adopt = adopt
        self._exhausted = exhausted

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        return 0 if self.closing or self.paused else EVENT_READ

    def readable(self) -> None:
        """Accept what waits."""
        if self.closing:
            return
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                accepted = sockets.accept(self.fh)
            except OSError as error:
                self._fail_to_accept(error)
                return
            if accepted is None:
                return
            sock, address = accepted
            self._adopt(self, sock)
            self._emit(Connect(sock, self.fh, address, *sockets.credentials(sock)))

    def _fail_to_accept(self, error: OSError) -> None:
        """Report it. The connection still waits, so trying again at once would spin."""
        self._emit(Error(self.fh, _text(error), error.errno, error))
        self.paused = True
        self._exhausted(self)

    def writable(self) -> None:
        """Do nothing: a listener never wants to write."""

    def close(self) -> None:
        """Stop accepting and emit `Closing`."""
        self._begin_to_close()


def _as_bytes(chunk: object) -> bytes:
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return bytes(chunk)  # a copy: the caller may change his while ours waits
    raise TypeError(f"cannot send {type(chunk).__name__}, only bytes, bytearray or memoryview")


def _text(error: OSError | EventMuxError) -> str:
    """Return the reason without the number; strerror is None for errors made in Python."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
