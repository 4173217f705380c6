"""What a server sends, handed to the client's program: answers, and calls of its functions.

The program's functions are called from one line, in `_tell()`. Two rules hold there. A turn is
short: what comes after so many messages, or so long, waits for the next one, and nothing is read
meanwhile, so that no server can keep the loop to itself, or fill the memory. And nothing is lost:
a message stays until its function is called, so that what Ctrl-C interrupts is done the next time.

This file decides nothing about bytes, and knows no timeouts.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, cast

from eventmux import EventMux
from eventmux.events import Event, Handle
from rpcasync._log import fields, log
from rpcasync.arguments.known import signature_of
from rpcasync.arguments.misfits import misfit
from rpcasync.calls import Call, Telling, raise_error
from rpcasync.coderefs import Coderef, pass_on
from rpcasync.errors import ArgumentError, ProtocolError, RPCError
from rpcasync.wire.messages import Failure, Invoke, Result, crash_text
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["FEW", "MOST_MESSAGES", "MOST_SECONDS", "Inbox", "first_of"]

# Of one turn. More answers than this in one read are rare, and each turn costs some microseconds.
MOST_MESSAGES = range(512)
MOST_SECONDS = 0.01
FEW = 7  # behind so many answers the clock, which has a price, is looked at for each eighth


class Inbox:
    """What has come from one server.

    Args:
        mux: what the socket is watched by.
        fh: the socket.
        protocol: the core.
        name: the server, for the log.
        give_up: ends the connection, when the server has broken the rules.
    """

    __slots__ = (
        *("_fh", "_give_up", "_is_paused", "_mux", "_name", "_protocol"),
        *("crash", "is_woken", "unfed", "wake_event"),
    )

    def __init__(
        self,
        mux: EventMux[Event],
        fh: Handle,
        protocol: ClientProtocol,
        name: str,
        give_up: Callable[[ProtocolError], None],
    ) -> None:
        self._mux = mux
        self._fh = fh
        self._protocol = protocol
        self._name = name
        self._give_up = give_up
        self.unfed = b""
        """What was read and not taken yet."""
        self.wake_event = Event(fh)
        """Comes when there is more to `take()`; `is_woken` is True while it is in the queue."""
        self.is_woken = False
        self.crash: tuple[str, int] | None = None
        """The procedure that raised an exception last, and where the ids stood when it was told."""
        self._is_paused = False  # nothing is read until all that was read is handed over

    def take(self, *, is_last: bool = False) -> Exception | None:
        """Hand over what has come, for as long as a turn may last; it goes on by `wake_event`.

        Args:
            is_last: hand over all of it, as there will be no other turn.

        Returns:
            What a function of the program's has raised, when all have had their turn.
        """
        protocol, now = self._protocol, self._mux.clock
        peek, drop = protocol.peek, protocol.drop
        first: Exception | None = None
        end = now() + MOST_SECONDS
        is_all = False
        try:
            if self.unfed:
                if not protocol.framing.has_fed(self.unfed):  # else Ctrl-C came behind it
                    protocol.feed(self.unfed)
                self.unfed = b""
            for count in itertools.count() if is_last else MOST_MESSAGES:
                message = peek()
                if message is None:
                    is_all = True
                    break
                kind, token, detail = message
                try:
                    if kind is Result:
                        telling = token._answered(detail)
                    else:
                        telling = self._telling(kind, token, detail)
                except Exception as error:
                    if self._can_be_told(kind, token, detail):
                        raise  # the handler of a signal did, say: it is told the next time
                    telling = raise_error, (error,), {}  # of the program's annotations
                drop()
                if telling is None:
                    continue
                function, args, named = telling
                if kind is not Invoke:
                    token._callback = token._signature = None
                try:
                    # This is where the program's code is called.
                    function(*args, **named)
                except Exception as error:  # noqa: BLE001  # raised when all have had their turn
                    first = first_of(first, error, token)
                if count & FEW and count > FEW and kind is Result:
                    continue
                if now() >= end and not is_last:
                    break
        except ProtocolError as error:
            is_all = True
            self._give_up(error)
        except BaseException:  # Ctrl-C, say, or what the handler of a signal raises
            if first is not None:
                _log_failure(first, None)
            raise
        finally:
            if self.unfed or (not is_all and protocol.has_more):
                self._pause()
            elif self._is_paused:
                self._go_on()
        return first

    def _pause(self) -> None:
        """Have `wake_event` come, and read nothing until then."""
        self.wake()
        if not self._is_paused:
            self._is_paused = True  # before it is so, and still when it is not, for Ctrl-C's sake
            self._want_read(False)

    def _go_on(self) -> None:
        """Read again."""
        self._want_read(True)
        self._is_paused = False

    def _want_read(self, is_wanted: bool) -> None:
        with contextlib.suppress(KeyError):  # it is not watched any more
            self._mux.want_read(self._fh, is_wanted)

    def wake(self) -> None:
        """Have `wake_event` come."""
        if not self.is_woken:
            self._mux.push_event(self.wake_event)
            self.is_woken = True

    def fail(self, call: Call, error: RPCError, first: Exception | None) -> Exception | None:
        """End a call with an error; return what its callback raises, if it is the first."""
        telling = call._failed(error)
        self._protocol.abandon(call.id)
        if telling is None:
            return first
        call._callback = call._signature = None
        try:
            telling[0](*telling[1], **telling[2])
        except Exception as raised:  # noqa: BLE001  # for the caller, when all had their turn
            return first_of(first, raised, call)
        return first

    def _telling(self, kind: type, token: Any, detail: Any) -> Telling | None:
        """Return what is to be called for anything but an answer."""
        if kind is Failure:
            call = cast("Call", token)
            if detail == crash_text(call.procedure):
                self.crash = call.procedure, self._protocol.next_id
            return call._refused(detail)
        return self._bind(token, detail) if kind is Invoke else None

    def _can_be_told(self, kind: type, token: Any, detail: Any) -> bool:
        """True if nothing is wrong with that: what was raised came from outside."""
        try:
            if kind is Result:
                cast("Call", token)._answered(detail)
            else:
                self._telling(kind, token, detail)
        except Exception:  # noqa: BLE001  # the first one is looked at
            return False
        return True

    def _bind(self, function: Callable[..., object], values: list[object]) -> Telling:
        """Return how to call a function of the program's for the server."""
        if isinstance(function, Coderef):  # to read its signature would take longer than to call it
            return pass_on, (self._name, function, values, self._protocol.peeked_payload), {}
        try:
            signature = signature_of(function)
        except ArgumentError as error:
            return raise_error, (ArgumentError(f"{self.whose()}: {error}"),), {}
        try:
            args, named = signature.bind(values)
        except ArgumentError as error:
            return raise_error, (misfit(self.whose(), function, signature, values, error),), {}
        return function, args, named

    def whose(self) -> str:
        """Return whose values a function is called with just now, and which function, in words."""
        return f"values of the server, to {self._protocol.peeked_origin()}"


def first_of(
    first: Exception | None, other: Exception | None, token: object = None
) -> Exception | None:
    """Return the first of what callbacks have raised; another one, of a call's, is logged."""
    if first is None or other is None:
        return other if first is None else first
    _log_failure(other, token)
    return first


def _log_failure(error: Exception, token: object) -> None:
    procedure = token.procedure if isinstance(token, Call) else None
    name, extra = procedure or "the server", fields(procedure=procedure)
    log.error("callback of %s failed", name, exc_info=error, extra=extra)
