"""How long calls may take: which time each has, and the one timer that fails them when it is over.

The mux has a timer for the next call that fails by itself, and for nothing else; it comes with the
client's handle. The core keeps the deadlines.

This file knows nothing of what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, cast

from eventmux import EventMux, Watch
from eventmux.events import Event, Handle
from rpcasync.calls import Call
from rpcasync.errors import CallTimeout
from rpcasync.inbox import Inbox, first_of
from rpcasync.wire.deadlines import check_timeout
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["Times"]


class _PutsOff(Protocol):
    """Has calls that wait to be sent."""

    def has_put_off(self, call: Call, seconds: float | None) -> bool: ...


class _FailsLater(Protocol):
    """Has calls that wait for something else than an answer."""

    @property
    def due(self) -> float | None: ...

    def fail(self) -> Exception | None: ...


_NONE: Mapping[str, float | None] = {}  # most clients have no more


class Times:
    """The times of the calls of one client.

    Args:
        mux: has the timer.
        fh: whose the timer is.
        protocol: the core.
        inbox: tells the callbacks.
        loss: a `Loss`: calls that wait for the status of a process fail in a while, too.
        default: seconds that a call has; None is for ever.
    """

    __slots__ = (
        *("_default", "_due", "_fh", "_inbox", "_loss", "_mux", "_own", "_protocol"),
        *("alarm", "outbox", "why"),
    )

    def __init__(
        self,
        mux: EventMux[Event],
        fh: Handle,
        protocol: ClientProtocol,
        inbox: Inbox,
        loss: _FailsLater,
        default: float | None,
    ) -> None:
        self._mux = mux
        self._fh = fh
        self._protocol = protocol
        self._inbox = inbox
        self._loss = loss
        self._default = default
        self._own: Mapping[str, float | None] = _NONE  # of single procedures
        self._due = 0.0  # when the alarm is
        self.alarm: Watch | None = None
        """The mux's timer, whose data this is."""
        self.outbox: _PutsOff | None = None
        """Knows the calls that wait to be sent, if there may be some."""
        self.why: Callable[[Call], str] = _nothing
        """What may be said of why there was no answer, behind the message; mostly nothing."""

    def set_own(self, procedure: str, seconds: float | None) -> None:
        """Have the calls of one procedure have another time from now on.

        Raises:
            ValueError: it is negative, infinite or NaN.
            TypeError: it is no number.
        """
        self._own = {**self._own, procedure: check_timeout(seconds)}

    def give(self, call: Call) -> None:
        """Give a call the time that it has from the start; one that waits, from when it is sent."""
        seconds = self._own.get(call.procedure, self._default)
        if seconds is None:
            return
        call.timeout = seconds
        if self.outbox is None or not self.outbox.has_put_off(call, seconds):
            self.begin(call, seconds)

    def begin(self, call: Call, seconds: float) -> None:
        """Have a call fail in so many seconds."""
        self._protocol.set_deadline(call.id, self._mux.clock() + seconds)
        self.set_alarm()

    def set(self, call: Call, seconds: float | None) -> None:
        """Have a call fail in so many seconds from now, whatever was said before; None is never.

        Raises:
            ValueError: `seconds` is negative, infinite or NaN.
        """
        call.timeout = check_timeout(seconds)
        if call.done:
            return
        due = None if seconds is None else self._mux.clock() + seconds
        self._protocol.set_deadline(call.id, due)
        self.set_alarm()
        if self.outbox is not None:
            self.outbox.has_put_off(call, None)

    def set_alarm(self) -> None:
        """Have the mux wake us for the next call that fails by itself, and for nothing else."""
        dues = self._protocol.next_deadline(), self._loss.due
        due = min((due for due in dues if due is not None), default=None)
        if self.alarm is not None and (due is None or due < self._due):
            self.alarm.cancel()
            self.alarm = None
        if self.alarm is None and due is not None:
            self._due = due
            seconds = max(0.0, due - self._mux.clock())
            self.alarm = self._mux.timer(seconds, self, fh=self._fh)

    def expire(self) -> Exception | None:
        """Fail the calls whose time is over; not those that their callbacks make.

        Returns:
            What a callback has raised, when all have had their turn.
        """
        self.alarm = None
        now = self._mux.clock()
        first: Exception | None = None
        for _ in range(len(self._protocol.pending)):
            call = cast("Call | None", self._protocol.next_expired(now))
            if call is None:
                break
            text = f"{call.procedure}: no answer within {call.timeout} seconds{self.why(call)}"
            error = CallTimeout(text)
            first = self._inbox.fail(call, error, first)
        due = self._loss.due
        if due is not None and now >= due:
            first = first_of(first, self._loss.fail())
        self.set_alarm()
        return first


def _nothing(call: Call) -> str:  # noqa: ARG001  # others have more to say
    return ""
