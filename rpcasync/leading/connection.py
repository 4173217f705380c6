"""A connection that goes from thread to thread: whoever leads has it send, and waits.

The rule here: no other thread than the leader touches it, but to ask whether it has ended.

This file does not know who leads.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any

from eventmux.errors import TLSError
from eventmux.events import Closed, Error, Event, Ready, Timeout
from eventmux.sockets import has_hung_up
from rpcasync.calls import remote_error
from rpcasync.client import Client
from rpcasync.errors import RemoteError
from rpcasync.leading.requests import Request
from rpcasync.loss import nobody_there

__all__ = ["Connection"]

_PEEK = getattr(socket, "MSG_DONTWAIT", 0) | socket.MSG_PEEK


class Connection(Client):
    """A client that goes from thread to thread."""

    front: type = Client
    """The class that the program calls, which may have a method like a procedure's name."""

    is_encrypted = False
    """What is to be read from the socket may be the last words of TLS."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.put = self._outbox.put
        """Makes a call."""

    @property
    def name(self) -> str:
        """The server, for messages."""
        return self._name

    @property
    def has_ended(self) -> bool:
        """True if the server has ended the connection, or we have; any thread may ask."""
        if self.is_encrypted:
            return self.fh.fileno() < 0 or has_hung_up(self.fh)
        try:
            return not self.fh.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    @property
    def wake_event(self) -> Event:
        """What wakes the thread that waits."""
        return Event(self.fh)

    def take_over(self) -> None:
        """Belong to this thread."""
        self._thread = get_ident()

    def wait_until_up(self, timeout: float | None) -> None:
        """Wait until the server has accepted.

        Args:
            timeout: seconds; None is for ever.

        Raises:
            OSError: it does not.
        """
        end = None if timeout is None else monotonic() + timeout
        error: Error | None = None
        while True:
            event = self._mux.mux(None if end is None else max(0.0, end - monotonic()))
            if event is not None:
                self.io(event)
            if isinstance(event, Ready):
                return
            if isinstance(event, Timeout):
                text = f"cannot connect to {self._name}: no answer within {timeout} seconds"
                raise OSError(errno.ETIMEDOUT, text)
            if isinstance(event, Error):
                error = error or event
            if event is None or isinstance(event, Closed):
                raise _reason(self._name, error)

    def wait_until(self, is_over: Callable[[], bool], timeout: float | None) -> None:
        """Turn the loop until something is so, or the time is over.

        Args:
            is_over: asked before each turn, and when the time is over.
            timeout: seconds; None is for ever.
        """
        self._run_until(is_over, timeout)

    def _remote_error(self, procedure: str, text: str) -> RemoteError:
        return remote_error(text, procedure, self.front)

    # Calls

    def withdraw(self, request: Request) -> None:
        """Wait no more for a call that could not be made after all."""
        self._protocol.withdraw(request)

    def abandon(self, request: Request) -> None:
        """Ignore the answer, should it come."""
        if self._protocol.pending.get(request.id) is request:
            self._protocol.abandon(request.id)

    def whose(self, run: Callable[..., None]) -> str:  # noqa: ARG002  # it is the only connection
        """Return whose values a function is called with just now, in words."""
        return self._inbox.whose()


def _reason(name: str, error: Error | None) -> OSError:
    """Return why a connection did not come up."""
    if error is None:
        return OSError(errno.EIO, f"cannot connect to {name}: it ended")
    text = f"cannot connect to {name}: {nobody_there(error.error)}"
    if isinstance(error.exception, TLSError):  # which has no number
        failure = TLSError(text, error.exception.reason)
        failure.__cause__ = error.exception.__cause__
        return failure
    kind = socket.gaierror if isinstance(error.exception, socket.gaierror) else OSError
    return kind(error.errno or errno.EIO, text)
