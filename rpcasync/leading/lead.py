"""Which of the threads that wait for answers leads: it turns the loop, for all of them.

The rule here: who leads hands the lead on when it leaves, whatever happens to it, to the one that
has waited longest. Ctrl-C may come at any line, in the thread that leads or in one that does not;
so each step can be done again, and to wake a thread twice does no harm.

This file knows no connection and no mux: how the leader is woken, it is told.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from threading import TIMEOUT_MAX, Lock, RLock
from time import monotonic

from rpcasync.leading.requests import Request

__all__ = ["Lead"]


class Lead:
    """The lead of one connection, and what others ask the leader to do.

    Args:
        notify: has the loop turn, so that the leader looks for orders; from any thread.
    """

    __slots__ = ("_notify", "_orders", "leader", "mutex", "waiting")

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._orders: deque[Callable[[], None]] = deque()
        self.mutex = RLock()
        """For what follows; a signal handler may call while its own thread has it."""
        self.leader: Request | None = None
        self.waiting: dict[Request, None] = {}
        """Those that do not lead, oldest first."""

    def enter(self, request: Request) -> bool:
        """Take part. Return True if this thread is to turn the loop; else it may `follow()`."""
        with self.mutex:
            leader = self.leader
            if leader is None:
                self.leader = request
                return True
            if leader.thread == request.thread:  # a callback calls: its thread leads already
                return True
            request.gate = Lock()
            request.gate.acquire()
            request.waker = self.wake
            self.waiting[request] = None
        return False

    def follow(self, request: Request, timeout: float | None) -> bool:
        """Wait; return True if this thread leads now, False if there is nothing to wait for.

        Args:
            request: one that has entered, and does not lead.
            timeout: seconds; None is for ever.
        """
        if timeout is not None:
            request.due = monotonic() + timeout
        while True:
            left = request.seconds_left()
            if not request.gate.acquire(timeout=-1 if left is None else min(left, TIMEOUT_MAX)):
                return False
            with self.mutex:
                if self.leader is request:
                    return True
                if request not in self.waiting:  # it was told
                    return False

    def wake(self, request: Request) -> None:
        """Wake the thread whose call has ended."""
        with self.mutex:
            # In this order, since Ctrl-C may come in between.
            if request in self.waiting and request.gate.locked():
                request.gate.release()
            self.waiting.pop(request, None)

    def leave(self, request: Request) -> None:
        """Have no part any more, and hand on the lead; twice is once, also if interrupted."""
        with self.mutex:
            self.waiting.pop(request, None)
            if self.leader is not request:
                return
            if sys.exc_info()[0] is not None:
                self._wake_forgotten()
            successor = next(iter(self.waiting), None)
            if successor is not None and successor.gate.locked():
                successor.gate.release()  # it waits for the mutex then, to see that it leads
            self.leader = successor
            if successor is not None:
                del self.waiting[successor]

    def _wake_forgotten(self) -> None:
        """Wake those whose answer has come; the leader may be interrupted before it does."""
        for request in [request for request in self.waiting if request.is_over]:
            if request.gate.locked():
                request.gate.release()
            del self.waiting[request]

    def abandon_all(self) -> None:
        """Forget all threads, in a forked child: none of them is there."""
        self.mutex = RLock()  # one of them may have had it
        self.leader = None
        self.waiting.clear()
        self._orders.clear()

    # What the leader does for others

    def order(self, order: Callable[[], None]) -> None:
        """Have the leader do something, or the next one if there is none."""
        self._orders.append(order)
        # Each time: the leader may have just done the orders before this one, and wait again. And
        # who gave those may have been interrupted before it was woken.
        self._notify()

    def obey(self) -> None:
        """Do what others have asked for. What is interrupted is done again, by the next leader."""
        orders = self._orders
        while orders:
            orders[0]()
            del orders[0]
