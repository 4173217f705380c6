"""One of the connections of a client that connects again; or the wait for the next one.

A link is a `Client` of its own, whose calls belong to the client in front: that decides which link
comes next, and takes over what can go on there. While there is no connection, the link's socket is
none: calls wait there, and a timer comes with it.

Each change of links can be done again, from the event that brought it: Ctrl-C may come at any line.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from eventmux import EventMux, Watch
from eventmux.events import Closed, Event
from rpcasync._log import log
from rpcasync.calls import Call, Telling
from rpcasync.client import Client
from rpcasync.errors import CallTimeout, EncodeError, RemoteError, RPCError
from rpcasync.inbox import Inbox, first_of
from rpcasync.limited import Waiting
from rpcasync.loss import Loss
from rpcasync.opening import open_server
from rpcasync.outbox import NOT_WATCHED
from rpcasync.reconnecting.keeping import KeepingOutbox
from rpcasync.reconnecting.route import Route
from rpcasync.times import Times
from rpcasync.unsent import Unsent
from rpcasync.wire.codecs import Codec
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["Front", "Link", "Nowhere", "Plan"]


class Front(Protocol):
    """What a link needs of the client in front."""

    def _follow(self, link: Link) -> Link | None: ...

    def _retire(self, link: Link) -> None: ...

    def _why_late(self, call: Call) -> str: ...


@dataclass(slots=True)
class Plan:
    """How each link is made."""

    codec: Codec
    max_packet: int
    max_outbuffer: int
    limit: int
    timeout: float | None
    retry: str | None
    options: tuple[Any, Any]
    timeouts: dict[str, float | None] = field(default_factory=dict)


class Nowhere:
    """Stands for a socket while there is no connection; it takes no descriptor."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show what it is."""
        return "<no connection>"

    def fileno(self) -> int:
        """Return -1, as a closed socket does."""
        return -1

    def close(self) -> None:
        """Do nothing."""


class _Goaway:
    """Stands for the function that the server calls before it leaves."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def __call__(self) -> None:
        """Do nothing: it was noted before."""


class _Asking(Call):
    """The call of `goaway`, which the program knows nothing of."""

    __slots__ = ()

    def _answered(self, values: list[object]) -> Telling | None:
        self._outcome = values
        cast("Link", self._owner).hear()
        return None

    def _failed(self, error: RPCError) -> Telling | None:
        self._outcome, link = error, cast("Link", self._owner)
        if isinstance(error, RemoteError):
            log.debug("%s: it has no goaway: %s", link._name, error)
            link.hear()
        elif isinstance(error, CallTimeout):
            link.give_up_on(f"it has not answered within {self.timeout:g} seconds")
        return None


class _LinkInbox(Inbox):
    """An inbox that notes when the server is about to leave."""

    __slots__ = ()

    def _bind(self, function: Callable[..., object], values: list[object]) -> Telling:
        if isinstance(function, _Goaway):
            function.link.is_going = True  # before the message is dropped
            return function, (), {}
        return super()._bind(function, values)


class Link(Client):
    """One connection, or the wait for one.

    Args:
        front: the client that the program has.
        mux: what the socket is watched by.
        route: what is connected to.
        plan: how it is made.
        before: the link before, if there was one.
        delay: seconds to wait, and not connect: the link after this one does. None connects.
    """

    def __init__(
        self,
        front: Front,
        mux: EventMux[Event],
        route: Route,
        plan: Plan,
        before: Link | None = None,
        delay: float | None = None,
    ) -> None:
        self._front = front
        self._protocol = ClientProtocol(plan.codec, plan.max_packet)
        if before is not None:
            self._protocol.follow(before._protocol)
        self._name = url = route.url
        self._patience = route.patience
        self._retries = plan.retry is not None
        self._begin(mux, False)
        self.is_going = False
        """The server is about to leave: calls go elsewhere."""
        self.has_heard = False
        """The server has answered something."""
        self.began = mux.clock()
        """When it was made."""
        self.is_retired = False
        """Nothing is left to be done here."""
        self._delay = delay
        self._timer: Watch | None = None
        self._is_asked = False
        self._output = None
        self.fh = cast("socket.socket", Nowhere())
        try:
            if delay is None:
                self.fh = open_server(mux, url, (), *plan.options, timeout=route.patience)
            place = mux, self.fh, self._protocol
            self._inbox = _LinkInbox(*place, url, self._give_up)
            self._loss = Loss(*place, self._inbox, url)
            self._times = Times(*place, self._inbox, self._loss, plan.timeout)
            for procedure, seconds in plan.timeouts.items():
                self._times.set_own(procedure, seconds)
            self._give_time = self._times.give
            self._times.why = front._why_late
            self._unsent = Unsent(*place, self._loss, url)
            keeps_all = plan.retry == "idempotent"
            begin = self._times.begin
            self._outbox = self._limited = self.outbox = KeepingOutbox(
                *place, plan.max_outbuffer, plan.limit, begin, keeps_all
            )
            self._times.outbox = self._limited
            self._unsent.waiting = self._limited.waiting
            self._loss.outbox = self._limited
        except BaseException:  # Ctrl-C, say: nobody has the link
            if self.fh in mux.handles():
                mux.kill(self.fh)
            raise

    @property
    def was_up(self) -> bool:
        """True if there was a connection."""
        return self._loss.was_up

    @property
    def state(self) -> str:
        """What is waited for before calls leave, in words."""
        what = "has not answered yet" if self.was_up else "is being connected to"
        return f"{self._name} {what}"

    def hear(self) -> None:
        """Note that the server has answered: calls leave."""
        self.has_heard = self.outbox.is_open = True

    def give_up_on(self, reason: str) -> None:
        """Lose the connection to a server that does not answer."""
        self._loss.reason = reason
        with contextlib.suppress(KeyError):  # it has gone by itself
            self._mux.kill(self.fh, reason)

    def calls(self) -> list[Call]:
        """Return the calls of the program's that are not answered."""
        calls = cast("list[Call]", list(self._protocol.pending.values()))
        return [call for call in calls if type(call) is not _Asking]

    def functions(self) -> list[object]:
        """Return the functions of the program's that the server may call."""
        return [one for one in self._protocol.callbacks.values() if type(one) is not _Goaway]

    def start(self) -> None:
        """Have the wait begin, unless it has."""
        if self._delay is not None and self._timer is None:
            self._timer = self._mux.timer(self._delay, self._front, fh=self.fh)

    def take_over(self, waiting: list[Waiting], other: Link) -> None:
        """Have calls of another link go on here."""
        for one in waiting:
            call, seconds = one.call, one.seconds
            self.outbox.take_over(one, other.outbox)
            if seconds is not None and not self.outbox.is_open and not call.done:
                self._times.begin(call, seconds)
                one.seconds = None
        self._times.set_alarm()
        other._times.set_alarm()
        self._inbox.wake()  # they may leave at once

    def waiting(self) -> list[Waiting]:
        """Return the calls that have not been sent, oldest first."""
        return list(self.outbox.waiting.values())

    # Events

    def _take(self) -> Exception | None:
        failure = super()._take()
        self._see_leaving()
        return failure

    def _see_leaving(self) -> None:
        """Move on if the server is about to leave, and leave once all is answered here."""
        if not self.is_going or self._loss.is_leaving or self.is_retired:
            return
        heir = self._front._follow(self)
        if heir is None:
            return
        heir.take_over(self.waiting(), self)
        heir.start()
        if not self.calls():
            self.disconnect()

    def _other_event(self, event: Event) -> tuple[bool, Exception | None]:
        if isinstance(event, _Last):
            self._front._retire(self)
            return True, None
        if event.type == "timer" and cast("Any", event).data is self._front:
            self._hand_over()
            return True, None
        failure: Exception | None = None
        if event.type == "ready":
            self._loss.note(event)
            self._ask()
        elif event.type == "closed":
            failure = self._inbox.take(is_last=True)
            self._loss.note(event)
            self.outbox.has_ended(cast("Closed", event).missing)
            self._hand_over()
        is_own, other = super()._other_event(event)
        if event.type == "closed":
            self._end()
        else:
            self._see_leaving()
        return is_own, first_of(failure, other)

    def _hand_over(self) -> None:
        """Have the link after this one take what can go on there."""
        heir = self._front._follow(self)
        if heir is None:
            return
        again = self.outbox.to_send_again() if self._retries else []
        heir.take_over([*again, *self.waiting()], self)
        heir.start()
        if self._delay is not None:
            self._end()

    def _end(self) -> None:
        """Have a last event come, behind all that are in the queue."""
        if self._protocol.pending or self.is_retired:
            return
        self._times.set_alarm()
        self._mux.push_event(_Last(self.fh))
        self.is_retired = True

    def _ask(self) -> None:
        """Ask the server to tell before it leaves. Whatever it answers, calls leave then."""
        if self._is_asked:
            return
        call = _Asking(self, "goaway", [_Goaway(self)], None)
        try:
            self.outbox.ask(call, call.args)
            call.timeout = self._patience
            self._times.begin(call, self._patience)
        except EncodeError as error:  # with a codec of the program's own, say
            log.debug("%s: goaway cannot be asked for: %s", self._name, error)
            self.hear()
        except KeyError as error:  # the socket is not watched any more
            log.debug("%s: goaway cannot be asked for: %s", self._name, error)
        self._is_asked = True

    # The end

    def disconnect(self, grace: float = 5.0) -> None:
        """End the connection, or the wait for one."""
        if self._timer is not None:
            self._timer.cancel()
        is_watched = self.fh in self._mux.handles()
        self._unsent.is_left_behind = self.outbox.close_with(grace)
        self._loss.leave(grace)
        if not is_watched:
            self._mux.push_event(Closed(self.fh, reason=NOT_WATCHED))


class _Last(Event):
    """Comes behind all other events of a link that is not needed any more."""
