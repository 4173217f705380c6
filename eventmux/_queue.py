"""The events that wait to be handed out.

First in, first out, with three exceptions: what is urgent comes first, the events of one handle
can be taken alone, and those of a handle that was killed are dropped, up to its last one. The
queue is not searched for them when the handle is killed, so that killing thousands at once stays
cheap: the last event is noted, and what comes before it is skipped when its turn comes.

What the program does with an event may queue the next: an event of its own, or `Sent`. So that the
queue becomes empty in the end, so many are given out as are in the ration, which each look at the
handles renews.

An event may be pushed at any moment, by a finalizer that runs in the middle of a method here. And
a signal handler may raise wherever a function has been called: so nothing is called between an
event's leaving the queue and its being returned.

This file knows nothing of channels, and closes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

from eventmux.events import AnyEvent, Child, Event, Handle

__all__ = ["FOLLOWING", "MORE", "EventQueue"]

# The ration: events for each one that a look has brought (itself, and what comes of it), and more.
FOLLOWING = 2
MORE = 16


class EventQueue:
    """A queue of events."""

    __slots__ = ("_last", "push", "push_urgent", "ration", "urgent", "waiting")

    def __init__(self) -> None:
        # Of any class of event. What is taken has the types of ours, and a program that has its own
        # says so by `EventMux[Done]`.
        self.waiting: deque[Any] = deque()
        # By handle that was killed; more than one if a number was killed, used again, and killed.
        self._last: dict[Handle, deque[Event]] = {}
        self.urgent: deque[Any] = deque()  # due timers: traffic must not put them off
        self.ration = MORE  # how many are taken before the next look, which renews it
        self.push = self.waiting.append
        self.push_urgent = self.urgent.append

    def __len__(self) -> int:
        """Return how many events are in the queue, those that will be dropped included."""
        return len(self.urgent) + len(self.waiting)

    def __iter__(self) -> Iterator[Event]:
        """Iterate over what is in the queue now, without what is urgent."""
        return iter(tuple(self.waiting))

    def newest(self, count: int) -> list[Event]:
        """Return the last so many that are not urgent, from the last on."""
        return list(islice(reversed(self.waiting), max(0, count)))

    def put_back(self, event: AnyEvent) -> None:
        """Put an event that was taken in front of the others."""
        self.waiting.appendleft(event)

    @property
    def waits_for_look(self) -> bool:
        """True if there is something, but the ration is used up."""
        return bool(self.waiting) and not self.ration

    def push_own(self, events: tuple[Event, ...]) -> None:
        """Put events of the program's own at the end, and a look at the handles behind them."""
        self.waiting.extend(events)
        self.ration = min(self.ration, len(self.waiting))

    def take(self) -> AnyEvent | None:
        """Take the next event; None if there is none, or the ration is used up."""
        if self.urgent:
            event: AnyEvent = self.urgent[0]
            del self.urgent[0]
            return event
        waiting: deque[AnyEvent] = self.waiting
        while waiting and self.ration:
            event = waiting[0]
            if self._last and self._is_dropped(event):
                del waiting[0]
                continue
            del waiting[0]
            self.ration -= 1
            return event
        return None

    def take_of(self, fh: Handle) -> AnyEvent | None:
        """Take the next event of one handle; None if there is none, or the ration is used up."""
        urgent: deque[AnyEvent] = self.urgent
        for index, event in enumerate(tuple(urgent)):
            if event.fh == fh:
                del urgent[index]
                return event
        waiting: deque[AnyEvent] = self.waiting
        dropped = 0
        for index, event in enumerate(tuple(waiting) if self.ration else ()):
            if event.fh != fh:
                continue
            if self._last and self._is_dropped(event):
                del waiting[index - dropped]
                dropped += 1
                continue
            del waiting[index - dropped]
            self.ration -= 1
            return event
        return None

    def _is_dropped(self, event: Event) -> bool:
        """True for an event of a handle that was killed, unless it is its last.

        A child process that was given the handle is not told of by it, and ends without it.
        """
        fh = event.fh
        last = None if fh is None else self._last.get(fh)
        if fh is None or not last or type(event) is Child:
            return False
        if event is not last[0]:
            return True
        last.popleft()
        if not last:
            del self._last[fh]
        return False

    def push_last(self, event: Event) -> None:
        """Put the last event of a handle at the end; all that is there of it before is dropped."""
        self.waiting.append(event)
        if event.fh is not None:
            self._last.setdefault(event.fh, deque()).append(event)

    def has_urgent(self, event: Event) -> bool:
        """True if an urgent event was not taken yet."""
        return any(queued is event for queued in self.urgent)

    def holds(self, event: Event) -> bool:
        """True if an event that is not urgent was not taken yet."""
        return any(queued is event for queued in self)

    def remove(self, event: Event) -> None:
        """Take one event out again."""
        for events in (self.urgent, self.waiting):
            for index, queued in enumerate(tuple(events)):
                if queued is event:  # not an equal one
                    del events[index]
                    return

    def remove_of(self, fh: Handle) -> list[Event]:
        """Take all events of a handle out, but not the end of another one with the same number.

        Returns:
            The events, in order.
        """
        events = self.waiting
        removed = [event for event in tuple(events) if event.fh == fh]
        if not removed:  # as most often: nothing has to be moved
            return removed
        removed.clear()
        last = deque(self._last.get(fh, ()))
        for _ in range(len(events)):
            event = events.popleft()
            if event.fh != fh or last or type(event) is Child:
                events.append(event)
            else:
                removed.append(event)
            if last and event is last[0]:
                last.popleft()
        self.ration = min(self.ration, FOLLOWING * len(events) + MORE)  # they were counted in
        return removed

    def clear(self) -> None:
        """Take everything out."""
        self.urgent.clear()
        self.waiting.clear()
        self._last.clear()

    def count(self) -> int:
        """Return how many events can be taken."""
        if not self._last:
            return len(self)
        lasts = {fh: deque(last) for fh, last in self._last.items()}
        count = len(self.urgent)
        for event in self:
            last = None if event.fh is None else lasts.get(event.fh)
            if last and event is last[0]:
                last.popleft()
                count += 1
            else:
                count += not last or type(event) is Child
        return count
