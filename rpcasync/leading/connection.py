"""A connection that goes from thread to thread: whoever leads has it send, and waits.

What a function raises that was passed with a call comes out of that call, in the thread that made
it. The rule here: no other thread than the leader touches it, but to ask whether it has ended.

This file does not know who leads.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from threading import get_ident
from time import monotonic

from eventmux.errors import TLSError
from eventmux.events import Closed, Error, Ready, Timeout
from eventmux.sockets import has_hung_up
from rpcasync._log import log
from rpcasync.arguments.known import signature_of
from rpcasync.arguments.misfits import misfit
from rpcasync.calls import remote_error
from rpcasync.client import Client
from rpcasync.coderefs import Coderef
from rpcasync.errors import ArgumentError, CallCancelled, RemoteError
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

    def begin(self, request: Request) -> None:
        """Send a call, once; if it cannot be sent, it has failed."""
        if request.is_over:
            return
        if request.is_begun:  # a leader was interrupted here, and this may have been sent or not
            self.abandon(request)
            request.fail(
                CallCancelled(
                    f"{request.procedure}: Ctrl-C came while another thread was sending it; it may"
                    " have run"
                )
            )
            return
        request.is_begun = True

        def keep(function: Callable[..., object]) -> Callable[..., object]:
            if isinstance(function, Coderef):  # what goes wrong with one is only logged
                return function
            return _Passed(self, request, function).run

        try:
            self._outbox.put(request, request.args, keep)
            request.args = []  # sent; a function that was passed has the request for longer
        except BaseException as error:
            self._protocol.withdraw(request)
            if not isinstance(error, Exception):  # Ctrl-C, say
                raise
            request.fail(error)  # it is raised in the thread that has called

    def abandon(self, request: Request) -> None:
        """Ignore the answer, should it come."""
        if self._protocol.pending.get(request.id) is request:
            self._protocol.abandon(request.id)

    def tell(self, function: Callable[..., object], values: list[object]) -> None:
        """Call a function that was passed with a call, as the server has said just now.

        Raises:
            ArgumentError: the values do not fit.
        """
        signature = signature_of(function)
        try:
            args, named = signature.bind(values)
        except ArgumentError as error:
            raise misfit(self._inbox.whose(), function, signature, values, error) from None
        function(*args, **named)


class _Passed:
    """A function that was passed with a call: the server calls `run()` in its place."""

    __slots__ = ("_connection", "_function", "_request")

    def __init__(
        self, connection: Connection, request: Request, function: Callable[..., object]
    ) -> None:
        self._connection = connection
        self._request = request
        self._function = function

    def run(self, *values: object) -> None:
        """Call it for the server, unless one that was passed with the same call has raised."""
        request = self._request
        if request.is_stopped:
            return
        request.running += 1
        try:
            self._connection.tell(self._function, [*values])
        except Exception as error:  # noqa: BLE001  # it is raised in the thread that has called
            if request.is_over:
                log.error("callback of %s failed", request.procedure, exc_info=error)
            else:
                self._connection.abandon(request)
                request.failure, request.is_stopped = error, True
        finally:
            request.running -= 1
            if request.is_over:
                request.tell()


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
