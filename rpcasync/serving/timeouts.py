"""How long a procedure may take to answer.

The time begins when the procedure is called: a call that waits for others has none yet. When it is
over, the client gets an error, and for everybody the call is answered; a procedure that answers it
after all is told that nobody wants to know any more. Nothing of the call is kept for that: who
forgets it has it answered as ever.

The procedure itself cannot be stopped. This file calls none.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

from rpcasync._log import log, shorten
from rpcasync.serving.alarms import Alarms
from rpcasync.serving.callers import Caller, about
from rpcasync.serving.peers import OUT_OF_MEMORY, Peers
from rpcasync.serving.records import TIMEOUT
from rpcasync.wire.deadlines import check_time

__all__ = ["TIMEOUT_TEXT", "Timeouts"]

TIMEOUT_TEXT = "timeout-server"  # as RPC::Async 2.0 has it: clients compare it


class Timeouts:
    """Those of one server.

    Args:
        alarms: has the timer.
        peers: where the errors go.
    """

    __slots__ = ("_alarms", "_own", "_peers", "are_used", "default", "give_up")

    def __init__(self, alarms: Alarms, peers: Peers) -> None:
        self._alarms = alarms
        self._peers = peers
        self._own: dict[str, float | None] = {}
        self.default: float | None = None
        """Seconds for a procedure that has no time of its own; None is any time."""
        self.are_used = False
        """Some procedure has a time: `begin()` has something to do."""
        self.give_up: Callable[[Caller], None] = _nothing
        """Is told of a call whose time is over, before that is answered."""

    def set_default(self, seconds: float | None) -> None:
        """Give all procedures a time, but for those that have their own.

        Raises:
            ValueError: it is not above 0.
            TypeError: the mux has no timer.
        """
        self._check(seconds)
        self.default = seconds
        self._look()

    def set_own(self, procedure: str, seconds: float | None) -> None:
        """Give a procedure a time of its own, for calls that begin from now on.

        Raises:
            ValueError: it is not above 0.
            TypeError: `procedure` is no name; or the mux has no timer.
        """
        if not isinstance(procedure, str):
            raise TypeError(f"procedure is {procedure!r}, must be a name")
        self._check(seconds)
        self._own[procedure] = seconds
        self._look()

    def _check(self, seconds: float | None) -> None:
        check_time("timeout", seconds)
        if seconds is not None:
            self._alarms.check("timeout")

    def _look(self) -> None:
        times = [self.default, *self._own.values()]
        self.are_used = any(each is not None for each in times)

    def begin(self, caller: Caller) -> None:
        """Have a call end in time, whose procedure is about to be called."""
        seconds = self._own.get(caller.procedure, self.default)
        if seconds is not None:
            self._alarms.set(seconds, _Timeout(caller, seconds, self._end))

    def _end(self, caller: Caller, seconds: float) -> None:
        """Answer a call whose time is over."""
        log.warning(
            "procedure %s did not answer within %s s: its client gets the error %s",
            *(shorten(caller.procedure), f"{seconds:g}", TIMEOUT_TEXT),
            extra=about(caller, ms=seconds * 1000),
        )
        self.give_up(caller)
        caller._timed_out = True
        try:
            self._peers.fail(caller, TIMEOUT_TEXT, TIMEOUT)
        except MemoryError:
            self._peers.kill(caller._peer, OUT_OF_MEMORY)


class _Timeout:
    """That of one call, which it does not keep: it may be forgotten, or answered, before."""

    __slots__ = ("_caller", "_end", "_seconds")

    def __init__(
        self, caller: Caller, seconds: float, end: Callable[[Caller, float], None]
    ) -> None:
        self._caller = ref(caller)
        self._seconds = seconds
        self._end = end

    def is_live(self) -> bool:
        caller = self._caller()
        return caller is not None and not caller.answered and not caller._peer.gone

    def ring(self) -> None:
        caller = self._caller()
        if caller is not None:
            self._end(caller, self._seconds)


def _nothing(caller: Caller) -> None:
    """Stand in where nobody wants to know."""
