"""What a stream reads, and how it is cut into records.

The records of one read are queued at once. When the buffer is changed at one of them, those behind
it are taken back, with the end if it came behind them, and cut again as they came: which bytes a
buffer gets depends on the records that the program has seen, and not on how they arrived.

This file knows nothing of output, but that a stream whose input has failed may still send.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count, repeat, starmap
from typing import cast

from eventmux._channels.backlog import Backlog
from eventmux._channels.channel import BEHIND, ENDED, WAITING, Channel, Outlet
from eventmux._channels.extras import USUAL_EXTRAS, Extras, Rejected
from eventmux._channels.options import ChannelOptions
from eventmux._channels.ports import RECV_FLAGS, Port
from eventmux.buffers import Batch, Buffer
from eventmux.buffers._rewinding import Rewindable, Rewinding, rewindable
from eventmux.errors import EventMuxError, FramingError
from eventmux.events import (
    Closed,
    Closing,
    Error,
    Event,
    HalfClosed,
    Handle,
    Read,
    ReadLast,
    Records,
)
from eventmux.peers import Peer

__all__ = ["Intake", "records_of"]


# What all streams share, as there may be many thousands.


@cache
def _times(count: int) -> range:
    return range(count)


@cache
def _one_read(size: int) -> tuple[tuple[int, int]]:
    """Return the arguments of `recv()`, for `starmap()`."""
    return ((size, RECV_FLAGS),)


def _emptied(pattern: Buffer | None) -> Rewindable | None:
    """Return an empty buffer of this kind that can take records back; a batch is the stream's."""
    if pattern is None:
        return None
    return rewindable(pattern.buffer if isinstance(pattern, Batch) else pattern)


def records_of(event: Read | ReadLast | Records) -> list[bytes]:
    """Return what an event brings of the stream."""
    return event.records if isinstance(event, Records) else [event.data]


class Intake(Channel):
    """A channel that reads a stream of bytes."""

    __slots__ = (
        "_buffer",
        "_extras",
        "_is_giving",
        "_is_plain",
        "_one_read",
        "_reads",
        "_recv",
        "_taken",
    )

    def __init__(
        self, fh: Handle, port: Port, outlet: Outlet, options: ChannelOptions, meta: object
    ) -> None:
        # First, as it is the program's code: should it raise, nothing of the handle has changed.
        self._buffer = _emptied(options.buffered)
        super().__init__(fh, port, outlet, options, meta)
        self._reads = _times(options.reads_per_turn)  # in one turn
        self._recv = port.recv
        self._one_read = _one_read(options.read_size)
        self._is_giving = False  # in the middle of the records of one read
        self._taken: Sequence[bytes] | None = None  # records that the program was not told of
        self._extras = USUAL_EXTRAS
        if isinstance(options.buffered, Batch):
            self._own_extras().is_batch = True
        self._see_buffer()

    def _see_buffer(self) -> None:
        self._is_plain = self._buffer is None and self.options.meta_handler is None

    def _own_extras(self) -> Extras:
        """Return that of this stream alone, for a change."""
        if self._extras is USUAL_EXTRAS:
            self._extras = Extras()
        return self._extras

    def peer(self) -> Peer:
        """Return who is at the other end."""
        return self._extras.peer or super().peer()

    def introduce(self, peer: Peer) -> None:
        """Note who is at the other end, as the socket itself does not tell."""
        self._own_extras().peer = peer

    def readable(self) -> None:
        """Read once; with a buffer, until a record is complete or there is no more to read."""
        if self.closing:
            self._hear()
            return
        for _ in self._reads:
            event = Read(self.fh)
            # Nothing is called from when the kernel has given it until it is kept: a signal handler
            # may raise as soon as a call returns. Here C code calls.
            try:
                [event.data] = starmap(self._recv, self._one_read)
            except BlockingIOError:
                return
            except OSError as error:
                error.__traceback__ = None  # see `_cut()`
                self._own_extras().end = error
                self.fail(error)
                return
            except MemoryError:  # the other handles are still to be served
                self.fail(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
                return
            self.quiet = 0
            if self._is_plain and event.data:
                self._emit(event)
                return
            data = event.data
            if not data:
                self._end()
                return
            buffer = self._buffer
            if buffer is None:
                self._emit(event)
                self._is_giving = True
                try:
                    self._identify(event)
                finally:
                    self._is_giving = False
                return
            self._taken = ()
            try:
                before = -1
                before = getattr(buffer, "pending", 0)
                backlog = self._extras.backlog
                is_cut = (
                    self._cut(buffer, data) if backlog is None else self._cut_slowly(backlog, data)
                )
            except BaseException:
                self._cut_again(before, data)
                raise
            # A short read has emptied the socket: asking again would only cost a system call.
            if is_cut or len(data) < self.options.read_size:
                return

    def _hear(self) -> None:
        """Deal with input of a handle that is closing."""

    def _cut(self, buffer: Buffer, data: bytes) -> bool:
        """Emit the records that the data completes; False if there were none."""
        failure = None
        try:
            buffer.write(data)
        except EventMuxError as error:
            # It is kept, and would keep this frame and those below, with all that has come, until
            # the next collection of garbage.
            error.__traceback__ = None
            failure = error
        return self._give_out(buffer, failure)

    def _cut_again(self, before: int, data: bytes) -> None:
        """Cut once more what a signal handler has cut off, if the program was not told of it."""
        again = getattr(self._buffer, "again", None)
        if self._taken is None or again is None or self._extras.backlog is not None:
            return
        self._buffer, came = again(before, self._taken, data)
        self._cut(self._buffer, came)

    def _give_out(self, buffer: Buffer, failure: EventMuxError | None) -> bool:
        records = self._taken = buffer.read()
        raised: Exception | None = None
        if self._extras.is_batch:
            raised = self._give_together(records)
        elif self.options.meta_handler is not None:
            self._taken = None  # what comes out of the program's code comes in the midst of it
            raised = self._one_by_one(self._emit_read, records)
        elif not records or self.closing:
            self._taken = None
        elif len(records) == 1:  # as most often; it is queued, and that noted, by C code alone
            [self._taken] = map(self._emit, (Read(self.fh, records[0]),))
        else:
            events = [*map(Read, repeat(self.fh), records)]
            [*_, self._taken] = map(self._emit, events)
        if records and getattr(buffer, "waiting", False):
            self.muted |= WAITING
        if records and type(buffer) is Rewinding:  # it keeps them until settle()
            self._unsettle()
        if failure is not None:
            self._reject(buffer, failure)
            if raised is None and isinstance(failure, FramingError):
                raised = cast("Exception", failure.__cause__)
        elif getattr(buffer, "reply", b""):
            self._say(buffer.take_reply())  # type: ignore[attr-defined]
        if raised is not None:
            raise raised
        return bool(records) or failure is not None

    def _give_together(self, records: list[bytes]) -> Exception | None:
        """Emit one event for all; return the first thing that the program's code raised."""
        if not records or self.closing:
            self._taken = None
            return None
        event = Records(self.fh, records)
        [self._taken] = map(self._emit, (event,))
        handler = self.options.meta_handler
        if handler is None:
            return None
        ids: list[object] = [None] * len(records)
        event.ids = ids
        numbers = count()

        def identify(record: bytes) -> None:
            number = next(numbers)
            ids[number] = handler(self.fh, record, None)

        return self._one_by_one(identify, records)

    def _one_by_one(self, give: Callable[[bytes], None], records: list[bytes]) -> Exception | None:
        """Do it where the program's code has a say; return the first thing that it raised."""
        raised: Exception | None = None
        self._is_giving = True
        try:
            for record in records:
                try:
                    give(record)
                except Exception as error:  # noqa: BLE001  # the program's; the others come first
                    raised = raised or error
        finally:  # also for Ctrl-C
            self._is_giving = False
        return raised

    def _say(self, reply: bytes) -> None:
        """Send what the buffer has to say to the peer."""

    def _give(self, data: bytes) -> None:
        """Emit one `Read`."""
        self._is_giving = True
        try:
            self._emit_read(data)
        finally:
            self._is_giving = False

    # The end of the input

    def _reject(self, buffer: Buffer, failure: EventMuxError) -> None:
        """What has come cannot be cut: read no more. What is sent still leaves."""
        if self.closing:  # the program's code has closed it in the middle of a read
            return
        extras = self._own_extras()
        extras.end = rejected = Rejected(failure, buffer.read_last())
        behind = extras.backlog.rest() if extras.backlog else b""
        text = str(failure)
        self._emit(Error(self.fh, text, None, failure, b"".join([*rejected.rest, behind])))
        if self.reason is None:  # else it failed to send before
            self.reason = text
        self._begin_to_close()

    def _end(self) -> None:
        """The peer has finished sending. It may still read, so queued output is not dropped."""
        self._own_extras().end = True
        buffer = self._buffer
        if buffer is not None:
            is_record = not buffer.returns_last
            last = buffer.read_last()
            if is_record:
                self._give_last(last)
            else:
                for rest in last:
                    self._emit(ReadLast(self.fh, rest))
        if self.options.half_close and self._may_go_on():
            event = HalfClosed(self.fh)
            self.muted |= ENDED  # from here on nothing comes in between
            self._emit(event)
        else:
            self._begin_to_close()

    def _may_go_on(self) -> bool:
        """True if the peer, which has finished sending, may still be written to."""
        return False

    def _give_last(self, records: list[bytes]) -> None:
        """Emit what the end of the stream has completed."""
        if not self._extras.is_batch:
            for record in records:
                self._give(record)
        elif (raised := self._give_together(records)) is not None:
            raise raised

    def _is_in_the_middle(self) -> bool:
        """True if the peer was in the middle of a record, so that more is on its way."""
        buffer = self._buffer
        return isinstance(self._extras.end, Rejected) or bool(
            getattr(buffer, "pending", 0)
            or getattr(buffer, "waiting", False)
            or getattr(buffer, "has_begun", False)
        )

    # Another buffer

    def expect(self, size: int) -> None:
        """Let the buffer give out that many bytes as the next record."""
        expect = getattr(self._buffer, "expect", None)
        if expect is None:
            raise TypeError(f"{self.fh!r} has no buffer that waits for a size")
        if self.closing:  # nothing is given out any more
            return
        failure = None
        try:
            expect(size)
        except EventMuxError as error:
            error.__traceback__ = None  # see `_cut()`
            failure = error
        self.muted &= ~WAITING
        try:
            self._give_out(cast("Buffer", self._buffer), failure)
        finally:  # the program's meta_handler may raise
            self._see_backlog()

    def set_buffer(self, buffered: Buffer | None) -> None:
        """Cut in another way what is behind the last record that was handed out."""
        if self._is_giving:
            raise RuntimeError(f"{self.fh!r} is being read from: set() is for when its Read comes")
        fresh = _emptied(buffered)  # first: it may raise
        events = self._outlet.withdraw(self.fh)
        if (self.closing or self.muted & ENDED) and not self._is_to_come(events):
            for event in events:
                self._emit(event)
            return
        behind = self._take_back(events)
        self._buffer = fresh
        self._see_buffer()
        self.muted &= ~WAITING
        extras = self._own_extras()
        extras.is_batch = isinstance(buffered, Batch)
        if extras.backlog is None:
            extras.backlog = Backlog()
        extras.backlog.put_back(behind)
        self._go_on()

    def _is_to_come(self, events: list[Event]) -> bool:
        """True if the program was not told yet that the input has ended."""
        told_by = HalfClosed if self.muted & ENDED else Closing  # which may come behind that
        if self._extras.is_let_go or not any(type(event) is told_by for event in events):
            return False
        end = self._extras.end
        if isinstance(end, Rejected):
            return any(self._is_about_end(event) for event in events)
        return bool(end)

    def _is_about_end(self, event: Event) -> bool:
        """True for the `Error` that tells why nothing is read any more."""
        end = self._extras.end
        failure = end.failure if isinstance(end, Rejected) else end
        return isinstance(event, Error) and event.exception is failure

    def _take_back(self, events: list[Event]) -> bytes:
        """Take back what was not handed out; return the bytes of the stream, from the first on."""
        buffer, end = self._buffer, self._extras.end
        reads = [event for event in events if isinstance(event, (Read, ReadLast, Records))]
        for event in events:
            is_input = isinstance(event, (Read, ReadLast, Records, HalfClosed, Closing, Closed))
            if not is_input and not self._is_about_end(event):
                self._emit(event)
        if self.closing or self.muted & ENDED:
            self._open_again()
        rest = end.rest if isinstance(end, Rejected) else []
        # If there are more than the buffer knows of, the program has put some back that it had.
        size = sum(map(len, map(records_of, reads)))
        strange = max(0, size - (getattr(buffer, "given", size + len(rest)) - len(rest)))
        records: list[bytes] = []
        for event in reads:
            if strange > 0:
                strange -= len(records_of(event))
                self._emit(event)
            else:
                records += records_of(event)
        return b"".join(records) if buffer is None else buffer.unread(records + rest)

    def _open_again(self) -> None:
        """The end of the input was not told yet, and may come in another way."""
        self.closing, self.closed = False, None
        self.muted &= ~ENDED
        extras = self._own_extras()
        if extras.end is not True:
            self.reason = None
        if isinstance(extras.end, Rejected):
            extras.end = False

    def _cut_slowly(self, backlog: Backlog, data: bytes) -> bool:
        """Do what `_cut()` does, in pieces: the next record may change the buffer again."""
        backlog.put(data)
        return self._go_on()

    def _go_on(self) -> bool:
        """Cut what was read before, until there is a record; False if there was none."""
        backlog = self._extras.backlog
        try:
            while backlog and not self.closing and not self.muted & WAITING:
                if self._buffer is None:
                    self._give(backlog.take_all())
                elif self._cut(self._buffer, backlog.take()):
                    return True
            return False
        finally:  # the program's meta_handler may raise
            self._see_backlog()

    def _see_backlog(self) -> None:
        extras = self._extras
        if self.closing or not extras.backlog:
            self.muted &= ~BEHIND
            if extras.end and not self.closing and not self.muted & (WAITING | ENDED):
                self._end_again(extras.end)
        else:
            self.muted |= BEHIND
            if not self.muted & WAITING:  # else it goes on when the size is known
                self._unsettle()

    def _end_again(self, end: OSError | Rejected | bool) -> None:
        if isinstance(end, OSError):
            self.fail(end)
        else:
            self._end()

    def _unsettle(self) -> None:
        extras = self._own_extras()
        if not extras.is_unsettled:
            extras.is_unsettled = True
            self._outlet.settle(self)

    def settle(self) -> None:
        """All that was cut has been handed out, and will not be taken back: go on."""
        extras = self._extras
        extras.is_unsettled = False
        if type(self._buffer) is Rewinding:
            self._buffer.forget()
        if extras.backlog:
            self._go_on()
