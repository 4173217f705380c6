"""How a server stops without losing a call.

A connection that is closed races the next request on it, so nobody is disconnected for being idle.
Who has asked by the procedure `goaway` is told, goes elsewhere, and leaves once it has its answers;
others leave when they like. Whatever they call meanwhile is answered as ever. At the deadline, and
not before, the rest is disconnected.

A listener that is closed resets who waits in its queue. So that is accepted first, as is who was
accepted and has yet to say who he is, by TLS say. But where others keep coming, the queue is never
empty: nobody is accepted any more once all that was in it has had its time.

All that is to be done follows from the state and the time, in `look()`: it can be repeated wherever
it was interrupted. This file knows no signals.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from rpcasync._log import log
from rpcasync.coderefs import Coderef
from rpcasync.errors import Fault
from rpcasync.serving.arrivals import Arrivals
from rpcasync.serving.callers import Caller
from rpcasync.serving.patience import is_readable
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import Peers
from rpcasync.wire.deadlines import check_seconds
from rpcasync.wire.messages import as_text

__all__ = ["Draining"]

_MOST_ASKED = 16  # callbacks of one client
_AGAIN = 0.01  # seconds until a listener is looked at again, in whose queue somebody waits
_QUEUE = 2.0  # seconds in which who waits in the queue of a listener is accepted
_LAST_WORDS = 1.0  # seconds that who is disconnected at the deadline has to read what is queued
_TURN = 0.005  # seconds in which clients are told; then others have their turn


class Draining:
    """That of one server.

    Args:
        mux: has the timer, and the clock that goes with it.
        peers: the clients.
        arrivals: has the listeners.
        answer: answers a call with no values.
    """

    __slots__ = (
        *("_answer", "_arrivals", "_awaited", "_clock", "_closes_at", "_ends_at", "_has_told"),
        *("_has_warned", "_kill", "_peers", "_shared", "_timer", "_watch"),
        *("has_begun", "on_begin", "on_end", "on_idle", "on_left", "take_signal"),
    )

    def __init__(
        self, mux: object, peers: Peers, arrivals: Arrivals, answer: Callable[[Caller], object]
    ) -> None:
        self._timer: Any = getattr(mux, "timer", None)
        self._clock = getattr(mux, "clock", time.monotonic)
        self._kill: Any = getattr(mux, "kill", None)
        self._awaited: Any = getattr(mux, "_awaited", _nobody)
        self._peers = peers
        self._arrivals = arrivals
        self._answer = answer
        self._shared: WeakSet[socket.socket] = WeakSet()
        self._closes_at = self._ends_at = math.inf
        self._has_told = False  # the log has what was left at the deadline
        self._has_warned = False  # it has that some have come too late
        self._watch: Any = None  # of the timer
        self.has_begun = False
        self.on_begin: Callable[[], None] = _nothing
        """Is called when the server begins to drain."""
        self.on_end: Callable[[], None] = _nothing
        """Is called when nobody is left, and nobody can come any more; before `on_left`."""
        self.on_idle: Callable[[], None] | None = None
        """Is called when the loop turns, and had no event."""
        self.on_left: Callable[[], None] | None = None
        """Is called when nobody is left, and nobody can come any more."""
        self.take_signal: Callable[[Any], bool] = _not_ours
        """Takes a `Signal`; returns whether it was one to stop the server."""

    # The procedure

    def goaway(self, caller: Caller, *values: object) -> None:
        """Have a function of a client's called when the server begins to drain.

        Nothing but its id is kept, and the client is not told that it is not needed any more. So it
        is no function that the program has: a client with nothing else is idle.
        """
        peer, callback = caller._peer, values[-1] if values else None
        is_named = len(values) == 2 and as_text(values[0]) == "callback"
        if not isinstance(callback, Coderef) or not (is_named or len(values) == 1):
            raise Fault("goaway: takes one callback, and nothing else")
        if callback.id not in peer.goaways:
            if len(peer.goaways) >= _MOST_ASKED:
                raise Fault(f"goaway: {_MOST_ASKED} callbacks wait already, which is the limit")
            peer.goaways += (callback.id,)
        self._answer(caller)
        if self.has_begun:  # behind what is noted of `callback` as we return: released is it once
            self._peers.notes.add(self.look_soon)

    # Beginning

    def share(self, sock: socket.socket) -> None:
        """Note a listener at which another process accepts, too: its queue is not lost with us."""
        self._shared.add(sock)

    def begin(self, deadline: float, delay: float) -> None:
        """Begin, or have the deadline, and the end of the listeners, come sooner.

        Raises:
            ValueError: a time is negative, infinite or NaN.
            TypeError: it is no number, or the mux has no timer.
        """
        check_seconds("deadline", deadline)
        check_seconds("delay", delay)
        if self._timer is None:
            raise TypeError("drain() needs a mux with timer(), as EventMux has it")
        now = self._clock()
        self._closes_at = min(self._closes_at, now + delay)
        self._ends_at = min(self._ends_at, now + deadline)
        if not self.has_begun:
            self.has_begun = True
            self.on_begin()
        self.look_after_leaving()
        self._peers.notes.add(self.look)

    def look_after_leaving(self) -> None:
        """Have it noticed when nobody is left."""
        self._peers.on_left = self.look

    def look_soon(self) -> None:
        """Look on the next turn: there is another listener, or client."""
        if self.has_begun:
            self._peers.notes.add(self.look)

    # What is due

    def io(self, event: Any) -> bool:
        """Take an event; return whether it was the timer of this object, or a signal to stop."""
        if event.type == "signal":
            return self.take_signal(event)
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        self.look()
        return True

    def count(self) -> tuple[int, int]:
        """Return how many clients there are, and how many of their calls are not answered."""
        left = self._left()
        calls = sum(peer.running + peer.waiting for peer in left)
        return len(left) + len(self._arrivals.entrance.waiting), calls

    def _left(self) -> list[Peer]:
        peers = tuple(self._peers.by_fh.values())
        return [peer for peer in peers if not peer.is_inner and not peer.gone]

    def look(self) -> None:
        """Do what is due, and have the timer run for what is due next."""
        soon = math.inf
        if self.has_begun:
            now = self._clock()
            is_over = now >= self._ends_at
            if not self._tell_all():
                soon = 0.0
            if is_over or now >= self._closes_at:
                self._close_listeners(is_over, now >= self._closes_at + _QUEUE)
            if is_over:
                self._end(now)
            soon = min(soon, self._next(now))
        self._set_timer(soon)
        if self.has_left():
            self.on_end()
            if self.on_left is not None:
                self.on_left()

    def is_over(self) -> bool:
        """True from the deadline on."""
        return bool(self._clock() >= self._ends_at)

    def has_left(self) -> bool:
        """True if nobody is left, and nobody can come any more."""
        peers, entrance = self._peers, self._arrivals.entrance
        are_here = len(peers.by_fh) > len(peers.inner) or peers.leaving or entrance.waiting
        return not are_here and not entrance.listeners

    def _tell_all(self) -> bool:
        """Call the callbacks of those who have asked; False if some are left for another turn."""
        end = time.monotonic() + _TURN
        for peer in tuple(self._peers.by_fh.values()):
            while peer.goaways and not peer.gone:
                if time.monotonic() >= end:
                    return False
                peer.tell_to_go()
        return True

    def _close_listeners(self, is_over: bool, is_late: bool) -> None:
        """Close those at which nobody waits; at the end all, whoever waits.

        Args:
            is_over: it is the end.
            is_late: who waits in a queue now has come too late.
        """
        if is_over:
            self._arrivals.close_listeners()
            return
        for sock in tuple(self._arrivals.listeners):
            has_queue = sock not in self._shared and is_readable(sock)
            if has_queue and is_late and not self._has_warned:
                self._has_warned = True
                log.warning("clients keep coming: those in the queue of a listener are reset")
            if sock in self._shared or not ((has_queue and not is_late) or self._awaited(sock)):
                self._arrivals.close_listener(sock)
            elif is_late:
                self._arrivals.entrance.pause(sock)

    def _end(self, now: float) -> None:
        """Disconnect who is left. Who does not take his leave soon loses what is queued."""
        left = self._left()
        if left and not self._has_told:
            clients, calls = self.count()
            self._has_told = True
            log.warning(
                "drained until the deadline: %d clients are disconnected, %d calls have no answer",
                *(clients, calls),
            )
        for peer in left:
            self._peers.disconnect(peer, "it stayed until the deadline", logging.INFO)
        if now >= self._ends_at + _LAST_WORDS:
            for fh in tuple(self._peers.leaving):
                with contextlib.suppress(KeyError):  # it was done: `Closed` is to come
                    self._kill(fh, "drained")

    def _next(self, now: float) -> float:
        """Return in how many seconds something is due; infinity if nothing is."""
        peers, times = self._peers, []
        if self._arrivals.listeners:
            times.append(max(_AGAIN, self._closes_at - now))
        if self._left() or self._arrivals.listeners or self._arrivals.entrance.waiting:
            times.append(max(0.0, self._ends_at - now))
        if peers.leaving and self._ends_at <= now < self._ends_at + _LAST_WORDS:
            times.append(self._ends_at + _LAST_WORDS - now)
        return min(times, default=math.inf)

    def _set_timer(self, seconds: float) -> None:
        """Have it run once; for infinity not at all: it would keep a mux waiting."""
        watch, self._watch = self._watch, None
        cancel = getattr(watch, "cancel", None)  # another mux than ours may return nothing
        if cancel is not None:
            cancel()
        if seconds < math.inf:
            self._watch = self._timer(seconds, self)


def _nobody(listener: object) -> int:
    """Say of another mux than ours that it keeps nobody back."""
    del listener
    return 0


def _nothing() -> None:
    """Stand in where nobody has to be told."""


def _not_ours(event: object) -> bool:
    """Stand in where no signals are watched."""
    del event
    return False
