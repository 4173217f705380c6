"""What a procedure wants to do some time after it was called, while its call is not answered.

Each one is kept with its peer, under its call, and taken out when it has had its turn, when the
call is answered, or when the client has gone: whichever comes first. So neither the call nor the
function lives longer than it is needed.

This file calls no functions itself.
"""

from __future__ import annotations

from collections.abc import Callable

from rpcasync.serving.alarms import Alarms
from rpcasync.serving.callers import Caller, is_late
from rpcasync.serving.peer import Peer
from rpcasync.wire.deadlines import check_seconds

__all__ = ["Retries", "Retry", "end_retries"]

Function = Callable[[Caller], object]


class Retry:
    """A function that is to be called, as `Server.retry()` returns it, until it is cancelled."""

    __slots__ = ("_caller", "_function", "_run")

    def __init__(
        self, caller: Caller, function: Function, run: Callable[[Caller, Function], None]
    ) -> None:
        self._caller: Caller | None = caller
        self._function: Function | None = function
        self._run = run

    def cancel(self) -> None:
        """Do not call it after all; twice is once, and so is behind its turn."""
        caller, self._caller, self._function = self._caller, None, None
        if caller is None:
            return
        by_caller = caller._peer.with_extras().retries
        retries = by_caller.get(caller)
        if retries is not None:
            retries.pop(self, None)
            if not retries:
                del by_caller[caller]

    def is_live(self) -> bool:
        """True if it is still to be called."""
        caller = self._caller
        return caller is not None and not caller.answered and not caller._peer.gone

    def ring(self) -> None:
        """Call it. This is its only turn: one that Ctrl-C interrupts has had it."""
        caller, function = self._caller, self._function
        self.cancel()
        if caller is not None and function is not None:
            self._run(caller, function)


class Retries:
    """Those of one server.

    Args:
        alarms: has the timer.
        run: calls a function, and deals with what it raises.
    """

    __slots__ = ("_alarms", "_run")

    def __init__(self, alarms: Alarms, run: Callable[[Caller, Function], None]) -> None:
        self._alarms = alarms
        self._run = run

    def add(self, caller: Caller, seconds: float, function: Function) -> Retry:
        """Have a function called, unless the time of the call is over, or its client has gone.

        Raises:
            ValueError: `seconds` is negative or infinite, or the program has answered the call.
            TypeError: `seconds` is no number, or the mux has no timer.
        """
        check_seconds("seconds", seconds)
        self._alarms.check("retry()")
        if caller.answered:
            is_late(caller)
        retry = Retry(caller, function, self._run)
        if not retry.is_live():
            retry.cancel()
            return retry
        self._alarms.set(seconds, retry)  # first: a call that is kept has to go on some time
        caller._peer.with_extras().retries.setdefault(caller, {})[retry] = None
        return retry


def end_retries(peer: Peer, caller: object = None) -> None:
    """Cancel those of a call that is answered; without a call, those of a client that has gone."""
    if peer.extras is None:
        return
    by_caller = peer.extras.retries
    for each in list(by_caller) if caller is None else [caller]:
        for retry in tuple(by_caller.get(each, ())):
            retry.cancel()
