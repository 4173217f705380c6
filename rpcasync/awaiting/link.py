"""One of the connections of a client that connects again; or the wait for it.

It begins with a wait, connects, and asks the server to tell before it leaves: the calls that are
made meanwhile leave when that is answered. The transport is given no more than one write at a time,
so that what waits here is known not to have left. A call keeps its packet for as long as it may
have to go by the next link, and its id there.

Which link comes next is the affair of `lasting.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, cast

from rpcasync._log import log
from rpcasync.awaiting.callbacks import Holder
from rpcasync.awaiting.connection import MOST_BYTES, Connection, Pending
from rpcasync.calls import Reply
from rpcasync.errors import CallTimeout, EncodeError, ProtocolError, RemoteError, never_sent
from rpcasync.reconnecting.route import Route
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["Front", "Kept", "Link"]


class Front(Holder, Protocol):
    """What a link needs of the client in front."""

    front: type
    timeout: float | None
    timeouts: dict[str, float | None]
    retry: str | None

    async def open(self, link: Link) -> Connection:
        """Connect."""
        ...

    def follow(self, link: Link) -> Link | None:
        """Return the link that comes after one; None if the program has closed the client."""
        ...

    def heard(self) -> None:
        """Note that a server has answered."""
        ...

    def why_not(self) -> str:
        """Return why calls cannot leave, in words."""
        ...

    def retire(self, link: Link) -> None:
        """Let go of a link."""
        ...

    def stop(self) -> None:
        """Make no more links."""
        ...


class Kept(NamedTuple):
    """A call as it leaves: its packet, and the functions that were passed with it."""

    call: Pending
    packet: bytes
    callbacks: Mapping[Id, object]


class _Goaway:
    """Stands for the function that the server calls before it leaves."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def of(self, function: object) -> _Goaway:
        """Return what stands for a function: this."""
        del function
        return self

    def invoke(self, values: Sequence[object], size: int, origin: str) -> None:
        """Note it: calls go elsewhere."""
        del values, size, origin
        self._link.is_going = True


class Link(Connection):
    """One connection, or the wait for it.

    Args:
        lasting: the client in front.
        protocol: the core.
        route: what is connected to.
        delay: seconds to wait before that.
    """

    _high_water = 1  # byte: what the kernel does not take at once is all that the transport has

    def __init__(
        self, lasting: Front, protocol: ClientProtocol, route: Route, delay: float
    ) -> None:
        super().__init__(lasting.loop, protocol, route.url, lasting.timeout, None)
        self.front = lasting.front
        self.timeouts = lasting.timeouts
        self.workers = lasting.workers
        self.is_going = False
        """The server is about to leave: calls go elsewhere."""
        self.began = self.loop.time()
        """When it came up."""
        self.waiting: dict[Id, Kept] = {}
        """Calls that have not been given to the transport, oldest first."""
        self.patience = route.patience
        self._sent: dict[Id, Kept] = {}  # calls that were, as far as there may be need for them
        self._lasting = lasting
        self._retry = lasting.retry
        self._is_up = False  # there is a transport
        self._is_open = False  # the server has answered: calls leave
        self._is_left = False  # by our own doing
        self._newest: Id = -1  # the call that was given to the transport last
        self._question = Pending(self.loop.create_future(), "goaway")
        self._question.answer.add_done_callback(self._see_answer)
        self._connecting = self.loop.create_task(self._connect(delay))
        self._connecting.add_done_callback(self._see_connected)

    # It comes up

    async def _connect(self, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
            await asyncio.wait_for(self._lasting.open(self), self.patience)
        except asyncio.TimeoutError:
            self.reason = self.reason or f"no connection within {self.patience:g} seconds"
        except OSError as error:
            self.reason = (error.strerror or str(error)).removeprefix(f"{self.name}: ")

    def _see_connected(self, task: asyncio.Task[None]) -> None:
        """Be lost, if there is no connection after all."""
        if task.cancelled():  # by us, or by the end of the loop
            self._lasting.stop()
        if self._is_up and self.reason:
            self.abort()
        elif not self._is_up and not self.is_lost:
            self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the server to tell before it leaves. Whatever it answers, calls leave then."""
        super().connection_made(transport)
        self._is_up, self.began = True, self.loop.time()
        if self._is_left:
            self._transport.abort()
            return
        question, function = self._question, _Goaway(self)
        try:
            call = self._protocol.call
            question.id, packet = call("goaway", [self._see_leaving], question, function.of)
        except EncodeError as error:  # with a codec of the program's own, say
            log.debug("%s: goaway cannot be asked for: %s", self.name, error)
            question.answer.set_result(Reply())
        else:
            question.timeout = self.patience
            self._protocol.set_deadline(question.id, self.began + self.patience)
            self._set_alarm(self.began + self.patience)
            self._transport.write(packet)
        self._see_reading()

    @property
    def has_heard(self) -> bool:
        """The server has answered something."""
        answer = self._question.answer
        if not answer.done() or answer.cancelled():
            return False
        return isinstance(answer.exception(), (RemoteError, type(None)))

    def _see_answer(self, answer: asyncio.Future[Reply]) -> None:
        error = answer.exception()
        if isinstance(error, RemoteError):
            log.debug("%s: it has no goaway: %s", self.name, error)
        if self.has_heard:
            self._is_open = True
            self._lasting.heard()
            self.go_on()
        elif isinstance(error, CallTimeout) and not self._is_over:
            self.reason = f"it has not answered within {self.patience:g} seconds"
            self.abort()

    def why_late(self) -> str:
        """Return what is to be said of a call that was not answered in time, behind that."""
        return "" if self._is_open else f"; {self._lasting.why_not()}"

    @property
    def state(self) -> str:
        """What is waited for before calls leave, in words."""
        what = "has not answered yet" if self._is_up else "is being connected to"
        return f"{self.name} {what}"

    # Calls

    def calls(self) -> list[Pending]:
        """Return the calls of the program's that are not answered."""
        pending = cast("list[Pending]", list(self.pending.values()))
        return [call for call in pending if call is not self._question]

    def put(self, call: Pending, values: list[object]) -> None:
        """Make a call, as `Connection.put()` does; it may leave by another link."""
        if self._is_left or self._is_told:
            raise never_sent(f"{call.procedure}: {self.name}: {self.reason}")
        before = len(self._protocol.callbacks)
        self._call = call
        try:
            call.id, packet = self._protocol.call(call.procedure, values, call, self._keep)
        finally:
            self._call = None
        count = len(self._protocol.callbacks) - before
        callbacks = self._protocol.newest_callbacks(count) if count else {}
        self.waiting[call.id] = Kept(call, packet, callbacks)
        self._give_time(call)
        self.go_on()

    def _holder(self) -> Holder:
        return self._lasting

    def go_on(self) -> None:
        """Have what waits leave at the end of the turn, if it may."""
        if self._is_open and self.waiting and not self._is_batching:
            self._is_batching = True
            self.loop.call_soon(self._end_batch)

    def _flush(self) -> None:
        """Give the transport what waits, a write at a time, while it takes all of it at once."""
        self._forget_sent()
        while self.waiting and self._can_write:
            self._write()

    @property
    def _can_write(self) -> bool:
        is_there = self._is_open and not self._is_over and not self._transport.is_closing()
        return is_there and not self.is_full

    def _write(self) -> None:
        batch: dict[Id, Kept] = {}
        size = 0
        while self.waiting and size < MOST_BYTES:
            self._newest, kept = next(iter(self.waiting.items()))
            batch[self._newest] = self.waiting.pop(self._newest)
            size += len(kept.packet)
        self._transport.write(b"".join(kept.packet for kept in batch.values()))
        if self._transport.is_closing():  # it has failed, and nothing of this has left
            self.waiting = batch | self.waiting
        else:
            self._sent |= batch

    def _forget_sent(self) -> None:
        """Let go of calls that need not be sent again: of most, only the last may have to be."""
        sent, pending = self._sent, self.pending
        keeps_all = self._retry == "idempotent"
        while sent:
            at, kept = next(iter(sent.items()))
            if pending.get(at) is kept.call and (keeps_all or len(sent) == 1):
                break
            del sent[at]
        if len(sent) > 2 * len(pending):
            self._sent = {at: sent[at] for at in sent if pending.get(at) is sent[at].call}

    def resume_writing(self) -> None:
        """Go on: all that the transport had has left."""
        super().resume_writing()
        self.go_on()

    def give_up(self, call: Pending) -> None:
        """Wait for an answer no more; what waits is never sent."""
        super().give_up(call)
        kept = self.waiting.pop(call.id, None)
        if kept is not None:
            for callback in kept.callbacks:
                self._protocol.retract(callback)
        self._see_leaving()

    # The end

    def _take(self, *, is_last: bool = False) -> None:
        super()._take(is_last=is_last)
        if not is_last:
            self._forget_sent()
            self._see_leaving()

    def _see_reading(self) -> None:
        if self._is_up:
            super()._see_reading()

    def _see_leaving(self) -> None:
        """Move on if the server is about to leave, and leave once all is answered here."""
        if not self.is_going or self._is_over:
            return
        heir = self._lasting.follow(self)
        if heir is not None:
            heir.take_over([*self.waiting.values()], self)
            if not self.calls():
                self._is_left = True
                super().leave(0.0)

    def take_over(self, calls: list[Kept], other: Link) -> None:
        """Have calls of another link leave by this one."""
        for kept in calls:
            id = kept.call.id  # noqa: A001
            self._protocol.adopt(id, other._protocol, kept.callbacks)
            self.waiting[id] = kept
            other._protocol.disown(id, kept.callbacks)
            other.waiting.pop(id, None)
        due = self._protocol.next_deadline()
        if due is not None:
            self._set_alarm(due)
        self.go_on()

    def eof_received(self) -> None:
        """Note that the server sends no more: there will be no answer."""
        super().eof_received()
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Have the next link take what can go on there, and fail the rest."""
        super().connection_lost(exc)
        self._lasting.retire(self)

    def _fail_all(self) -> None:
        if not self._is_told and not self._is_left:
            heir = self._lasting.follow(self)
            if heir is not None:
                heir.take_over([*self._to_send_again(), *self.waiting.values()], self)
        super()._fail_all()

    def _to_send_again(self) -> list[Kept]:
        """Return the calls that were given to the transport and can be sent again, oldest first."""
        if self._retry is None:
            return []
        kept = [self._sent[at] for at in self._sent if self.pending.get(at) is self._sent[at].call]
        if self._retry == "idempotent":
            return kept
        return [one for one in kept if not self._may_have_run(one.call)]

    def _may_have_run(self, call: Pending) -> bool:
        """Return False for what waits here, and for the last that left if some of it is missing."""
        if call.id in self.waiting:
            return False
        return not (self.is_full and call.id == self._newest)

    def _break_off(self, error: ProtocolError) -> None:
        if self._is_up:
            super()._break_off(error)

    def leave(self, grace: float) -> None:
        """Send what waits, if the server has answered, and have the transport end."""
        self._is_left = True
        if self._is_up:
            self.is_full = False  # the transport may have all of it now
            while self.waiting and self._can_write:
                self._write()
                self.is_full = False
            super().leave(grace)
        else:
            self.reason, self._is_leaving = "disconnected", True
            self._connecting.cancel()

    def abort(self) -> None:
        """Drop what has not left."""
        if self._is_up:
            super().abort()
