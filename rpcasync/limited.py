"""What leaves to a server that is given only so many calls at a time: the others wait.

Only the packet waits. A call is made when the program makes it: it has its id and can be asked for,
and what cannot be sent is an error at once. It leaves, in order, as those before it end: by an
answer, a timeout, or `cancel()`. One that ends while it waits is never sent.

Ctrl-C may come at any line. What was about to change is noted before, and made good by the next
`go_on()`: a call that may have been sent or not is sent no more, and fails.

This file hands nothing to the program. It is not there unless there is a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eventmux import EventMux
from eventmux.events import Closed, Event, Handle
from rpcasync.calls import Call
from rpcasync.errors import QueueFull
from rpcasync.outbox import NOT_WATCHED, Outbox
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["LimitedOutbox", "Waiting"]


class Waiting:
    """A call that waits: its packet, and the functions that were passed with it."""

    __slots__ = ("call", "callbacks", "end", "packet", "seconds")

    def __init__(self, call: Call, packet: bytes, callbacks: Mapping[Id, object]) -> None:
        self.call = call
        self.packet = packet
        self.callbacks = callbacks
        self.seconds: float | None = None
        """The time that it has from when it is sent; None if that is not known then."""
        self.end = 0
        """Where in all that was sent on its connection its last byte stands, once it is sent."""


class LimitedOutbox(Outbox):
    """What is queued for one server, and what waits until it may be.

    Args:
        mux: what the socket is watched by.
        fh: the socket.
        protocol: the core.
        max_outbuffer: bytes that may be queued or wait when a call is made.
        limit: calls that may be outstanding.
        begin: has the time of a call begin.
    """

    __slots__ = (
        *("_begin", "_is_disturbed", "_limit", "_pending", "_sending", "_size"),
        *("doubtful", "waiting"),
    )

    def __init__(
        self,
        mux: EventMux[Event],
        fh: Handle,
        protocol: ClientProtocol,
        max_outbuffer: int,
        limit: int,
        begin: Callable[[Call, float], None],
    ) -> None:
        super().__init__(mux, fh, protocol, max_outbuffer)
        self._limit = limit
        self._begin = begin
        self._pending = protocol.pending  # it is live
        self._size = 0  # bytes that wait
        self._sending: Id | None = None  # what may have left, and is still among those that wait
        self._is_disturbed = False  # something may have been interrupted half-way
        self.waiting: dict[Id, Waiting] = {}
        """The calls that wait, oldest first."""
        self.doubtful: list[Call] = []
        """Calls that Ctrl-C came upon as they were sent: the client fails them."""

    def put(
        self, call: Call, values: list[object], keep: Callable[[Any], object] | None = None
    ) -> None:
        """Make a call, which has its id then; it leaves, or waits.

        Args:
            call: it is pending then.
            values: what is sent.
            keep: as for `Outbox.put()`.

        Raises:
            EncodeError: an argument cannot be sent.
            QueueFull: too much is queued or waits already.
        """
        before = self._count_callbacks(call)
        call.id, packet = self._protocol.call(call.procedure, values, call, keep)
        self._send_or_wait(call, packet, before)

    def relay(
        self, call: Call, values: list[object], payload: bytes, functions: Mapping[Id, object]
    ) -> None:
        """Make a call that came from another client, as `put()` does."""
        before = self._count_callbacks(call)
        relay = self._protocol.relay
        call.id, packet = relay(call.procedure, values, call, payload, functions)
        self._send_or_wait(call, packet, before)

    def _send_or_wait(self, call: Call, packet: bytes, before: int) -> None:
        """Have a call leave, or wait; `before` is how many functions the server knew without it."""
        if not self.waiting and len(self._pending) <= self._limit:
            self._put(call, packet)
            return
        count = len(self._protocol.callbacks) - before
        callbacks = self._protocol.newest_callbacks(count) if count else {}
        self._is_disturbed = True
        self.waiting[call.id] = Waiting(call, packet, callbacks)
        self._size += len(packet)
        self._is_disturbed = False

    def _count_callbacks(self, call: Call) -> int:
        """Return how many functions the server may call, if there is room for a call."""
        if self._is_disturbed or self._sending is not None:
            self._mend()
        if self._queued + self._size > self._max_outbuffer:
            self._make_room(call)
        return len(self._protocol.callbacks)

    def _make_room(self, call: Call) -> None:
        super()._make_room(call)
        if self._queued + self._size > self._max_outbuffer:
            raise QueueFull(
                f"{call.procedure}: {self._queued + self._size} bytes wait for a server that has"
                f" {self._limit} calls to answer, limit is {self._max_outbuffer}"
            )

    def go_on(self) -> None:
        """Send calls that wait, as far as others have ended."""
        if self._is_disturbed or self._sending is not None:
            self._mend()
        waiting, pending = self.waiting, self._pending
        while waiting and len(pending) - len(waiting) < self._limit:
            id, next_one = next(iter(waiting.items()))  # noqa: A001
            if next_one.seconds is not None:
                self._begin(next_one.call, next_one.seconds)
            self._sending = id
            try:
                self._queued = self._send(self._fh, next_one.packet, later=True)
            except KeyError:  # there will be no event any more that could fail the calls
                self._refuse(waiting)
                waiting.clear()
                self._size = 0
                self._mux.push_event(Closed(self._fh, reason=NOT_WATCHED))
                self._sending = None
                break
            del waiting[id]
            self._size -= len(next_one.packet)
            self._sending = None

    def take_kept(self) -> set[Id]:
        """Return which pending calls are known not to have been given to the mux, and forget it."""
        return super().take_kept() | self.waiting.keys()

    def has_put_off(self, call: Call, seconds: float | None) -> bool:
        """Have the time of a call that waits begin when it is sent; False if it does not wait."""
        found = self.waiting.get(call.id)
        if found is None or found.call is not call:
            return False
        found.seconds = seconds
        return True

    def abandon(self, id: Id) -> None:  # noqa: A002
        """Wait for the answer of a pending call no more; if it has not been sent, it never is."""
        was, self._is_disturbed = self._is_disturbed, True
        self._protocol.abandon(id)
        if id in self.waiting:
            self._forget(id)
        self._is_disturbed = was

    def disturb(self) -> None:
        """Have `go_on()` look at all calls that wait: some may have ended."""
        self._is_disturbed = True

    def _forget(self, id: Id) -> None:  # noqa: A002
        """Let go of a call that waits and has ended, and of what was passed with it."""
        gone = self.waiting[id]
        for callback in gone.callbacks:
            self._protocol.retract(callback)
        del self.waiting[id]
        self._size -= len(gone.packet)

    def _mend(self) -> None:
        """Make good what was interrupted."""
        self._is_disturbed = True
        id = self._sending  # noqa: A001
        if id is not None and id in self.waiting:
            call = self.waiting[id].call
            if call not in self.doubtful:
                self.doubtful.append(call)
            del self.waiting[id]
        self._sending = None
        pending = self._pending
        for at in [at for at, one in self.waiting.items() if pending.get(at) is not one.call]:
            self._forget(at)
        self._size = sum(len(one.packet) for one in self.waiting.values())
        self._is_disturbed = False
