"""A call, and the thread that waits for it.

Its answer is noted by the thread that leads, which may be another. This file wakes nobody by
itself: it knows whom to ask to.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, get_ident
from time import monotonic

from rpcasync.calls import Call, CallOwner, Reply, Telling
from rpcasync.errors import CallTimeout, RPCError

__all__ = ["Request"]

_NO_GATE = Lock()  # nobody waits at this


class Request(Call):
    """A call, and the thread that waits for it.

    Args:
        owner: the connection.
        procedure: its name.
        args: what is sent.
    """

    __slots__ = (
        *("due", "failure", "gate", "has_left", "is_begun", "is_given_up", "is_stopped"),
        *("running", "thread", "waker"),
    )

    def __init__(self, owner: CallOwner, procedure: str, args: list[object]) -> None:
        super().__init__(owner, procedure, args, None)
        self.thread = get_ident()
        self.gate = _NO_GATE
        """What its thread waits at, if it does not lead."""
        self.due: float | None = None
        """When its time is over, if its thread does not lead from the start."""
        self.failure: Exception | None = None
        """What is raised in place of an answer, of any kind."""
        self.is_begun = False
        """A leader has sent it, or was about to."""
        self.is_given_up = False
        """Its thread waits no more."""
        self.has_left = False
        """It neither waits nor leads any more."""
        self.is_stopped = False
        """The functions that were passed with it are not called any more."""
        self.running = 0
        """How many of the functions run that were passed with it, one in another."""
        self.waker: Callable[[Request], None] | None = None
        """Wakes its thread; None if that leads from the start."""

    @property
    def has_outcome(self) -> bool:
        """True if there is an answer, or what is raised in place of one."""
        return self.done or self.failure is not None

    @property
    def is_over(self) -> bool:
        """True if there is nothing to wait for."""
        return self.has_outcome or self.is_given_up

    def seconds_left(self) -> float | None:
        """Return how long to wait; None is for ever."""
        return None if self.due is None else max(0.0, self.due - monotonic())

    def fail(self, error: Exception) -> None:
        """End it with an exception for its thread, which is woken."""
        self.failure, self.is_stopped = error, True
        self.tell()

    def tell(self) -> None:
        """Wake its thread, if that does not lead, and none of the call's functions runs."""
        if self.waker is not None and not self.running:
            self.waker(self)

    def reply(self, timeout: float | None) -> Reply:
        """Return the answer; asked once, in its thread, when that waits no more.

        What is raised has the frames of this call in its traceback. So nothing that these know
        may know it in turn, or all of it would stay in memory until garbage is collected.

        Args:
            timeout: seconds that it was given, for the message.

        Raises:
            RPCError: the call has failed.
            CallTimeout: there is no answer.
            Exception: what a function raised that was passed with the call.
        """
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                raise failure
            if not self.done:
                text = f"{self.procedure}: no answer within {timeout} seconds"
                raise CallTimeout(text + self._owner._why_late(self))
            return self.result()
        finally:
            del self, failure

    # What the client tells it

    def _answered(self, values: list[object]) -> Telling | None:
        self._outcome = values
        return self._telling()

    def _failed(self, error: RPCError) -> Telling | None:
        self._outcome = error
        return self._telling()

    def _telling(self) -> Telling | None:
        """Return how its thread is told; None if it leads, or is told behind a function's run."""
        return None if self.waker is None or self.running else (self.waker, (self,), {})
