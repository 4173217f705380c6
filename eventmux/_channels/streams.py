"""Streams of bytes: connected sockets, pipes, terminals and files.

The life of a stream, and the events on the way:

    connecting --Ready--> open --Closing--> closing --(queue empty)--> ended: Closed
    accepted -----------/

What is only open for reading or only for writing is a `Source` or a `Sink`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Sequence
from itertools import starmap
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, ClassVar, cast

from eventmux import sockets, tcp
from eventmux._channels.channel import (
    ENDED,
    THROTTLED,
    Outlet,
    as_bytes,
    reason_of,
)
from eventmux._channels.descriptors import Descriptor
from eventmux._channels.files import FilePart, FileSender
from eventmux._channels.intake import Intake
from eventmux._channels.lingering import (
    LINGER,
    Lingering,
    discard,
    has_unread,
    unacknowledged,
)
from eventmux._channels.options import ChannelOptions
from eventmux._channels.passing import KeptFds, Parcel, Passing
from eventmux._channels.ports import SEND_FLAGS, Port
from eventmux._waiting.pollable import HANGUP, HELD
from eventmux.errors import EventMuxError, FileError
from eventmux.events import Address, Closed, Error, Handle, ReadLast, Ready, Sent

__all__ = ["Sink", "Source", "Stream"]

_WRITE_SIZE = 128 * 1024  # small chunks are joined up to this size for one send
_WRITES_PER_TURN = 16  # so that one fast reader does not keep the loop to itself
_HARDLY_CUT = 4096  # bytes: such a piece is sent whole or not at all, nearly always
# What is put off piece by piece leaves as soon as so much has come together: more in one write
# saves nothing, and the peer can get to work while the program here goes on.
_ENOUGH_PIECES = 32
_ENOUGH_BYTES = 64 * 1024
_UNIX = getattr(socket, "AF_UNIX", None)
_SMALL = 1024  # bytes of a piece that is put to the next, lest each byte that waits costs 40

Piece = bytes | memoryview | FilePart


class Stream(Intake):
    """A connected socket, or one that is about to be."""

    most_queued: ClassVar[int] = 64 * 1024 * 1024
    __slots__ = (
        "_is_direct",
        "_is_quiet",
        "_out",
        "_ready",
        "_send",
        "_takes_output",
        "connecting",
    )

    def __init__(
        self,
        fh: Handle,
        port: Port,
        outlet: Outlet,
        options: ChannelOptions,
        meta: object,
        *,
        ready: bool,
    ) -> None:
        super().__init__(fh, port, outlet, options, meta)
        self._tune()
        self._ready = ready  # it could be written to, and `Ready` was told
        self.connecting = not ready and not isinstance(port, Descriptor)
        """True while it may have no peer yet: then it is not read from."""
        self._takes_output = True
        self._out: list[Piece] = []
        self._is_quiet = False  # `Sent` tells nothing new if all that was put off leaves at once
        self._is_direct = ready and self._can_be_direct()
        self._send: Callable[[Any, int], int] = port.send

    def _tune(self) -> None:
        port, options = self.port, self.options
        if isinstance(port, Descriptor):
            return
        changes = tcp.tune(port, nodelay=options.nodelay, keepalive=options.keepalive)
        if changes or self._extras.tuned:  # else it was accepted, and has it from its listener
            self._own_extras().tuned = changes

    def release(self) -> None:
        """Give the handle back as it was."""
        if self._extras.tuned:
            tcp.restore(cast("socket.socket", self.port), self._extras.tuned)
        super().release()

    def _can_be_direct(self) -> bool:
        """True if bytes may be sent with nothing to ask for once the stream is up."""
        options, port = self.options, self.port
        return (
            self.kind == "stream"  # packets are counted in another way
            and not isinstance(options.max_outbuffer, int)  # the usual one is met in send()
            and not options.manual_write
            and not (isinstance(port, Descriptor) and not port.can_write)
        )

    @property
    def wanted(self) -> int:
        """The readiness to wait for; until `Ready`, that it can be written to as well.

        What can be read is read before, but for a socket that is still connecting.
        """
        if self._ready and not self.closing and not self.muted:  # first: it is asked most often
            return EVENT_READ | EVENT_WRITE if self.unsent else EVENT_READ
        if self.dialing:
            return 0
        lingering = self._extras.lingering
        if lingering is not None:
            return EVENT_READ if not lingering.is_over and not self.muted & HELD else 0
        write = EVENT_WRITE if self.unsent or not (self._ready or self.closing) else 0
        if self.closing:
            return write | EVENT_READ if write and self._is_in_the_way() else write
        if self.muted & ENDED:
            return write or HANGUP  # it is readable for ever
        return write if self.muted or self.connecting else write | EVENT_READ

    @property
    def is_up(self) -> bool:
        """False while a connection is being made."""
        return not self.dialing and not self.connecting

    def connected(self) -> None:
        """Note that the connection is up, by another descriptor."""
        self.transplanted()
        self._tune()
        self.dialing = False
        self._get_ready()
        self.flush()

    # Output

    def send(self, data: tuple[bytes, ...], later: bool, receiver: Address | None = None) -> bool:
        """Take bytes to be sent, and send what the kernel takes; or put that off.

        Two short cuts come first, for a single piece of bytes: it is put behind what was put off,
        or goes past an empty queue. They do what the rest would do, with less.
        """
        if self._is_direct and len(data) == 1:
            piece = data[0]
            if type(piece) is bytes and piece:
                if not later:
                    if not self.unsent:
                        return self._send_past(piece)
                elif self.unflushed or not self.unsent:
                    out = self._out
                    if not out:
                        self._is_quiet = True
                    self.unsent = unsent = self.unsent + len(piece)
                    out.append(piece)
                    if len(out) >= _ENOUGH_PIECES or unsent >= _ENOUGH_BYTES:
                        self._flush_early()
                        return True
                    if not self.unflushed:
                        self.unflushed = True
                        self._outlet.put_off(self)
                    return False
        self._is_quiet = later and (self._is_quiet or not self.unsent)
        return super().send(data, later, receiver)

    def _send_past(self, piece: bytes) -> bool:
        """Send bytes past the empty queue, and queue what is left."""
        event, size = Sent(self.fh), len(piece)
        try:
            if size < _HARDLY_CUT:
                sent = self._send(piece, SEND_FLAGS)
            else:
                [sent] = starmap(self._send, ((piece, SEND_FLAGS),))  # see _send_once()
        except BlockingIOError:
            sent = 0
        except OSError:
            self._is_quiet = False
            return super().send((piece,), False)  # which meets it again, and deals with it
        if sent == size:
            self.quiet = 0
            self._emit(event)
            return False
        if sent:
            self.quiet = 0
        self._is_quiet = self.unflushed = False  # from here on it waits for the kernel
        self.unsent = size - sent
        self._out += [piece[sent:]]
        self._throttle()
        return True

    def queue(self, data: tuple[bytes, ...], receiver: Address | None = None) -> None:
        """Put bytes in the output queue, unless the stream failed or was closed by our side."""
        chunks = [chunk if type(chunk) is bytes else _as_piece(chunk) for chunk in data]
        if receiver is not None:
            raise TypeError(f"cannot send on {self.fh!r} to an address: it is a stream")
        if self._takes_output:
            self._append(chunks)
            self._throttle()
        elif self._extras.is_ending and any(chunks):
            raise ValueError(f"cannot send on {self.fh!r}: shutdown() has ended our side")

    def send_fds(self, data: bytes, fds: KeptFds, receiver: Address | None = None) -> bool:
        """Send bytes as `send()` does, and descriptors along with the first of them."""
        extras = self._own_extras()
        if extras.passing is None:
            extras.passing = Passing(cast("socket.socket", self.port))
            send = self._send_by(extras.passing)
            if type(self._send) is FileSender:
                self._send.send = send
            else:
                self._send = send
        passing = extras.passing
        parcel = Parcel(passing.sent + self.unsent, len(data), fds)
        try:
            passing.put(parcel)
            return self.send((data,), False, receiver)
        finally:
            if passing.sent + self.unsent == parcel.position:  # it was refused, or interrupted
                passing.take_back(parcel)

    def _send_by(self, passing: Passing) -> Callable[[bytes | memoryview, int], int]:
        """Return what stands in for the `send()` of the socket."""
        return passing.send

    def _throttle(self) -> None:
        """Read no more while too much is queued."""
        high_water = self.options.high_water
        if high_water is not None and self.unsent > high_water:
            self.muted |= THROTTLED

    def send_file(self, part: FilePart) -> bool:
        """Do what `send()` does, with a part of a file in the place of bytes."""
        if type(self._send) is not FileSender:
            self._send = FileSender(self.port, self._send)
        return self.send((cast("bytes", part),), False)

    def _append(self, chunks: Sequence[bytes | FilePart]) -> None:
        out = self._out
        for chunk in chunks:
            size = len(chunk)
            if not size:
                continue
            last = out[-1] if size < _SMALL and self.unsent > _ENOUGH_BYTES and out else None
            # Nothing is called from when it is in the queue until it is counted.
            if type(last) is bytes and type(chunk) is bytes and len(last) < _SMALL:
                out[-1] = last + chunk
            else:
                out += [chunk]
            self.unsent += size

    def _longest_piece(self) -> int:
        """Return the length of the piece that is being sent, which may have a head in front."""
        return max(map(len, self._out[:8]))

    def _has_enough(self) -> bool:
        """True if what was put off need not wait for more. Before the stream is up, it has to."""
        return self._ready and (len(self._out) >= _ENOUGH_PIECES or self.unsent >= _ENOUGH_BYTES)

    def _put_off(self) -> None:
        """What is queued before the stream is up leaves when it is; there is no need to ask."""
        if self._ready:
            super()._put_off()

    def flush(self) -> None:
        """Send what the kernel takes, and emit `Sent` if that was all."""
        if not self.unsent or self.dialing:
            if self._extras.is_ending and self._ready:
                self._end_output()
            self.unflushed = False
            return
        event = None if self._is_quiet else Sent(self.fh)
        for _ in range(_WRITES_PER_TURN):
            if not self._send_once():
                break
            if not self.unsent:
                self.muted &= ~THROTTLED
                # Also behind `Closing`, if it was the peer that closed; never behind `Closed`.
                if not self._takes_output:
                    self._end_output_behind(event)
                elif event is not None and self.closed is None:
                    self._emit(event)
                if self.closing:
                    self._end_if_drained()
                self.unflushed = False
                return
        self._is_quiet = False  # the program may wait for `Sent`, now that we wait
        self._throttle()
        # Last: should this be interrupted, it is done again. So is what comes behind the rest.
        self.unflushed = self._extras.is_ending

    def _send_once(self) -> bool:
        """Send one piece; False if the kernel did not take all of it.

        A signal handler may raise as soon as a call returns: then it would not be known how much
        was sent, and it would be sent twice. By `starmap()` it is C code that calls.
        """
        if self.connecting and (refusal := self._own_peer_error()) is not None:
            self.fail(refusal)
            return False
        out = self._out
        try:
            data = out[0] if len(out) == 1 else self._join()
            size = len(data)
            if size > _WRITE_SIZE and type(data) is not FilePart:  # a slice of it is no copy
                data = out[0] = memoryview(cast("bytes", data))
            [sent] = starmap(self._send, ((data, SEND_FLAGS),))
        except BlockingIOError:
            return False
        except MemoryError:
            self.fail(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
            return False
        except FileError as error:
            self.fail(error)
            return False
        except OSError as error:
            if self._ready or error.errno != errno.ENOTCONN:  # else it is still connecting
                self._fail_to_send(error)
            return False
        self.unsent -= sent
        self.quiet = 0
        if sent == size:
            del out[0]
        elif data.__class__ is not FilePart:  # which knows itself what was sent of it
            out[0] = cast("bytes", data)[sent:]
        if not self._ready:
            self._get_ready()
        return sent == size

    def _join(self) -> Piece:
        """Join the chunks at the front of the queue, so that one send takes them."""
        if type(self._send) is FileSender:
            return self._join_up_to_file()
        out = cast("list[bytes | memoryview]", self._out)
        if self.unsent <= _WRITE_SIZE:
            out[:] = [b"".join(out)]
            return out[0]
        count = size = 0
        for chunk in out:
            count += 1
            size += len(chunk)
            if size >= _WRITE_SIZE:
                break
        if count > 1:
            out[:count] = [b"".join(out[:count])]
        return out[0]

    def _join_up_to_file(self) -> Piece:
        """Join what is in front of the next part of a file; if that is in front, return it."""
        out = self._out
        front: list[bytes | memoryview] = []
        size = 0
        for piece in out:
            if type(piece) is FilePart or size >= _WRITE_SIZE:
                break
            front.append(cast("bytes", piece))
            size += len(piece)
        if len(front) > 1:
            out[: len(front)] = [b"".join(front)]
        return out[0]

    def _fail_to_send(self, error: OSError) -> None:
        """Nothing can be sent any more. What the peer sent before it left is still to be read."""
        if self.connecting and error.errno != errno.EPIPE:  # that one says it was up before
            self.fail(error)
            return
        if not self._ready:
            self._get_ready()
        self.reason = reason_of(error)
        self._drop_output()
        if self.closing:  # it was draining: `Closed` carries the reason
            self._end_if_drained()
            return
        self._emit(Error(self.fh, self.reason, error.errno, error))
        if self.muted & ENDED:  # all of that was read
            self._begin_to_close()

    def _drop_output(self) -> None:
        self._takes_output = self._is_direct = False
        self.muted &= ~THROTTLED
        self._out.clear()
        if self._extras.passing is not None:
            self._extras.passing.drop()
        self._lost, self.unsent = self._lost + self.unsent, 0

    def writable(self) -> bool | None:
        """The stream is up, if it was not before; send what is queued.

        Returns:
            True if it was not: nothing is read before the program has heard of it, if it can be.
        """
        is_new = not self._ready
        if is_new:
            error = self._connect_error()
            if error is not None:
                self.fail(error)
                return True
            self._get_ready()
        self.flush()
        return is_new

    def _connect_error(self) -> OSError | None:
        port = self.port
        return None if isinstance(port, Descriptor) else sockets.connect_error(port)

    def _own_peer_error(self) -> OSError | None:
        port = self.port
        return None if isinstance(port, Descriptor) else sockets.own_peer_error(port)

    def _get_ready(self) -> None:
        """Tell the program that the stream is up; wherever a signal handler raises, once."""
        event = Ready(self.fh)
        is_direct = self._takes_output and not self.closing and self._can_be_direct()
        told = None
        if not self.closing:
            [told] = map(self._emit, (event,))
        self._ready, self.connecting = told is None, False  # no call in between
        self._is_direct, self.quiet = is_direct, 0

    def _say(self, reply: bytes) -> None:
        """Send what the buffer has to say, if that is not in the midst of something."""
        if self._takes_output and not (self.unsent or self.closing or self.options.manual_write):
            self.send((reply,), True)

    # The end

    def close(self) -> None:
        """Stop taking anything in and emit `Closing`; what is queued is sent first."""
        extras = self._own_extras()
        self._takes_output = extras.is_ending = False
        extras.is_let_go = True
        self._begin_to_close()

    def shutdown(self) -> None:
        """Take no more output, and end our side once what is queued has left; reading goes on.

        If the peer has ended its side already, that is the end.

        Raises:
            TypeError: it has no two sides.
        """
        if isinstance(self.port, Descriptor):
            raise TypeError(f"cannot end one side of {self.fh!r}: it is no socket")
        if self.closing or not self._takes_output:
            return
        extras = self._own_extras()
        self.unflushed = True  # first: should the rest be interrupted, the mux flushes it
        extras.is_ending, self._takes_output, self._is_direct = True, False, False
        if self.muted & ENDED:
            self._begin_to_close()
        else:
            self.flush()

    def _end_output_behind(self, event: Sent | None) -> None:
        """All has left; our side ends if that is what was waited for."""
        if self._extras.is_ending:
            if event is not None and self.closed is None:
                self._emit(event)
            self._end_output()

    def _end_output(self) -> None:
        """Tell the peer that nothing more comes; it may be called again."""
        if not self.is_lost():
            with contextlib.suppress(OSError):  # the peer has gone, as will be noticed
                cast("socket.socket", self.port).shutdown(socket.SHUT_WR)

    def _may_go_on(self) -> bool:
        """True if the peer, which has finished sending, may still be written to.

        Not if our side has ended as well, or is about to, nor if it is known that nobody reads: a
        UNIX socket tells that its peer is closed, and one of TCP that it was reset.
        """
        return self._takes_output and not sockets.has_gone(cast("socket.socket", self.port))

    def hung_up(self) -> None:
        """Nothing can reach the peer any more, which had finished sending before."""
        if self.closing:
            return
        error = sockets.pending_error(cast("socket.socket", self.port))
        if error is None:
            self._begin_to_close()
        else:
            self.fail(error)

    def _open_again(self) -> None:
        super()._open_again()
        self._is_direct = self._ready and self._takes_output and self._can_be_direct()

    def _begin_to_close(self) -> None:
        self._is_direct = False
        super()._begin_to_close()

    def fail(self, error: OSError | EventMuxError) -> None:
        """The stream is broken: say why, give out what is left, and close it. Nothing is sent."""
        known = not self._takes_output and self.reason is not None  # it failed to send before
        self.reason = self.reason if known else reason_of(error)
        self._drop_output()
        if self.closing:  # it was draining: `Closed` carries the reason
            self._end_if_drained()
            return
        if not known:
            number = error.errno if isinstance(error, OSError) else None
            self._emit(Error(self.fh, self.reason or "", number, error))
        buffer = None if self.muted & ENDED else self._buffer
        for data in buffer.read_last() if buffer is not None else []:
            self._emit(ReadLast(self.fh, data))
        self._begin_to_close()

    def silence(self) -> None:
        """Emit nothing any more, and close what was to go along with bytes."""
        super().silence()
        if self._extras.passing is not None:
            self._extras.passing.drop()

    def left_to_send(self) -> int:
        """Return what becomes less as the peer reads; the kernel may hold megabytes."""
        if isinstance(self.port, Descriptor) or self.kind != "stream":
            return self.unsent
        return self.unsent + unacknowledged(self.port)

    def linger(self) -> bool:
        """Let the peer read the last words; True if that takes time, and `Closed` comes extras."""
        port = self.port
        if isinstance(port, Descriptor) or self._extras.lingering or not self._can_linger():
            return False
        is_unread, is_unix = has_unread(port), port.family == _UNIX
        if is_unread is None or not (is_unread or (self._is_in_the_middle() and not is_unix)):
            return False  # what a UNIX socket gets later does no harm to what it has sent
        if is_unix and not unacknowledged(port):  # the peer has read all there is
            discard(port)
            return False
        self._takes_output = False
        extras = self._own_extras()
        lingering = Lingering(port, self.closed)
        extras.lingering, self.closed = lingering, None  # nothing comes in between
        self._outlet.see_off(self, LINGER)
        return True

    def has_put_off(self, closed: Closed) -> bool:
        """True if another `Closed` comes in the place of that one."""
        lingering = self._extras.lingering
        return lingering is not None and lingering.put_off is closed

    def _can_linger(self) -> bool:
        is_let_go = self.dialing  # by silence(), which was interrupted behind it
        return self._ready and not self.missing and not is_let_go and not self.is_lost()

    def _is_in_the_way(self) -> bool:
        """True if the peer's input may keep it from reading our last words: it sends first."""
        extras = self._extras
        is_silent = self.connecting or extras.is_heard or self.muted & HELD
        return extras.is_let_go and not is_silent and self.is_socket

    def _hear(self) -> None:
        """Drop what comes behind our last words, or while they leave."""
        lingering = self._extras.lingering
        if lingering is not None and not lingering.is_over:
            lingering.hear()
            if lingering.is_over:
                self._end_if_drained()
        elif lingering is None and self.unsent and self._is_in_the_way():
            _, may_go_on = discard(cast("socket.socket", self.port))
            self._own_extras().is_heard = not may_go_on

    def tell_end(self) -> None:
        """Emit `Closed` if that is what is missing, and not what is waited for."""
        lingering = self._extras.lingering
        if lingering is None or lingering.is_over:
            super().tell_end()
        elif self.closed is None:
            self._outlet.see_off(self, LINGER)  # a second time can only shorten it

    def give_up(self, within: str) -> None:
        """End what is closing as it is: it has had its time."""
        if self._extras.lingering is not None:
            self._extras.lingering.is_over = True
        super().give_up(within)

    def discard(self) -> None:
        """Drop unread input that would have the kernel drop the last words."""
        port = self.port
        if not isinstance(port, Descriptor) and self._can_linger() and unacknowledged(port):
            discard(port)


class Source(Stream):
    """What can only be read from: there is no `Ready`, and nothing can be sent."""

    __slots__ = ()

    def queue(self, data: tuple[bytes, ...], receiver: Address | None = None) -> None:
        """Refuse."""
        del data, receiver
        raise TypeError(f"cannot send on {self.fh!r}: it is open for reading only")

    def shutdown(self) -> None:
        """Refuse."""
        raise TypeError(f"cannot end our side of {self.fh!r}: it is open for reading only")

    def _say(self, reply: bytes) -> None:
        """Have nobody to say it to."""


class Sink(Stream):
    """What can only be written to. A pipe tells by becoming readable that nobody reads it."""

    __slots__ = ()

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        if self.dialing:  # it was let go of
            return 0
        if self.unsent or (not self._ready and not self.closing):
            return EVENT_WRITE
        is_pipe = cast("Descriptor", self.port).is_pipe
        return EVENT_READ if is_pipe and not self.closing and not self.muted else 0

    def shutdown(self) -> None:
        """Close it: there is no other side."""
        self.close()

    def readable(self) -> None:
        """The reader has gone. If something is queued, trying to write it says so."""
        if not self.unsent:
            self._begin_to_close()

    def _fail_to_send(self, error: OSError) -> None:
        super()._fail_to_send(error)
        self._begin_to_close()  # a stream would read on to its end first


def _as_piece(chunk: object) -> bytes | FilePart:
    return chunk if type(chunk) is FilePart else as_bytes(chunk)
