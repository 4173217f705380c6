"""The turns of a mux.

A turn is: send what was put off, wait once, let all that is writable write, then all that is
readable read, then see what is due and what was posted. What comes of it is queued; no turn begins
while the queue holds anything that may be handed out. With the event that ends a handle, that
handle is closed.

This file knows channels, but nothing of bytes. `mux.py` says what a program may ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from selectors import BaseSelector
from typing import Any

from eventmux._channels.channel import Channel
from eventmux._channels.table import ChannelTable
from eventmux._queue import FOLLOWING, MORE, EventQueue
from eventmux._trace import Trace
from eventmux._waiting.poller import Poller
from eventmux._waiting.spinning import Spinner
from eventmux._watching.mailbox import Mailbox
from eventmux._watching.watches import Watches
from eventmux.events import AnyEvent, Closed, Event, Handle, Timeout

__all__ = ["IDLE", "Loop"]

_MOST_KEPT = 256  # events queued for others, with mux(only=...), until those are not read from
IDLE = 0.1  # seconds without an event, after which all handles are looked after


class Loop:
    """All that a mux watches, and the events that come of it.

    Args:
        selector: what to wait with.
        spinner: how to wait with it.
        clock: seconds that never go back.
    """

    def __init__(
        self, selector: BaseSelector, spinner: Spinner, clock: Callable[[], float]
    ) -> None:
        self.queue = EventQueue()
        self.poller = Poller(selector, spinner)
        self.mailbox = Mailbox()
        self.watches = Watches(self.queue, self.poller, self.mailbox, clock)
        self.table = ChannelTable(self.poller, self.queue, self.watches)
        self._idling = self.table.idling
        self._timed = self._idling.groups  # empty unless a handle has an idle_timeout
        self.is_plain = True  # events can be taken off the queue as they come
        self._clock = clock
        self._trace: Trace | None = None
        self._holding_for: Handle | None = None  # the handle that alone is read from

    @property
    def trace(self) -> Trace | None:
        """What logs each event and all that is sent."""
        return self._trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        self._trace = trace
        self._see_if_plain()

    @property
    def outside(self) -> Callable[[], None] | None:
        """What tells another loop, which waits for the mux, that it was asked for something.

        That the descriptor cannot: it is readable for handles, the mailbox and signals alone.
        """
        return self.watches.outside

    @outside.setter
    def outside(self, outside: Callable[[], None] | None) -> None:
        self.watches.outside = outside
        self._see_if_plain()

    def _see_if_plain(self) -> None:
        self.is_plain = (
            self._trace is None and self._holding_for is None and self.watches.outside is None
        )

    def sent(self, channel: Channel, data: tuple[bytes | str, ...]) -> None:
        """Tell of what was sent: the log, if that is traced, and another loop."""
        self.watches.changed()
        trace = self._trace
        if trace is None:
            return
        if trace.is_busy:
            last = self.queue.newest(1)
            trace.note_sent(channel.fh, channel.unsent, last[0] if last else None)
        else:
            with self._tracing(trace):
                trace.sent(channel.fd, data)

    def _trace_event(self, event: Event) -> None:
        trace = self._trace
        if trace is None or trace.has_caused(event):
            return
        channel = None if event.fh is None else self.table.channels.get(event.fh)
        with self._tracing(trace):
            trace.event(event, None if channel is None else channel.fd)

    @contextmanager
    def _tracing(self, trace: Trace) -> Iterator[None]:
        """Note what is queued meanwhile. A logger that fails is given up: it would fail again."""
        queued, posted = len(self.queue), len(self.mailbox)
        if not queued and not posted:
            trace.forget()
        try:
            with trace:
                yield
        except Exception:
            self.trace = None
            raise
        trace.note(self.queue.newest(len(self.queue) - queued))
        trace.note(self.mailbox.newest(len(self.mailbox) - posted))

    # Turns

    def next_event(self, timeout: float | None, only: Handle | None) -> AnyEvent | None:
        """Return the next event, of one handle alone if `only` is given: see `EventMux.mux()`."""
        if self._holding_for is not None and self._holding_for is not only:
            self.poller.release()
            self._holding_for = None
            self._see_if_plain()
        event = self._take(only)
        return self.wait(timeout, only) if event is None else event

    def wait(self, timeout: float | None, only: Handle | None) -> AnyEvent | None:
        """Return the next event, when there is none in the queue."""
        deadline = None if timeout is None else self._clock() + timeout
        looked_after = False
        table = self.table
        try:
            while True:
                if table.unflushed:
                    table.flush()
                    event = self._take(only)
                    if event is not None:
                        return event
                if table.unsettled and not self.queue.waits_for_look:
                    table.settle(only)
                    event = self._take(only)
                    if event is not None:
                        return event
                if only is not None:
                    if (
                        only not in table.channels
                        and not self.queue.waits_for_look
                        and not self.watches.has_of(only)
                    ):
                        return None
                elif timeout is None and not self.has_anything():
                    return None
                looked_after = self._turn(timeout, only, looked_after)
                event = self._take(only)
                if event is not None:
                    return event
                if deadline is not None:
                    timeout = deadline - self._clock()
                    if timeout <= 0:
                        return Timeout()
        except BaseException:  # Ctrl-C, for example: what was under way is done in the next turn
            table.mend()
            raise

    def has_anything(self) -> bool:
        """True if there is something to wait for."""
        return bool(
            self.table.channels or self.watches.alive or self.mailbox or self.queue.waits_for_look
        )

    def _take(self, only: Handle | None) -> AnyEvent | None:
        """Take the next event off the queue; with `Closed`, the handle is closed."""
        while True:
            event = self.queue.take() if only is None else self.queue.take_of(only)
            if event is None:
                return None
            try:
                if event.__class__ is Closed and self._lingers(event):
                    continue
                if self._trace is not None:
                    self._trace_event(event)
                if event.__class__ is Closed:
                    self._close_of(event)
            except BaseException:  # Ctrl-C, for example: it is handed out the next time
                self.put_back(event)
                raise
            return event

    def put_back(self, event: AnyEvent) -> None:
        """Hand out the next time what was taken, unless it was put off, and another one comes."""
        if event.__class__ is Closed and event.fh is not None:
            channel = self.table.channels.get(event.fh)
            if channel is not None and channel.has_put_off(event):
                return
        self.queue.put_back(event)

    def dispose(self, event: Event) -> bool:
        """Close the handle whose last event is handed out, unless it was killed before.

        Returns:
            False if that has to wait until the peer has read the last words.
        """
        if self._lingers(event):
            return False
        self._close_of(event)
        return True

    def _ending(self, event: Event) -> Channel | None:
        """Return the channel that ends with an event, unless it was killed before."""
        channel = None if event.fh is None else self.table.channels.get(event.fh)
        return channel if channel is not None and channel.closed is event else None

    def _lingers(self, event: Event) -> bool:
        channel = self._ending(event)
        if channel is None or not channel.linger():
            return False
        self.poller.arm(channel)
        return True

    def _close_of(self, event: Event) -> None:
        channel = self._ending(event)
        if channel is not None:
            self.table.forget(channel, channel.shut)

    def _turn(self, timeout: float | None, only: Handle | None, looked_after: bool) -> bool:
        """Wait once. Return whether all handles were looked after since mux() was called."""
        table, watches, queue = self.table, self.watches, self.queue
        if not looked_after:
            lost = table.lost
            looked_after = table.look_after_some()
            if table.lost > lost:  # one was closed behind our back
                queue.ration = FOLLOWING * len(queue.waiting) + MORE
                return looked_after
        limit = watches.until_due(timeout) if watches.timers.heap else timeout
        if self.mailbox.is_rung or (not queue.ration and queue.waits_for_look):
            limit = 0.0
        if not looked_after:
            limit = IDLE if limit is None else min(limit, IDLE)
        if table.nested and only is None:
            limit = _sooner(limit, table.until_nested())
        timed = self._timed
        if timed:  # without a call, as it is asked at each turn
            idling = self._idling
            idling.turns_left -= 1
            if limit is None or limit > idling.longest_wait:
                limit = idling.longest_wait
        held_for = None
        if only is not None and len(queue) >= _MOST_KEPT:
            held_for = self._holding_for = only  # else a peer could fill the memory meanwhile
            self._see_if_plain()
        try:
            was_idle = not self.poller.turn(limit, held_for)
        finally:  # the program's meta_handler may raise, and the bell does not ring twice
            if self.mailbox.is_rung:
                watches.answer_bell()
        if table.nested and only is None:
            table.report_nested()
        queue.ration = FOLLOWING * len(queue.waiting) + MORE
        if watches.timers.heap:
            watches.run_due(only, True)
        if timed and (was_idle or self._idling.turns_left <= 0):
            self._idling.look()
        if was_idle and limit == IDLE and not looked_after:
            self.look_after_all()
            looked_after = True
        return looked_after

    def look_after_all(self) -> None:
        """See what the program has closed without telling, and whose the wake-up by signals is."""
        self.table.look_after_all()
        self.watches.wakeup.see_to()

    def timeout(self) -> float | None:
        """Return for how long there is nothing to do, but for handles that become ready."""
        table = self.table
        if self.queue or self.mailbox or table.has_put_off() or self.poller.has_files:
            return 0.0
        if table.is_behind():
            return 0.0
        due = _sooner(self.watches.until_due(None), self.table.until_nested())
        return _sooner(due, self._idling.until_due())

    # Handles that go

    def kill(self, channel: Channel, reason: str | None) -> None:
        """Close a handle now; `Closed` is all that comes of it."""
        reason = channel.reason if reason is None else reason
        # First: should the rest be interrupted, the handle is closed with this.
        channel.closed = Closed(channel.fh, channel.missing, reason)
        self.queue.push_last(channel.closed)
        self.table.forget(channel, channel.shut)
        self.watches.changed()

    def remove(self, channel: Channel) -> None:
        """Stop watching a handle; nothing comes of it."""
        self.table.forget(channel, channel.release)
        self.queue.remove_of(channel.fh)
        self.watches.changed()

    # The end

    def close(self, refusal: Any) -> None:
        """Send what can be sent without waiting, close all handles and the selector."""
        self.watches.changed()  # first, while the descriptor is still the selector's
        for channel in list(self.table.channels.values()):
            channel.flush()
            channel.discard()
            self.table.forget(channel, channel.shut)
        self.table.close()
        self.watches.close()
        self.queue.clear()
        self.poller.close(refusal)

    def drop(self, refusal: Any) -> None:
        """Give back what is the process's or the program's: nobody has the mux any more."""
        self.watches.close()
        self.table.give_back()
        self.poller.close(refusal)

    def abandon(self, refusal: Any) -> None:
        """Let go of everything in a forked child, which shares it with its parent."""
        for channel in self.table.abandon(refusal):
            channel.silence()  # it may be in the middle of a read
        self.queue.clear()
        self.outside = None
        self.watches.timers.clear()
        self.poller.close(refusal)
        self.watches.abandon()


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
