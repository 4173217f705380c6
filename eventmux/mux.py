"""`EventMux`: waits on all handles at once and returns one event at a time.

The mux holds one channel for each handle, the poller, and the queue of events. A turn is: send
what was put off, wait once, let all writable channels write, then all readable ones read. What
they emit is queued; no turn begins while the queue holds anything. The channels do the reading
and writing; the mux knows nothing of bytes.
"""

from __future__ import annotations

import copy
import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from selectors import EVENT_WRITE
from types import TracebackType
from typing import Any

from eventmux import sockets
from eventmux._channels import Channel, Listener, Stream, StreamOptions
from eventmux._poller import Poller
from eventmux._queue import EventQueue
from eventmux.buffers import Buffer
from eventmux.events import Closed, Event, Handle, Timeout
from eventmux.urls import parse_url

__all__ = ["EventMux"]

_MOST_KEPT = 256  # events queued for others, with mux(only=...), until those are not read from
_UNSET = object()


class EventMux:
    """A multiplexer for a loop that the program owns.

        mux = EventMux()
        server = mux.listen("tcp://127.0.0.1:7007")
        for event in mux:
            if event.type == "read":
                mux.send(event.fh, event.data)

    It belongs to one thread. As a context manager it closes all that it watches at the end.

    Args:
        selector: what to wait with; default is the best one of the platform.
        read_size: bytes to ask for in one read.
        reads_per_turn: how often a handle with a buffer may read in one turn, while no record
            is complete.
        clock: seconds that never go back, as `time.monotonic`.

    Raises:
        ValueError: `read_size` or `reads_per_turn` is less than 1.
    """

    def __init__(
        self,
        *,
        selector: selectors.BaseSelector | None = None,
        read_size: int = 65536,
        reads_per_turn: int = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_positive("read_size", read_size)
        _check_positive("reads_per_turn", reads_per_turn)
        self._poller = Poller(selectors.DefaultSelector() if selector is None else selector, clock)
        self._read_size = read_size
        self._reads_per_turn = reads_per_turn
        self._clock = clock
        self._channels: dict[Handle, Channel] = {}
        self._queue = EventQueue()
        self._unflushed: list[Stream] = []
        self._holding_for: Handle | None = None  # what alone is read from

    # The loop

    def mux(self, *timeouts: float | None, only: Handle | None = None) -> Event | None:
        """Return the next event, waiting for one if need be.

        Args:
            timeouts: seconds to wait; the lowest that is not None counts. None or nothing is
                for ever, 0 asks without waiting. After it a `Timeout` is returned.
            only: return events of this handle alone, and `Timeout`; all others stay queued, in
                order. When many are, nothing more is read from the other handles meanwhile.

        Returns:
            The event; None if there is nothing to wait for: no handle is watched, nothing is
            queued, and no timeout is given; or `only` is given and is not watched.

        Raises:
            ValueError: a timeout is negative.
        """
        timeout = _lowest(timeouts) if timeouts else None
        if self._holding_for is not None and self._holding_for is not only:
            self._holding_for = None
            self._poller.release()
        event = self._next_event(only)
        if event is not None:
            return event
        deadline = None if timeout is None else self._clock() + timeout
        while True:
            if self._unflushed:
                self._flush()
                event = self._next_event(only)
                if event is not None:
                    return event
            if only is not None:
                if only not in self._channels:
                    return None
            elif timeout is None and not self._channels:
                return None
            self._wait(timeout, only)
            event = self._next_event(only)
            if event is not None:
                return event
            if deadline is not None:
                timeout = deadline - self._clock()
                if timeout <= 0:
                    return Timeout()

    def __iter__(self) -> Iterator[Event]:
        """Iterate over `mux()` until there is nothing to wait for."""
        while (event := self.mux()) is not None:
            yield event

    def _wait(self, timeout: float | None, only: Handle | None) -> None:
        if only is not None and len(self._queue) >= _MOST_KEPT:
            self._holding_for = only  # else a peer could fill the memory meanwhile
            self._poller.turn(timeout, only)
        else:
            self._poller.turn(timeout)

    def _flush(self) -> None:
        """Send what send(later=True) put off."""
        streams, self._unflushed = self._unflushed, []
        for stream in streams:
            if stream.unflushed:
                stream.flush()
                self._poller.arm(stream)

    # The queue

    def _next_event(self, only: Handle | None) -> Event | None:
        """Take the next event off the queue; with `Closed`, the handle is closed."""
        event = self._queue.take() if only is None else self._queue.take_of(only)
        if type(event) is Closed:
            self._dispose(event)
        return event

    def _dispose(self, event: Closed) -> None:
        channel = None if event.fh is None else self._channels.get(event.fh)
        if channel is not None and channel.closed is event:
            self._forget(channel)
            channel.fh.close()

    def push_event(self, *events: Event) -> None:
        """Put events at the end of the queue; they may be of classes of your own.

        Raises:
            TypeError: one of them is no `Event`.
        """
        for event in events:
            if not isinstance(event, Event):
                raise TypeError(f"cannot queue {type(event).__name__}, only events")
        for event in events:
            self._queue.push(event)

    def has_events(self) -> int:
        """Return how many events `mux()` could hand out without waiting."""
        return self._queue.count()

    # Handles

    def add(
        self,
        fh: socket.socket,
        *,
        listen: bool | None = None,
        buffered: Buffer | None = None,
        meta: object = None,
        read_size: int | None = None,
        high_water: int | None = None,
    ) -> None:
        """Watch a stream socket, or a socket that listens. It becomes non-blocking.

        Args:
            fh: the socket. If it is connecting, `Ready` or `Error` tells how that ended.
            listen: whether it is a listener; default is to ask the kernel.
            buffered: cut what arrives into records. It serves as a pattern: each stream, and
                each connection that a listener accepts, gets an empty buffer of this kind.
            meta: anything; `meta(fh)` gives it back. What a listener accepts gets a shallow copy,
                or the thing itself if it cannot be copied.
            read_size: bytes to ask for in one read; default is that of the mux.
            high_water: bytes. Once more than that is queued for output, the handle is not read
                from until all of it has left: a peer that asks and does not listen waits.

        Raises:
            TypeError: it is no stream socket.
            ValueError: it is watched already, a size is less than 1, or `listen` is not so.
            OSError: the kernel refuses.
        """
        options = self._options(buffered, read_size, high_water)
        self._check_new(fh)
        is_listening = sockets.is_listening(fh)
        if listen is not None and listen != is_listening:
            does = "listens" if is_listening else "does not listen"
            raise ValueError(f"listen is {listen}, but {fh!r} {does}")
        if is_listening:
            self._watch(
                Listener(
                    fh,
                    self._queue.push,
                    options,
                    meta,
                    adopt=self._adopt,
                    exhausted=self._poller.pause,
                )
            )
        else:
            self._watch(Stream(fh, self._queue.push, options, meta, ready=False))

    def _options(
        self,
        buffered: Buffer | None = None,
        read_size: int | None = None,
        high_water: int | None = None,
    ) -> StreamOptions:
        if buffered is not None and (
            isinstance(buffered, type) or not callable(getattr(buffered, "fresh", None))
        ):
            raise TypeError(f"buffered is {buffered!r}, must be a buffer such as Split()")
        if read_size is None:
            read_size = self._read_size
        _check_positive("read_size", read_size)
        if high_water is not None:
            _check_positive("high_water", high_water)
        return StreamOptions(read_size, self._reads_per_turn, buffered, high_water)

    def _check_new(self, fh: object) -> None:
        if not isinstance(fh, socket.socket) or fh.type != socket.SOCK_STREAM:
            raise TypeError(f"cannot watch {fh!r}: not a stream socket")
        if fh in self._channels:
            raise ValueError(f"{fh!r} is watched already")
        other = self._poller.owner(fh.fileno())
        if other is not None and other.fh.fileno() == fh.fileno():
            raise ValueError(f"{fh!r} is watched already, as {other.fh!r}")
        self._make_room(fh)

    def _adopt(self, listener: Listener, sock: socket.socket) -> None:
        """Watch a connection that a listener accepted."""
        self._make_room(sock)
        meta = _copy(listener.meta)
        self._watch(Stream(sock, self._queue.push, listener.options, meta, ready=True))

    def _watch(self, channel: Channel) -> None:
        try:
            self._poller.arm(channel)
        except BaseException:
            channel.restore()
            raise
        self._channels[channel.fh] = channel

    def _make_room(self, fh: socket.socket) -> None:
        """Let go of the handle that had this descriptor before; the program closed it itself."""
        other = self._poller.owner(fh.fileno())
        if other is None:
            return
        other.fail(OSError(errno.EBADF, os.strerror(errno.EBADF)))
        self._poller.arm(other)

    def connect(self, url: str, **options: Any) -> socket.socket:
        """Start to connect to a `tcp://` or `unix://` URL and watch the socket.

        It returns at once, but for the time that looking up a name takes. How the connection
        went is told by an event: `Ready`, or `Error`, `Closing` and `Closed`.

        Args:
            url: where to connect to.
            options: as for `add()`.

        Raises:
            URLError: the URL is not understood.
            OSError: the process is out of descriptors.
        """
        meta = options.pop("meta", None)
        stream_options = self._options(**options)
        sock, targets, error = sockets.connect(parse_url(url))
        self._make_room(sock)
        stream = Stream(sock, self._queue.push, stream_options, meta, ready=False, targets=targets)
        try:
            self._watch(stream)
        except BaseException:
            sock.close()
            raise
        if error is not None:
            stream.fail(error)
            self._poller.arm(stream)
        return sock

    def listen(self, url: str, *, backlog: int = 1024, **options: Any) -> socket.socket:
        """Listen at a `tcp://` or `unix://` URL and watch the socket.

        Port 0 lets the system choose one, which `getsockname()` tells. A file left at a UNIX
        path by a server that has gone is replaced.

        Args:
            url: where to listen.
            backlog: how many connections may wait to be accepted.
            options: as for `add()`; what is accepted inherits them.

        Raises:
            URLError: the URL is not understood.
            OSError: the address is in use, the name is unknown, permission is missing...
        """
        sock = sockets.listen(parse_url(url), backlog)
        try:
            self.add(sock, listen=True, **options)
        except BaseException:
            sock.close()
            raise
        return sock

    def send(self, fh: Handle, *data: bytes, later: bool = False) -> int:
        """Queue bytes for a stream and send at once what the kernel takes.

        Args:
            fh: the stream.
            data: one after the other, as one stream of bytes.
            later: do not send yet, but when `mux()` is about to wait: many small pieces then
                cost one system call. A plain `send()` to the same handle sends them too.

        Returns:
            How many bytes are in the queue now. After `close()` the data is ignored.

        Raises:
            KeyError: the handle is not watched.
            TypeError: something is not bytes, or the handle is a listener.
        """
        stream = self._stream(fh)
        stream.queue(data)
        if stream.closing:
            self._send_behind_closing(stream)
        elif not later:
            stream.flush()
            self._poller.arm(stream)
        elif not stream.unflushed and not stream.armed & EVENT_WRITE:
            stream.unflushed = True
            self._unflushed.append(stream)
        return stream.unsent

    def _send_behind_closing(self, stream: Stream) -> None:
        """Send to a peer that has finished its side. What does not go at once puts `Closed` off."""
        stream.flush()
        if stream.unsent and stream.closed is not None:
            self._queue.remove(stream.closed)
            stream.closed = None
        self._poller.arm(stream)

    def close(self, fh: Handle) -> None:
        """Close a handle in order: `Closing` comes, the output queue is sent, `Closed` comes.

        Nothing is read any more. Closing twice is once.

        Raises:
            KeyError: the handle is not watched.
        """
        channel = self._channel(fh)
        channel.close()
        self._poller.arm(channel)

    def kill(self, fh: Handle, reason: str | None = None) -> None:
        """Close a handle now. What is queued in either direction is dropped; `Closed` comes.

        Raises:
            KeyError: the handle is not watched.
        """
        channel = self._channel(fh)
        self._forget(channel)
        channel.fh.close()
        closed = Closed(fh, channel.missing, channel.reason if reason is None else reason)
        self._queue.push_last(closed)

    def remove(self, fh: Handle) -> None:
        """Stop watching a handle and leave it open, as it was before. No event comes.

        What is queued for it in either direction is dropped.

        Raises:
            KeyError: the handle is not watched.
        """
        channel = self._channel(fh)
        self._forget(channel)
        channel.restore()
        self._queue.remove_of(fh)

    def _forget(self, channel: Channel) -> None:
        if isinstance(channel, Stream):
            channel.unflushed = False
        del self._channels[channel.fh]
        self._poller.disarm(channel)

    def buflen(self, fh: Handle) -> int:
        """Return how many bytes are queued for output.

        Raises:
            KeyError: the handle is not watched.
        """
        return self._channel(fh).unsent

    def meta(self, fh: Handle, value: object = _UNSET) -> Any:
        """Return what the program has stored for a handle, after storing `value` if given.

        Raises:
            KeyError: the handle is not watched.
        """
        channel = self._channel(fh)
        if value is not _UNSET:
            channel.meta = value
        return channel.meta

    def handles(self) -> list[Handle]:
        """Return the handles that are watched."""
        return list(self._channels)

    def _channel(self, fh: Handle) -> Channel:
        try:
            return self._channels[fh]
        except KeyError:
            raise KeyError(f"{fh!r} is not watched") from None

    def _stream(self, fh: Handle) -> Stream:
        channel = self._channel(fh)
        if not isinstance(channel, Stream):
            raise TypeError(f"cannot send on {fh!r}: it is a listener")
        return channel

    # The end

    def __enter__(self) -> EventMux:
        """Return the mux itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send what can be sent without waiting, close all handles and the selector."""
        for channel in list(self._channels.values()):
            if isinstance(channel, Stream):
                channel.flush()
            self._forget(channel)
            channel.fh.close()
        self._queue.clear()
        self._poller.close()


def _lowest(timeouts: tuple[float | None, ...]) -> float | None:
    given = [timeout for timeout in timeouts if timeout is not None]
    if not given:
        return None
    for timeout in given:
        if not timeout >= 0:  # so that NaN is refused too
            raise ValueError(f"timeout is {timeout!r}, must be 0 or more")
    return min(given)


def _copy(meta: object) -> object:
    """Return a shallow copy; of what cannot be copied, such as a lock, the thing itself."""
    try:
        return copy.copy(meta)
    except Exception:  # noqa: BLE001  # a copy method of the program's may raise anything
        return meta


def _check_positive(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, must be a positive int")
