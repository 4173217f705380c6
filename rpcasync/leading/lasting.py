"""Several connections, one after the other, that go from thread to thread: whoever leads has them.

It is the client that connects again, on a mux of its own: all events are its own, so it waits for
all connections at once. While no thread waits, nobody looks at them. What came meanwhile is seen to
before the next call is sent: a server that has gone or is about to leave is no server for it.

This file does not know who leads.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from threading import get_ident
from typing import Any

from eventmux.events import Closed, Event, Timeout
from rpcasync.calls import remote_error
from rpcasync.client import Client
from rpcasync.errors import RemoteError
from rpcasync.leading.requests import Request
from rpcasync.outbox import NOT_WATCHED
from rpcasync.reconnecting.client import ReconnectingClient

__all__ = ["LastingConnection"]

_MOST_MISSED = 1000  # events that are seen to before a call; a server may send without end


class LastingConnection(ReconnectingClient):
    """Several connections as one: what `Connection` does with one."""

    front: type = Client
    """The class that the program calls, which may have a method like a procedure's name."""

    @property
    def name(self) -> str:
        """The servers, for messages."""
        return self._name

    @property
    def has_ended(self) -> bool:
        """True if the program has closed it; any thread may ask."""
        return self._is_over

    @property
    def wake_event(self) -> Event:
        """What wakes the thread that waits."""
        return Event()

    def take_over(self) -> None:
        """Belong to this thread, and see to what has come while nobody was there."""
        self._thread = get_ident()
        for link in self._links:
            link._thread = self._thread
        for _ in range(_MOST_MISSED):
            if self._turn(0.0) is None:
                break

    def wait_until_up(self, timeout: float | None) -> None:
        """Wait until a server has answered.

        Args:
            timeout: seconds; None is for ever.

        Raises:
            TimeoutError: none does.
        """
        if not self._run_until(lambda: self._link.has_heard, timeout):
            text = f"cannot connect to {self._name}: no answer within {timeout} seconds"
            raise OSError(errno.ETIMEDOUT, f"{text}; {self._why_not()}")

    def wait_until(self, is_over: Callable[[], bool], timeout: float | None) -> None:
        """Turn the loop until something is so, or the time is over.

        Args:
            is_over: asked before each turn, and when the time is over.
            timeout: seconds; None is for ever.
        """
        self._run_until(is_over, timeout)

    def _is_time_over(self, deadline: float | None) -> bool:
        now = self._mux.clock
        self._turn(None if deadline is None else max(0.0, deadline - now()))
        return deadline is not None and now() >= deadline

    def _turn(self, seconds: float | None) -> Event | None:
        """See to the next event, and return it; None if there was none in time."""
        link = self._link
        try:
            self._unseen = event = self._mux.mux(seconds)
            link = next((one for one in self._links if event and one.fh is event.fh), link)
            # One line: from here on, the link sees to it that nothing is lost
            link._unseen, self._unseen = event, None
            if event is None:  # nothing is left that could bring an answer
                event = Closed(link.fh, reason=NOT_WATCHED)
            link.io(event)
        except BaseException:  # Ctrl-C, say: what is left to do is done on the next turn
            unseen = self._unseen or link._unseen
            if unseen is not None:
                link._again(unseen)
            raise
        link._unseen = None
        return None if isinstance(event, Timeout) else event

    def _remote_error(self, procedure: str, text: str) -> RemoteError:
        return remote_error(text, procedure, self.front)

    # Calls

    def put(self, request: Request, values: list[object], keep: Callable[[Any], object]) -> None:
        """Make a call."""
        self._link.outbox.put(request, values, keep)
        self._see_if_over()

    def withdraw(self, request: Request) -> None:
        """Wait no more for a call that could not be made after all."""
        self._link._withdraw(request)

    def abandon(self, request: Request) -> None:
        """Ignore the answer, should it come; what waits is never sent."""
        for link in self._links:  # if Ctrl-C came as it was taken over, it is in two
            if link._protocol.pending.get(request.id) is request:
                link._inbox.wake()
                link.outbox.abandon(request.id)

    def whose(self, run: Callable[..., None]) -> str:
        """Return whose values a function is called with just now, in words."""
        links = (link for link in self._links if run in link._protocol.callbacks.values())
        return next(links, self._link)._inbox.whose()
