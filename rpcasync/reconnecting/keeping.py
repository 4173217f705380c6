"""What leaves by one of several connections: it can be taken to the next one, as it is.

Each call waits here until the connection is up, and then leaves in order; its packet is kept for
as long as it may have to be sent again. A call keeps its id on the next connection, so its packet
stays the same, whatever the program has done with the arguments since.

Ctrl-C may come at any line: what `LimitedOutbox` says of that holds here. A call that is taken over
is pending in both places for a moment, and removed from the old one last.

This file hands nothing to the program, and decides nothing about connections.
"""

from __future__ import annotations

from collections.abc import Callable

from eventmux import EventMux
from eventmux.events import Closed, Event, Handle
from rpcasync.calls import Call
from rpcasync.errors import QueueFull
from rpcasync.limited import LimitedOutbox, Waiting
from rpcasync.outbox import NOT_WATCHED
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["KeepingOutbox"]

_FEW = 16  # calls that have ended, and may still be noted


class KeepingOutbox(LimitedOutbox):
    """What waits for one connection, and what has left by it.

    Args:
        mux: what the socket is watched by.
        fh: the socket.
        protocol: the core.
        max_outbuffer: as for `LimitedOutbox`.
        limit: as for `LimitedOutbox`, once the connection is up.
        begin: as for `LimitedOutbox`.
        keeps_all: what has left may be sent again, too.
    """

    __slots__ = ("_keeps_all", "_left", "_missing", "_total", "asked", "is_open", "sent")

    def __init__(
        self,
        mux: EventMux[Event],
        fh: Handle,
        protocol: ClientProtocol,
        max_outbuffer: int,
        limit: int,
        begin: Callable[[Call, float], None],
        keeps_all: bool,
    ) -> None:
        super().__init__(mux, fh, protocol, max_outbuffer, limit, begin)
        self._keeps_all = keeps_all
        self._total = 0  # bytes that were given to the mux
        self._left: int | None = None  # of these, the bytes that have left, once it has ended
        self.is_open = False
        """The connection is up: calls leave."""
        self.asked: list[Id] = []
        """Calls of our own, which the limit does not count."""
        self.sent: dict[Id, Waiting] = {}
        """Calls that were given to the mux, oldest first, as far as there may be need for them."""

    def _send_or_wait(self, call: Call, packet: bytes, before: int) -> None:
        count = len(self._protocol.callbacks) - before
        callbacks = self._protocol.newest_callbacks(count) if count else {}
        self._is_disturbed = True
        self.waiting[call.id] = Waiting(call, packet, callbacks)
        self._size += len(packet)
        self._is_disturbed = False
        self.go_on()

    def ask(self, call: Call, values: list[object]) -> None:
        """Make a call of our own, ahead of all that wait.

        Raises:
            EncodeError: it cannot be sent.
        """
        call.id, packet = self._protocol.call(call.procedure, values, call)
        self.asked.append(call.id)
        self._give(packet)

    def _give(self, packet: bytes) -> None:
        """Give a packet to the mux; KeyError if the socket is not watched any more."""
        self._total += len(packet)  # first: too much is no harm, should Ctrl-C come between
        self._queued = self._send(self._fh, packet, later=True)

    def _make_room(self, call: Call) -> None:
        if self.is_open:
            return super()._make_room(call)
        if self._size > self._max_outbuffer:
            raise QueueFull(
                f"{call.procedure}: {self._size} bytes wait for a connection,"
                f" limit is {self._max_outbuffer}"
            )
        return None

    def go_on(self) -> None:
        """Send calls that wait, if the connection is up, as far as others have ended."""
        if self._is_disturbed or self._sending is not None:
            self._mend()
        if self.sent:
            self._forget_sent()
        waiting, pending = self.waiting, self._pending
        if not waiting or not self.is_open:
            return
        limit = self._limit + sum(one in pending for one in self.asked)
        while waiting and len(pending) - len(waiting) < limit:
            id, one = next(iter(waiting.items()))  # noqa: A001
            if one.seconds is not None:
                self._begin(one.call, one.seconds)
            self._sending = id
            one.end = self._total + len(one.packet)
            self.sent[id] = one
            try:
                self._give(one.packet)
            except KeyError:  # there will be no event any more that could tell
                del self.sent[id]
                self._sending = None
                self._mux.push_event(Closed(self._fh, reason=NOT_WATCHED))
                break
            one.seconds = None
            del waiting[id]
            self._size -= len(one.packet)
            self._sending = None

    def has_put_off(self, call: Call, seconds: float | None) -> bool:
        """As in `LimitedOutbox`; the time of a call that waits for a connection begins at once."""
        return self.is_open and super().has_put_off(call, seconds)

    def _forget_sent(self) -> None:
        """Let go of what need not be sent again: calls that have ended, and what has left."""
        sent, pending = self.sent, self._pending
        left = -1 if self._keeps_all else self._total - self._queued
        while sent:
            id = next(iter(sent))  # noqa: A001
            one = sent[id]
            is_needed = pending.get(id) is one.call and one.end > left
            if is_needed or id == self._sending:
                break
            del sent[id]
        if len(sent) > 2 * len(pending) + _FEW:
            self.sent = {id: one for id, one in sent.items() if pending.get(id) is one.call}  # noqa: A001

    # The end of the connection

    def has_ended(self, missing: int) -> None:
        """Note how many bytes were queued and have not left, once."""
        if self._left is None:
            self._left = self._total - missing

    def take_kept(self) -> set[Id]:
        """Return which pending calls are known not to have left, not all of each."""
        left = self._total if self._left is None else self._left
        return {id for id, one in self.sent.items() if one.end > left} | self.waiting.keys()  # noqa: A001

    def to_send_again(self) -> list[Waiting]:
        """Return the calls that have left, and can be sent again, oldest first."""
        left = -1 if self._keeps_all else self._total if self._left is None else self._left
        return [
            one
            for id, one in self.sent.items()  # noqa: A001
            if one.end > left and id not in self.waiting and self._pending.get(id) is one.call
        ]

    def take_over(self, one: Waiting, other: KeepingOutbox) -> None:
        """Have a call wait here that was made for another connection, and not there any more.

        It can be done again, wherever it was interrupted.
        """
        id = one.call.id  # noqa: A001
        is_there = other._pending.get(id) is one.call  # else nobody waits for it any more
        if is_there and self._pending.get(id) is not one.call and not one.call.done:
            self._is_disturbed = True
            self.waiting[id] = one
            self._protocol.adopt(id, other._protocol, one.callbacks)
        other._is_disturbed = True
        other._protocol.disown(id, one.callbacks)

    def close_with(self, grace: float) -> bool:
        """Send all that waits, even if the connection is not up, and close as `close()` does."""
        if self._fh in self._mux.handles():
            self.is_open = True
            self.go_on()
        return self.close(grace)
