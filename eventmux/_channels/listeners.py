"""Listening sockets: each connection that waits is handed to the mux, which watches it.

A process that is out of descriptors cannot accept, and the connection goes on waiting: trying
again at once would spin. So the listener asks for a pause, and reports the error once. It does the
same when one attempt after the other fails, for whatever reason: nothing tells then that the reason
will go away.

Other processes may accept from the same socket. What one takes, the others cannot serve while it is
busy; so it takes few at a time, and looks for more when those are handed out. Processes that take
turns ask before each one.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from selectors import EVENT_READ
from typing import Protocol, cast

from eventmux import sockets, tcp
from eventmux._channels.channel import DEFERRED, Channel, Outlet, reason_of
from eventmux._channels.lending import Loan
from eventmux._channels.options import ChannelOptions
from eventmux._channels.ports import Port
from eventmux.events import Accepting, Address, Error, Handle

__all__ = ["Listener", "Turns"]

_ACCEPTS_PER_TURN = 4
_FAILURES_PER_TURN = 64
_RETRY = 1.0  # seconds until it is tried again, should no descriptor be given back before


class Turns(Protocol):
    """Says whose turn it is, among processes that accept from the same socket."""

    def wait(self) -> float:
        """Return in how many seconds to ask again; 0 if it is our turn to accept one."""
        ...

    def took(self) -> None:
        """Note that one was accepted."""
        ...


def _dismiss_nobody(listener: Handle) -> None:
    """Have nobody who has yet to say who they are."""


class Listener(Channel):
    """A listening socket.

    What it is given besides are: `adopt`, which takes a connection; `defer`, which has it try again
    after so many seconds, or when a descriptor is given back; `adjourn`, which does after the
    seconds alone; `dismiss`, which drops those that the program was not told of.
    """

    why_not = "it is a listener"
    __slots__ = ("_adjourn", "_adopt", "_changes", "_defer", "_dismiss", "for_accepted", "turns")

    def __init__(
        self,
        fh: Handle,
        port: Port,
        outlet: Outlet,
        options: ChannelOptions,
        meta: object,
        *,
        adopt: Callable[[Listener, socket.socket, Address], None],
        defer: Callable[[Channel, float], None],
        adjourn: Callable[[Channel, float], object],
        dismiss: Callable[[Handle], None] = _dismiss_nobody,
    ) -> None:
        super().__init__(fh, port, outlet, options, meta)
        self._adopt = adopt
        self._defer = defer
        self._adjourn = adjourn
        self._dismiss = dismiss
        self.turns: Turns | None = None
        """Those of the processes that accept here; None if nobody is asked."""
        self.for_accepted = options
        """The options of what it accepts."""
        # Whoever connects from now on has it, too.
        sock = cast("socket.socket", port)
        self._changes = tcp.tune(sock, nodelay=options.nodelay, keepalive=options.keepalive)

    def was_tuned(self) -> None:
        """Ask nothing of what is accepted: the socket had all of it before it listened.

        One of the program's may have had connections before that, and other processes.
        """
        if sys.platform == "linux":  # elsewhere not all of it is inherited
            self.for_accepted = replace(self.options, nodelay=False, keepalive=False)

    def hand_on(self, idle_timeout: float | None) -> None:
        """Give what is accepted from now on another `idle_timeout`."""
        self.options = replace(self.options, idle_timeout=idle_timeout)
        self.for_accepted = replace(self.for_accepted, idle_timeout=idle_timeout)

    def release(self) -> None:
        """Give the handle back as it was."""
        tcp.restore(cast("socket.socket", self.port), self._changes)
        super().release()

    def _prepare(self) -> None:
        """Make it non-blocking: no flag says so for one `accept()`."""
        self._loan = Loan(self.port)

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        return 0 if self.closing or self.muted else EVENT_READ

    def readable(self) -> None:
        """Accept what waits, or tell the program to."""
        if self.closing:
            return
        if self.options.manual_accept:
            self._emit(Accepting(self.fh))
            return
        # Another process that listens here, too, may have ended and set back what was so before.
        cast("Loan", self._loan).renew()
        if self.turns is None:
            self._accept_some(_ACCEPTS_PER_TURN)
        else:
            self._take_turn(self.turns)

    def _take_turn(self, turns: Turns) -> None:
        """Accept one connection, if it is our turn."""
        seconds = turns.wait()
        if seconds > 0:
            self._adjourn(self, seconds)
            self.muted |= DEFERRED  # last: should it be interrupted before, it is done again
        elif self._accept_some(1):
            turns.took()

    def _accept_some(self, most: int) -> int:
        """Accept what waits, up to so many; return how many that were."""
        accepted = failed = 0
        while accepted < most:
            try:
                if not self._accept():
                    break
                accepted += 1
            except OSError as error:
                failed += 1
                if failed == _FAILURES_PER_TURN or not sockets.is_of_one_connection(error):
                    self._fail_to_accept(error)
                    break
        return accepted

    def _accept(self) -> bool:
        """Accept one connection and have it watched; False if there is none.

        Raises:
            OSError: it failed, or the selector takes no more, or there are no descriptors...
        """
        found = sockets.accept(cast("socket.socket", self.port))
        if found is None:
            return False
        sock, address = found
        try:
            self._adopt(self, sock, address)
        except BaseException:
            sock.close()
            raise
        return True

    def _fail_to_accept(self, error: OSError) -> None:
        if sockets.is_broken_listener(error):
            self.fail(error)
            return
        self._emit(Error(self.fh, reason_of(error), error.errno, error))
        self.muted |= DEFERRED
        self._defer(self, _RETRY)

    def writable(self) -> None:
        """Do nothing: a listener never wants to write."""

    def _begin_to_close(self) -> None:
        """Close it, and first those who have not said who they are."""
        self._dismiss(self.fh)
        super()._begin_to_close()
