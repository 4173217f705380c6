"""The events of a mux inside a running asyncio loop: `async for event in events(mux)`.

The loop waits for the descriptor of the mux, and for the time that its `timeout()` tells. What the
program asks of the mux meanwhile, in another task, neither of them tells of: so the mux tells it
itself. Nothing is looked at again and again, and between two waits the loop knows of nothing that
would have to be taken back.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Generic

from eventmux._loop import IDLE
from eventmux.events import AnyEvent, Event, Timeout
from eventmux.mux import EventMux, Own

__all__ = ["Events", "events"]

# In a row, without a turn for other tasks. A turn costs as much as some ten events.
_MOST_EVENTS = 100
_MOST_SECONDS = 0.005

_iterating: weakref.WeakKeyDictionary[EventMux[Event], weakref.ref[Events[Event]]] = (
    weakref.WeakKeyDictionary()
)


def events(mux: EventMux[Own]) -> Events[Own]:
    """Iterate over the events of a mux: `async for event in eventmux.aio.events(mux)`.

    It waits as `mux()` does, while other tasks run, and ends when `mux()` would return None: when
    there is nothing left to wait for. Other tasks may use the mux meanwhile: send, set timers, add
    and close handles; other threads may `post()`. Events that come one after the other are handed
    out without waiting, but others have their turn every 100 events, or 5 ms.

    While the program does something else in between, the mux stands still. To go on meanwhile,
    do long work in a task of its own.

    Leaving the loop by `break`, an exception or a cancelled task leaves the mux as it is: its next
    event is the next one of `mux()`, or of another `events()`.

    Raises:
        RuntimeError: no loop is running, or another iterator of this mux is not closed.
        io.UnsupportedOperation: the mux waits with a selector that has no descriptor; those of
            epoll and kqueue have one. There is none on Windows.
    """
    return Events(mux)


class Events(Generic[Own]):
    """What `events()` returns: an asynchronous iterator, which `aclose()` closes."""

    def __init__(self, mux: EventMux[Own]) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        mux.fileno()
        known = _iterating.get(mux)
        other = None if known is None else known()
        if other is not None and not other._is_closed:
            raise RuntimeError(
                f"another iterator has the events of {mux!r}: end that one, or aclose() it, first"
            )
        _iterating[mux] = weakref.ref(self)
        self._mux = mux
        self._waiter: asyncio.Future[bool] | None = None
        self._fd = -1  # what the loop watches meanwhile
        self._in_a_row = 0
        self._end_of_row = mux.clock() + _MOST_SECONDS

    def __aiter__(self) -> Events[Own]:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> AnyEvent | Own:
        """Return the next event.

        Raises:
            StopAsyncIteration: there is nothing left to wait for, or this is closed.
            RuntimeError: another task waits for it, or the mux is closed.
        """
        if self._waiter is not None:
            raise RuntimeError("another task waits for the next event already")
        mux, has_looked = self._mux, False
        while not self._is_closed:
            if self._in_a_row >= _MOST_EVENTS or mux.clock() >= self._end_of_row:
                await asyncio.sleep(0)
                self._begin_row()
            event = mux.mux(0)
            if not isinstance(event, Timeout) and event is not None:
                self._in_a_row += 1
                return event
            if not mux._loop.has_anything():
                break
            seconds = mux.timeout()
            if not has_looked:  # for what mux() does itself when it has waited so long
                seconds = IDLE if seconds is None else min(seconds, IDLE)
            if await self._wait(seconds) and not has_looked and seconds == IDLE:
                mux._loop.look_after_all()
                has_looked = True
            self._begin_row()
        self._close()
        raise StopAsyncIteration

    def _begin_row(self) -> None:
        self._in_a_row = 0
        self._end_of_row = self._mux.clock() + _MOST_SECONDS

    async def _wait(self, seconds: float | None) -> bool:
        """Wait until there may be something; return whether the time is over."""
        if seconds is not None and seconds <= 0:
            await asyncio.sleep(0)
            return True
        loop = self._loop
        if asyncio.get_running_loop() is not loop:
            raise RuntimeError("this iterator belongs to another loop than the one that is running")
        self._waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._wake, True)
        try:
            self._fd = self._mux.fileno()
            loop.add_reader(self._fd, self._wake)
            self._mux._loop.outside = self._wake
            return await self._waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._wake()
            self._mux._loop.outside = None
            self._waiter = None

    def _wake(self, is_time_over: bool = False) -> None:
        """End the wait.

        The loop has to forget the descriptor now: when the task goes on, the number may be that of
        another one, if the mux is about to be closed.
        """
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._loop.remove_reader(fd)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(is_time_over)

    async def aclose(self) -> None:
        """End the iteration. The mux stays as it is; who waits for the next event gets none."""
        self._close()

    def _close(self) -> None:
        self._is_closed = True
        self._wake()
