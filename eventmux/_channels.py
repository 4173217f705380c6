"""What the mux knows about one handle: readiness in, events out.

A channel owns its handle's state and its input and output, and does the reading and writing
when it is told that it can. It computes which readiness it wants and never touches the
selector; it emits events and never hands them out. It knows no clock and no other channel.

The life of a stream, and the events on the way:

    connecting --Ready--> open --Closing--> closing --(queue empty)--> ended: Closed
    accepted -----------/

A channel emits `Closed` when nothing is left to be sent; the mux closes the handle when it
hands that event out, so that the program sees `Closing` with the handle still open.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE
from typing import Protocol

from eventmux import sockets
from eventmux.buffers import Buffer
from eventmux.errors import EventMuxError
from eventmux.events import Closed, Closing, Connect, Error, Event, Read, ReadLast, Ready, Sent

__all__ = ["Channel", "Emit", "Listener", "Stream", "StreamOptions"]

Emit = Callable[[Event], None]

_WRITE_SIZE = 128 * 1024  # small chunks are joined up to this size for one send
_WRITES_PER_TURN = 16  # so that one fast reader does not keep the loop to itself
_ACCEPTS_PER_TURN = 64
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC)


class Channel(Protocol):
    """What the mux needs of a channel.

    `armed` and `armed_fd` are the mux's own notes of what it asked the selector for; while it
    sets `held`, the channel wants nothing to be read.
    """

    fh: socket.socket
    fd: int  # it stays, should the program close the handle itself
    meta: object
    armed: int
    armed_fd: int
    held: bool
    reason: str | None
    closed: Closed | None

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

    def readable(self) -> None:
        """Read, and emit what came of it."""
        ...

    def writable(self) -> None:
        """Write what is queued, and emit what came of it."""
        ...

    def close(self) -> None:
        """Stop taking anything in and emit `Closing`."""
        ...

    def fail(self, error: OSError) -> None:
        """The handle is broken: say why, and close it."""
        ...

    def restore(self) -> None:
        """Give the handle back as it was."""
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

    __slots__ = (
        "_emit",
        "_lost",
        "_timeout",
        "armed",
        "armed_fd",
        "closed",
        "closing",
        "fd",
        "fh",
        "held",
        "meta",
        "options",
        "reason",
        "unsent",
    )

    def __init__(self, fh: socket.socket, emit: Emit, options: StreamOptions, meta: object) -> None:
        self.fh = fh
        self.fd = fh.fileno()
        self.meta = meta
        self.options = options
        self.armed = 0
        self.armed_fd = -1
        self.reason: str | None = None
        self.closing = False
        self.held = False  # the mux's note that nothing is to be read for now
        self.closed: Closed | None = None  # once it is in the queue
        self.unsent = 0
        self._lost = 0  # bytes that were queued when the stream broke
        self._emit = emit
        self._timeout = fh.gettimeout()
        fh.setblocking(False)

    @property
    def missing(self) -> int:
        """The number of bytes that were queued and not sent."""
        return self._lost + self.unsent

    def restore(self) -> None:
        """Give the handle back the blocking mode that it had."""
        with contextlib.suppress(OSError):  # the program may have closed it
            self.fh.settimeout(self._timeout)

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


class Stream(_Socket):
    """A connected socket, or one that is about to be."""

    __slots__ = (
        "_buffer",
        "_nodelay",
        "_out",
        "_ready",
        "_recv",
        "_send",
        "_takes_output",
        "_targets",
        "_throttled",
        "unflushed",
    )

    def __init__(
        self,
        fh: socket.socket,
        emit: Emit,
        options: StreamOptions,
        meta: object,
        *,
        ready: bool,
        targets: list[sockets.Target] | None = None,
    ) -> None:
        super().__init__(fh, emit, options, meta)
        self._nodelay = sockets.set_nodelay(fh)
        self.unflushed = False  # the mux's note that it will call flush() before it waits
        self._buffer = options.buffered.fresh() if options.buffered is not None else None
        self._ready = ready
        self._targets = targets  # more addresses to connect to, should this one fail
        self._takes_output = True
        self._throttled = False  # not read from until the output queue is empty
        self._out: list[bytes | memoryview] = []
        self._recv = fh.recv
        self._send = fh.send

    def restore(self) -> None:
        """Give the handle back as it was."""
        super().restore()
        if self._nodelay is not None:
            sockets.set_nodelay(self.fh, self._nodelay)

    @property
    def wanted(self) -> int:
        """The readiness to wait for; until the stream is up, that it can be written to."""
        unsent = self.unsent
        if self.closing:
            return EVENT_WRITE if unsent else 0
        if not self._ready:
            return EVENT_WRITE
        if self.held:
            return EVENT_WRITE if unsent else 0
        if not unsent:
            return EVENT_READ
        return EVENT_WRITE if self._throttled else EVENT_READ | EVENT_WRITE

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
            high_water = self.options.high_water
            if high_water is not None and self.unsent > high_water:
                self._throttled = True

    def flush(self) -> None:
        """Send what the kernel takes, and emit `Sent` if that was all."""
        self.unflushed = False
        if not self.unsent:
            return
        for _ in range(_WRITES_PER_TURN):
            if not self._send_once():
                return
            if not self._out:
                self._throttled = False
                # Also behind `Closing`, if it was the peer that closed; never behind `Closed`.
                if self._takes_output and self.closed is None:
                    self._emit(Sent(self.fh))
                if self.closing:
                    self._end_if_drained()
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
            if self._ready or error.errno != errno.ENOTCONN:  # else it is still connecting
                self._fail_to_send(error)
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

    def _fail_to_send(self, error: OSError) -> None:
        """Nothing can be sent any more. What the peer sent before it left is still to be read."""
        if not self._ready and error.errno != errno.EPIPE:  # that one says it was up before
            self._connect_next(error)
            return
        if not self._ready:
            self._get_ready()
        self.reason = _text(error)
        self._drop_output()
        if self.closing:  # it was draining: `Closed` carries the reason
            self._end_if_drained()
        else:
            self._emit(Error(self.fh, self.reason, error.errno, error))

    def _drop_output(self) -> None:
        self._takes_output = self._throttled = False
        self._out.clear()
        self._lost, self.unsent = self._lost + self.unsent, 0

    def writable(self) -> None:
        """The stream is up, if it was not before; send what is queued."""
        if not self._ready:
            error = sockets.connect_error(self.fh)
            if error is not None:
                self._connect_next(error)
                return
            self._get_ready()
        self.flush()

    def _connect_next(self, error: OSError) -> None:
        if self._targets and sockets.connect_next(self.fh, self._targets) is None:
            self.fd = self.fh.fileno()
            self._nodelay = sockets.set_nodelay(self.fh)
        else:
            self.fail(error)

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
        known = not self._takes_output and self.reason is not None  # it failed to send before
        self.reason = self.reason if known else _text(error)
        self._drop_output()
        if self.closing:  # it was draining: `Closed` carries the reason
            self._end_if_drained()
            return
        rest = self._buffer.read_last() if self._buffer is not None else []
        if isinstance(error, EventMuxError):  # the rest is no part of a record: it goes with it
            self._emit(Error(self.fh, self.reason or "", None, error, b"".join(rest)))
            rest = []
        elif not known:
            self._emit(Error(self.fh, self.reason or "", error.errno, error))
        for data in rest:
            self._emit(ReadLast(self.fh, data))
        self._begin_to_close()


class Listener(_Socket):
    """A listening socket; it hands each connection to the mux, which makes a `Stream` of it."""

    __slots__ = ("_adopt", "_exhausted", "paused")

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
        self.paused = False
        self._adopt = adopt
        self._exhausted = exhausted

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        return 0 if self.closing or self.paused or self.held else EVENT_READ

    def readable(self) -> None:
        """Accept what waits."""
        if self.closing:
            return
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                accepted = sockets.accept(self.fh)
            except OSError as error:
                if sockets.is_of_one_connection(error):
                    continue
                self._fail_to_accept(error)
                return
            if accepted is None:
                return
            sock, address = accepted
            try:
                ids = sockets.credentials(sock)
                self._adopt(self, sock)
            except OSError as error:  # the selector takes no more, for example
                sock.close()
                self._fail_to_accept(error)
                return
            self._emit(Connect(sock, self.fh, address, *ids))

    def _fail_to_accept(self, error: OSError) -> None:
        """Report it. A connection still waits, so trying again at once would spin."""
        if error.errno not in _OUT_OF_RESOURCES:
            self.fail(error)
            return
        self._emit(Error(self.fh, _text(error), error.errno, error))
        self.paused = True
        self._exhausted(self)

    def writable(self) -> None:
        """Do nothing: a listener never wants to write."""

    def close(self) -> None:
        """Stop accepting and emit `Closing`."""
        self._begin_to_close()

    def fail(self, error: OSError) -> None:
        """The listener is broken: say why, and close it."""
        self.reason = _text(error)
        self._emit(Error(self.fh, self.reason, error.errno, error))
        self._begin_to_close()


def _as_bytes(chunk: object) -> bytes:
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return bytes(chunk)  # a copy: the caller may change his while ours waits
    raise TypeError(f"cannot send {type(chunk).__name__}, only bytes, bytearray or memoryview")


def _text(error: OSError | EventMuxError) -> str:
    """Return the reason without the number; strerror is None for errors made in Python."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
