"""One connection to a server: what a transport of asyncio calls, with the core behind it.

Packets of one turn of the loop leave together, and a turn is short: what comes after so many
messages waits for the next one, and nothing is read meanwhile. Nor is anything read while much of
what the server has sent waits for the program's coroutines, unless one of these waits for an
answer itself. So no server can keep the loop to itself, or fill the memory.

The program's code is not called from here, but for its callbacks, by `callbacks.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from eventmux.events import MaybeNone
from rpcasync._log import log
from rpcasync.awaiting.callbacks import Callback, Holder
from rpcasync.awaiting.encryption import reason_of
from rpcasync.awaiting.processes import ProcessEnd
from rpcasync.calls import Reply, remote_error
from rpcasync.errors import ArgumentError, CallTimeout, Disconnected, ProtocolError, never_sent
from rpcasync.inbox import FEW, MOST_MESSAGES, MOST_SECONDS
from rpcasync.loss import BY_SERVER, GRACE, MOMENT, crashed_procedure, why_lost
from rpcasync.wire.messages import Failure, Invoke, Result, crash_text
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["MOST_BYTES", "Connection", "Pending"]

_READ_SIZE = 65_536  # asyncio's own is larger: the C library would map and unmap it at each read
_HIGH_WATER = 262_144  # bytes that wait to leave, until calls wait
_MOST_PACKETS = 32  # of one write: so the server begins with the first while we make others
MOST_BYTES = 65_536
_AT_ONCE = 16  # calls that are let go on when there is room again, before it is looked anew

_MOST_HELD = 1_048_576  # bytes that wait for coroutines of the program's, until nothing is read
_MOST_EVER_HELD = 67_108_864  # while these wait for answers: then the server is given up
_OVERHEAD = 1000  # of each call that waits


class Pending:
    """A call: its answer, the name of the procedure, and the functions passed with it."""

    __slots__ = ("answer", "callbacks", "id", "procedure", "timeout")

    def __init__(self, answer: asyncio.Future[Reply], procedure: str) -> None:
        self.answer = answer
        self.procedure = procedure
        self.callbacks: list[Callback] | tuple[()] = ()
        self.id = -1
        self.timeout: float | None = None

    def stop(self) -> None:
        """Run its functions no more."""
        for callback in self.callbacks:
            callback.stop()


class Connection(asyncio.BufferedProtocol):
    """A connection.

    Args:
        loop: the one that runs.
        protocol: the core.
        name: the server, for messages.
        timeout: seconds until a call fails that is not answered; None is never.
        sock: the socket, if it is ours; it has the `process` of a server that was started for it.
    """

    front: type = object
    """The class that the program calls, which may have a method like a procedure's name."""

    _high_water = _HIGH_WATER

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: ClientProtocol,
        name: str,
        timeout: float | None,
        sock: socket.socket | None,
    ) -> None:
        self.loop = loop
        self.name = name
        self.timeout = timeout
        self.timeouts: dict[str, float | None] = {}
        """Those of single procedures."""
        self.sock = sock
        self.pending = protocol.pending
        self.workers: dict[asyncio.Task[None], Callback] = {}
        """Tasks that run callbacks, and which."""
        self.is_full = False
        """Too much waits to leave: a call has to wait for `room()`."""
        self.crowd: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        """Calls that wait for room already, oldest first."""
        self.is_lost = False
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the transport has ended."""
        self.ending: ProcessEnd | None = None
        self.reason = ""
        self._protocol = protocol
        self._buffer = memoryview(bytearray(_READ_SIZE))
        self._outgoing: list[bytes] = []
        self._size = 0  # of what is in there
        self._is_batching = False
        self._alarm: asyncio.TimerHandle | None = None
        self._is_cut = False  # a turn was, and another one comes
        self._held = 0  # bytes that wait for runs of callbacks
        self._inside = 0  # calls of callbacks that wait for answers
        self._is_paused = False
        self._is_over = False  # nothing can be sent any more
        self._is_leaving = False  # by our own doing
        self._is_told = False  # those who wait know that it has ended
        self._call: Pending | None = None  # that is being made
        self._crash = "", 0  # the last procedure that failed, and the id of the next call then

    @property
    def process(self) -> subprocess.Popen[bytes] | MaybeNone:
        """The process of a server that was started for this connection."""
        return getattr(self.sock, "process", None)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(self._high_water)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the transport's
        """Return where the next bytes are to be put."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes."""
        self._protocol.feed(bytes(self._buffer[:nbytes]))
        if not self._is_cut:
            self._take()

    def eof_received(self) -> None:
        """Note that the server sends no more: the transport closes, when all has left."""
        self.reason = self.reason or BY_SERVER
        self._is_over = True
        if self._transport.get_write_buffer_size():
            self.loop.call_later(GRACE, self.abort)

    def pause_writing(self) -> None:
        """Have calls wait."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Have calls go on."""
        self.is_full = False
        self._admit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all calls; those of a server that is a process perhaps in a moment."""
        if exc is not None and not self.reason:
            self.reason = reason_of(exc)
        self.reason = self.reason or BY_SERVER
        self._take(is_last=True)
        self.is_lost = self._is_over = True
        self._outgoing.clear()
        process = self.process
        if process is not None and process.poll() is None:
            self._end_process(process, GRACE)
        if self.ending is None or self._is_leaving or not self.pending:
            self._fail_all()
        else:
            self.ending.task.add_done_callback(lambda _: self._fail_all())
            self.loop.call_later(MOMENT, self._fail_all)
        self._admit()
        if not self.ended.done():
            self.ended.set_result(None)

    # Calls

    def put(self, call: Pending, values: list[object]) -> None:
        """Make a call, which has its id then.

        Raises:
            EncodeError: an argument cannot be sent.
            ArgumentError: a callback can take no values at all.
            Disconnected: the connection has ended.
        """
        if self._is_over:
            raise never_sent(f"{call.procedure}: {self.name}: {self.reason}")
        self._call = call
        try:
            call.id, packet = self._protocol.call(call.procedure, values, call, self._keep)
        finally:
            self._call = None  # it has its answer in the end, which may be large
        if self._is_batching:
            self._outgoing.append(packet)
            self._size += len(packet)
            if len(self._outgoing) >= _MOST_PACKETS or self._size >= MOST_BYTES:
                self._flush()
        elif len(self.pending) == 1:  # nobody whom it could leave with
            self._transport.write(packet)
        else:
            self._outgoing.append(packet)
            self._size = len(packet)
            self._is_batching = True
            self.loop.call_soon(self._end_batch)
        if self.timeout is not None or self.timeouts:
            self._give_time(call)

    def timeout_of(self, procedure: str) -> float | None:
        """Return the seconds that calls of a procedure have; None is for ever."""
        return self.timeouts.get(procedure, self.timeout)

    def _give_time(self, call: Pending) -> None:
        call.timeout = self.timeout_of(call.procedure)
        if call.timeout is None:
            return
        due = self.loop.time() + call.timeout
        self._protocol.set_deadline(call.id, due)
        if self._alarm is None or due < self._alarm.when():
            self._set_alarm(due)

    def _set_alarm(self, due: float) -> None:
        """Have calls expire at a time, and at no other."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self.loop.call_at(due, self._expire)

    def _keep(self, function: Callable[..., object]) -> Callback:
        """Return what stands for a function among the arguments."""
        call = cast("Pending", self._call)
        try:
            callback = Callback(self._holder(), function, call.answer)
        except ArgumentError as error:
            raise ArgumentError(f"{call.procedure}: callback {function!r} {error}") from None
        call.callbacks = [*call.callbacks, callback]
        return callback

    def _holder(self) -> Holder:
        """Return where is counted what waits for functions."""
        return self

    def _end_batch(self) -> None:
        self._is_batching = False
        self._flush()

    def _flush(self) -> None:
        packets, self._outgoing, self._size = self._outgoing, [], 0
        if packets and not self._transport.is_closing():
            self._transport.write(packets[0] if len(packets) == 1 else b"".join(packets))

    async def room(self) -> None:
        """Wait until a call can leave, or the connection has ended."""
        waiter = None
        while (self.is_full or (waiter is None and self.crowd)) and not self.is_lost:
            waiter = self.loop.create_future()
            self.crowd[waiter] = None
            try:
                await waiter
            finally:  # it may have been cancelled, and the server may never read
                self.crowd.pop(waiter, None)

    def _admit(self) -> None:
        """Let some of the calls that wait go on, if there is still room; the others later."""
        count = len(self.crowd) if self.is_lost else min(_AT_ONCE, len(self.crowd))
        if self.is_full and not self.is_lost:
            return
        for _ in range(count):
            waiter, _ = self.crowd.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
        if self.crowd:
            self.loop.call_soon(self._admit)

    def give_up(self, call: Pending) -> None:
        """Wait for an answer no more, if it has not come."""
        if self.pending.get(call.id) is call:
            self._protocol.abandon(call.id)
            call.stop()

    def _expire(self) -> None:
        """Fail the calls whose time is over."""
        protocol, now = self._protocol, self.loop.time()
        while (call := cast("Pending | None", protocol.next_expired(now))) is not None:
            text = f"{call.procedure}: no answer within {call.timeout} seconds"
            self._fail(call, CallTimeout(text + self.why_late()))
        due = protocol.next_deadline()
        self._alarm = None if due is None else self.loop.call_at(due, self._expire)

    def why_late(self) -> str:
        """Return what is to be said of a call that was not answered in time, behind that."""
        return ""

    def _fail(self, call: Pending, error: Exception) -> None:
        """Fail a pending call."""
        self.give_up(call)
        if not call.answer.done():
            call.answer.set_exception(error)

    # What the server has sent

    def _take(self, *, is_last: bool = False) -> None:
        """Hand over what has come, for as long as a turn may last.

        Args:
            is_last: hand over all of it, as there will be no other turn.
        """
        protocol, now = self._protocol, self.loop.time
        peek, drop = protocol.peek, protocol.drop
        end = now() + MOST_SECONDS
        self._is_cut = False
        try:
            for count in itertools.count() if is_last else MOST_MESSAGES:
                message = peek()
                if message is None:
                    break
                kind, token, detail = message
                size = len(protocol.framing.frames[-1]) if kind is Invoke else 0
                drop()
                if kind is Result:
                    answer = token.answer
                    for callback in token.callbacks:
                        callback.answered()
                    if not answer.done():
                        answer.set_result(Reply(detail))
                    if count & FEW and count > FEW:
                        continue
                elif kind is Failure:
                    if detail == crash_text(token.procedure):
                        self._crash = token.procedure, protocol.next_id
                    if not token.answer.done():
                        error = remote_error(detail, token.procedure, self.front)
                        token.answer.set_exception(error)
                elif kind is Invoke:
                    token.invoke(detail, size + _OVERHEAD, protocol.peeked_origin())
                if now() >= end and not is_last:
                    self._is_cut = protocol.has_more
                    break
            else:
                self._is_cut = protocol.has_more
        except ProtocolError as error:
            self._break_off(error)
        if self._is_cut:
            self.loop.call_soon(self._take_rest)
        self._see_reading()

    def _take_rest(self) -> None:
        if self._is_cut:
            self._take()

    def hold(self, size: int) -> None:
        """Count bytes that wait for runs of callbacks."""
        self._held += size
        if self._held > _MOST_EVER_HELD:
            text = f"{self._held} bytes wait for callbacks, limit is {_MOST_EVER_HELD}"
            self._break_off(ProtocolError(text))
        self._see_reading()

    def enter(self, change: int) -> None:
        """Note that a callback waits for an answer, or no longer: until then all is read."""
        self._inside += change
        self._see_reading()

    def _see_reading(self) -> None:
        """Read, or do not."""
        paused = self._is_cut or (self._held > _MOST_HELD and not self._inside)
        if paused != self._is_paused and not self._transport.is_closing():
            self._is_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # The end

    def _break_off(self, error: ProtocolError) -> None:
        """Disconnect from a server that broke the rules of the protocol."""
        if not self._is_leaving and not self.is_lost:
            self.reason = str(error)
            self._is_leaving = self._is_over = True
            log.error("%s: %s", self.name, error)
            self._transport.abort()

    def _fail_all(self) -> None:
        """Fail all pending calls, once."""
        if self._is_told:
            return
        self._is_told = True
        status, crashed = None, ""
        if not self._is_leaving:  # it ended by itself
            status = None if self.process is None else self.process.returncode
            crashed = crashed_procedure(self._crash, self.reason, self._protocol)
        self.reason = why_lost(self.reason, crashed, status)
        error = f"{self.name}: {self.reason}"
        for call in cast("list[Pending]", self._protocol.connection_lost()):
            failure = Disconnected(f"{call.procedure}: {error}")
            failure.may_have_run = self._may_have_run(call)
            self._fail(call, failure)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _may_have_run(self, call: Pending) -> bool:  # noqa: ARG002  # others know more
        """Return False if it is known that not all of a call has left."""
        return True

    def leave(self, grace: float) -> None:
        """Send what was put off, and have the transport and the process end."""
        if not self._is_leaving and not self.is_lost:
            self._flush()
            self.reason = self.reason or "disconnected"
            self._transport.close()
        self._is_leaving = self._is_over = True
        if self.is_lost:
            self._fail_all()
        process = self.process
        if self.ending is not None:
            self.ending.hurry(grace)
        elif process is not None and process.returncode is None:
            self._end_process(process, grace)

    def abort(self) -> None:
        """Drop what has not left, if the transport has not ended: asyncio's own cannot stand it."""
        if not self.is_lost:
            self._transport.abort()

    def drop(self) -> None:
        """Leave without a wait: nobody has the client any more."""
        self.leave(0.0)
        self.abort()

    def _end_process(self, process: subprocess.Popen[bytes], grace: float) -> None:
        if self.ending is not None:
            return
        sock = cast("socket.socket", self.sock)
        try:
            self.ending = ProcessEnd(self.loop, process, self.name, grace, sock)
        except (OSError, RuntimeError, ValueError) as error:  # out of descriptors, for example
            log.warning("%s: process %d is not waited for: %s", self.name, process.pid, error)
