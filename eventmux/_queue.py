"""The events that wait to be handed out.

First in, first out, with two exceptions: the events of one handle can be taken alone, and those
of a handle that was killed are dropped, up to its last one. The queue is not searched for them
when the handle is killed, so that killing thousands at once stays cheap: the last event is noted,
and what comes before it is skipped when its turn comes.

An event may be pushed at any moment, by a finalizer that runs in the middle of a method here.

This file knows nothing of channels, and closes nothing.
"""

from __future__ import annotations

from collections import deque

from eventmux.events import Event, Handle

__all__ = ["EventQueue"]


class EventQueue:
    """A queue of events."""

    __slots__ = ("_events", "_last", "push")

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._last: dict[Handle, Event] = {}  # by handle that was killed
        self.push = self._events.append

    def __len__(self) -> int:
        """Return how many events are in the queue, those that will be dropped included."""
        return len(self._events)

    def take(self) -> Event | None:
        """Take the next event; None if there is none."""
        events = self._events
        while events:
            event = events.popleft()
            if not self._last or not self._is_dropped(event):
                return event
        return None

    def take_of(self, fh: Handle) -> Event | None:
        """Take the next event of one handle; None if there is none."""
        events = self._events
        index = 0
        while index < len(events):
            event = events[index]
            if event.fh != fh:
                index += 1
                continue
            del events[index]
            if not self._is_dropped(event):
                return event
        return None

    def _is_dropped(self, event: Event) -> bool:
        """True for an event of a handle that was killed, unless it is its last."""
        fh = event.fh
        last = None if fh is None else self._last.get(fh)
        if fh is None or last is None:
            return False
        if event is last:
            del self._last[fh]
            return False
        return True

    def push_last(self, event: Event) -> None:
        """Put the last event of a handle at the end; all that is there of it before is dropped."""
        if self._events and event.fh is not None:
            self._last[event.fh] = event
        self._events.append(event)

    def remove(self, event: Event) -> None:
        """Take one event out again."""
        for index, queued in enumerate(tuple(self._events)):
            if queued is event:  # not an equal one
                del self._events[index]
                return

    def remove_of(self, fh: Handle) -> None:
        """Take all events of a handle out."""
        events = self._events
        for _ in range(len(events)):
            event = events.popleft()
            if event.fh != fh:
                events.append(event)

    def clear(self) -> None:
        """Take everything out."""
        self._events.clear()
        self._last.clear()

    def count(self) -> int:
        """Return how many events can be taken."""
        if not self._last:
            return len(self._events)
        last = dict(self._last)
        count = 0
        for event in tuple(self._events):
            waiting_for = None if event.fh is None else last.get(event.fh)
            if event.fh is not None and event is waiting_for:
                del last[event.fh]
            count += waiting_for is None or event is waiting_for
        return count
