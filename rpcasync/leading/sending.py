"""How a call leaves that one thread has made, and another sends: who leads does, for all.

What a function raises that was passed with a call comes out of that call, in the thread that made
it. So something else stands for it while the server may call it.

This file knows neither the lead nor the wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from rpcasync._log import log
from rpcasync.arguments.known import signature_of
from rpcasync.arguments.misfits import misfit
from rpcasync.coderefs import Coderef
from rpcasync.errors import ArgumentError, CallCancelled
from rpcasync.leading.requests import Request

__all__ = ["Passed", "Sender", "begin"]


class Sender(Protocol):
    """A connection, or several, as the thread that leads has it."""

    @property
    def put(self) -> Callable[[Request, list[object], Callable[[Any], object]], None]:
        """Makes a call: the server is given what the last one returns in place of a function."""
        ...

    def withdraw(self, request: Request) -> None:
        """Wait no more for a call that could not be made after all."""
        ...

    def abandon(self, request: Request) -> None:
        """Ignore the answer, should it come."""
        ...

    def whose(self, run: Callable[..., None]) -> str:
        """Return whose values a function is called with just now, in words."""
        ...


def begin(sender: Sender, request: Request) -> None:
    """Send a call, once; if it cannot be sent, it has failed."""
    if request.is_over:
        return
    if request.is_begun:  # a leader was interrupted here, and this may have been sent or not
        sender.abandon(request)
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
        return Passed(sender, request, function).run

    try:
        sender.put(request, request.args, keep)
        request.args = []  # sent; a function that was passed has the request for longer
    except BaseException as error:
        sender.withdraw(request)
        if not isinstance(error, Exception):  # Ctrl-C, say
            raise
        request.fail(error)  # it is raised in the thread that has called


class Passed:
    """A function that was passed with a call: the server calls `run()` in its place."""

    __slots__ = ("_function", "_request", "_sender")

    def __init__(self, sender: Sender, request: Request, function: Callable[..., object]) -> None:
        self._sender = sender
        self._request = request
        self._function = function

    def run(self, *values: object) -> None:
        """Call it for the server, unless one that was passed with the same call has raised."""
        request = self._request
        if request.is_stopped:
            return
        request.running += 1
        try:
            self._tell([*values])
        except Exception as error:  # noqa: BLE001  # it is raised in the thread that has called
            if request.is_over:
                log.error("callback of %s failed", request.procedure, exc_info=error)
            else:
                self._sender.abandon(request)
                request.failure, request.is_stopped = error, True
        finally:
            request.running -= 1
            if request.is_over:
                request.tell()

    def _tell(self, values: list[object]) -> None:
        """Call the function with what the server has sent just now.

        Raises:
            ArgumentError: the values do not fit.
        """
        function = self._function
        signature = signature_of(function)
        try:
            args, named = signature.bind(values)
        except ArgumentError as error:
            whose = self._sender.whose(self.run)
            raise misfit(whose, function, signature, values, error) from None
        function(*args, **named)
