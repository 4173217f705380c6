"""Connecting to a name: look it up, then try its addresses until one answers.

The C library can only block while it looks a name up, so a thread does that, and nothing else.
The addresses are then tried as RFC 8305 ("happy eyeballs") says: the next one when the last has
failed, or has not answered for a quarter of a second; the first to answer is taken.

The program knows the connection by a socket object from the start, so the descriptor of the
attempt that wins is put into that one.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from selectors import EVENT_WRITE
from typing import cast

from eventmux import sockets
from eventmux._channels.packets import Datagram
from eventmux._channels.streams import Stream
from eventmux._waiting.poller import Poller
from eventmux._watching.timers import Entry
from eventmux.events import Address
from eventmux.sources import family_of, no_address
from eventmux.urls import Endpoint

__all__ = ["Dialer"]

_ATTEMPT_DELAY = 0.25  # seconds, as RFC 8305 recommends

Result = list[sockets.Target] | OSError
Later = Callable[[float, Callable[[], None]], Entry]


class _Attempt:
    """One socket that is connecting to one address."""

    fh = None

    def __init__(
        self, sock: socket.socket, finished: Callable[[_Attempt, OSError | None], None]
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.armed = 0
        self.armed_fd = -1
        self.muted = 0
        self._finished = finished

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        return EVENT_WRITE if self.sock.fileno() >= 0 else 0

    def readable(self) -> None:
        """Do nothing: it does not want to read."""

    def writable(self) -> None:
        """It is connected, or has failed."""
        if self.sock.fileno() >= 0:
            self._finished(self, sockets.connect_error(self.sock))

    def is_lost(self) -> bool:
        """False: the program does not know it, and cannot close it."""
        return False

    def fail(self, error: OSError) -> None:
        """It cannot be waited for."""
        if self.sock.fileno() >= 0:
            self._finished(self, error)


class Dialer:
    """Connects a channel to an endpoint whose host is a name.

    Args:
        channel: what is to be connected; `dialing` is set until it is.
        poller: what waits for the attempts.
        later: runs something after so many seconds.
        cancel: takes that back.
        post: runs something in the mux's thread; it is called in another.
        source: where the connection is to come from; addresses of other families are left out.
    """

    def __init__(
        self,
        channel: Stream | Datagram,
        poller: Poller,
        later: Later,
        cancel: Callable[[Entry], None],
        post: Callable[[Callable[[], None]], None],
        source: Address | None = None,
    ) -> None:
        self._channel = channel
        self._poller = poller
        self._later = later
        self._cancel = cancel
        self._post = post
        self._source = source
        self._family = None if source is None else family_of(source)
        self._targets: list[sockets.Target] = []
        self._attempts: list[_Attempt] = []
        self._next: Entry | None = None
        self._error: OSError | None = None
        self._stopped = False
        channel.dialing = True

    def start(self, endpoint: Endpoint) -> None:
        """Look the name up in a thread; it goes on when that has ended."""

        def look_up() -> None:
            result: Result
            try:
                result = sockets.look_up(endpoint)
            except OSError as error:
                result = error
            self._post(lambda: self._found(result))

        name = f"look up {endpoint.host}"
        try:
            threading.Thread(target=look_up, name=name, daemon=True).start()
        except RuntimeError as error:  # there are too many
            self._fail(OSError(errno.EAGAIN, str(error)))

    def _found(self, result: Result) -> None:
        if self._stopped:
            return
        if isinstance(result, OSError):
            self._fail(result)
        else:
            self._targets = [target for target in result if self._family in (None, target[0])]
            if result and not self._targets:
                self._error = no_address(cast("Address", self._source))
            self._try_next()

    def _try_next(self) -> None:
        """Start the next attempt; if none can be, and none is under way, it has failed."""
        self._forget_timer()
        while self._targets:
            try:
                sock = sockets.start(self._targets.pop(0), self._source)
            except OSError as error:
                self._error = error
                continue
            attempt = _Attempt(sock, self._finished)
            self._attempts.append(attempt)
            if self._targets:
                self._next = self._later(_ATTEMPT_DELAY, self._try_next)
            if isinstance(self._channel, Datagram):
                self._finished(attempt, None)  # there is nobody who could answer
            else:
                self._poller.arm(attempt)
            return
        if not self._attempts:
            self._fail(self._error or OSError("no address"))

    def _finished(self, attempt: _Attempt, error: OSError | None) -> None:
        self._poller.disarm(attempt)
        self._attempts.remove(attempt)
        if error is not None:
            attempt.sock.close()
            self._error = error
            self._try_next()
            return
        self.stop()
        channel = self._channel
        try:
            sockets.transplant(cast("socket.socket", channel.port), attempt.sock)
        except OSError as failure:  # the program has closed it meanwhile
            self._fail(failure)
            return
        channel.connected()
        self._poller.arm(channel)

    def _fail(self, error: OSError) -> None:
        self.stop()
        self._channel.dialing = False
        self._channel.fail(error)
        self._poller.arm(self._channel)

    def _forget_timer(self) -> None:
        if self._next is not None:
            self._cancel(self._next)
            self._next = None

    def stop(self) -> None:
        """Give up what is under way."""
        self._stopped = True
        self._forget_timer()
        for attempt in self._attempts:
            self._poller.disarm(attempt)
            attempt.sock.close()
        self._attempts.clear()
