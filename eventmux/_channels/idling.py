"""Handles on which nothing has come or gone for too long: `idle_timeout`.

Who reads and writes only notes that something moved, by setting `Channel.quiet` to 0: no timer is
set anew, and no clock is read. Each handle is looked at sixteen times in its timeout, all those
with the same timeout at once, and each look adds 1; so one that is quiet is found after its timeout
and never before, but up to an eighth of it later.

The time is the peer's. It stands still while nothing can be expected of the peer: it is not read
from (by `want_read(fh, False)`, or `mux(only=...)`, or because a buffer waits for `recvdata()`),
and nothing waits to be sent to it.

This file knows the clock, and nothing of bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from eventmux._channels.channel import THROTTLED, Channel
from eventmux.errors import IdleTimeout

__all__ = ["Idling"]

_LOOKS = 16  # in one timeout
_TURNS = 16  # at most, in which something is ready, until the clock is read


class _Group:
    """The handles that have the same timeout."""

    __slots__ = ("channels", "pause", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.pause = seconds / _LOOKS  # until the next look
        self.channels: set[Channel] = set()

    def look(self) -> list[Channel]:
        """Return those that have been quiet for too long."""
        idle: list[Channel] = []
        for channel in self.channels:
            if (channel.muted or channel.closing) and _is_excused(channel):
                channel.quiet = 0
            elif channel.quiet < _LOOKS:
                channel.quiet += 1
            elif channel.is_up:  # connecting has a time of its own
                idle.append(channel)
        return idle


def _is_excused(channel: Channel) -> bool:
    """True if nothing can be expected of the peer; one that is closing has another time."""
    return channel.closing or bool(channel.muted & ~THROTTLED and not channel.unsent)


class Idling:
    """Those that have a timeout.

    Args:
        clock: seconds that never go back.
        arm: sees what a channel wants then.
    """

    __slots__ = (
        *("_arm", "_clock", "_count", "_due", "_most_turns", "_own", "_read"),
        *("groups", "longest_wait", "turns_left"),
    )

    def __init__(self, clock: Callable[[], float], arm: Callable[[Channel], None]) -> None:
        self._clock = clock
        self._arm = arm
        self.groups: dict[float, _Group] = {}
        """By timeout. Empty as long as nobody has one, so that there is nothing to be done."""
        self._own: dict[Channel, float | None] = {}  # those that were given another than at first
        self._due: list[tuple[float, int, _Group]] = []  # a heap: when to look at which
        self._count = 0
        self.longest_wait = 0.0
        """Seconds that a turn of the mux may wait. It may be a little too long: while there is
        traffic, not every turn is worth a look at the clock."""
        self._read = 0.0  # when that was
        self._most_turns = 1  # until it is read again
        self.turns_left = 0
        """Turns of the mux that may still bring something, until it is to call `look()`. It does so
        also when a wait has brought nothing."""

    # Who is watched

    def timeout_of(self, channel: Channel) -> float | None:
        """Return the timeout of a channel, None if it has none."""
        return self._own.get(channel, channel.options.idle_timeout)

    def watch(self, channel: Channel) -> None:
        """Begin, for a channel that has a timeout."""
        seconds = self.timeout_of(channel)
        if seconds is None:
            return
        group = self.groups.get(seconds)
        if group is None:
            group = _Group(seconds)
            now = self._clock()
            heapq.heappush(self._due, self._next_look(group, now))
            self._see_when(now)
            self.groups[seconds] = group
        channel.quiet = 0
        group.channels.add(channel)

    def change(self, channel: Channel, seconds: float | None) -> None:
        """Give a channel another timeout, or none; it counts from now."""
        self._leave(channel)
        self._own[channel] = seconds
        self.watch(channel)

    def replace(self, channel: Channel, other: Channel) -> None:
        """Have another channel of the same handle take the place of one."""
        seconds = self.timeout_of(channel)
        self.forget(channel)
        if seconds is not None:
            self.change(other, seconds)

    def forget(self, channel: Channel) -> None:
        """It is closed, or nobody's any more."""
        if self.groups or self._own:
            self._leave(channel)
            self._own.pop(channel, None)

    def _leave(self, channel: Channel) -> None:
        """Leave the group; one that is empty ends with its next look."""
        seconds = self.timeout_of(channel)
        group = None if seconds is None else self.groups.get(seconds)
        if group is not None:
            group.channels.discard(channel)

    # When they are looked at

    def until_due(self) -> float | None:
        """Return how long it is until the next look; None if there is none."""
        return max(0.0, self._due[0][0] - self._clock()) if self._due else None

    def look(self) -> None:
        """Fail those that have been quiet for too long."""
        now = self._clock()
        due = self._due
        while due and due[0][0] <= now:
            group = due[0][2]
            if not group.channels:
                if self.groups.get(group.seconds) is group:
                    del self.groups[group.seconds]
                heapq.heappop(due)
                continue
            # First: should a signal handler raise, the rest is looked at the next time.
            heapq.heapreplace(due, self._next_look(group, now))
            for channel in group.look():
                channel.fail(IdleTimeout(group.seconds))
                self._arm(channel)
        self._see_when(now)

    def _see_when(self, now: float) -> None:
        """Note how long to wait, and for how many turns: so few that no look is much too late."""
        if not self._due:
            return
        due, _, group = self._due[0]
        turns = self._most_turns - self.turns_left
        took = now - self._read
        slack = group.pause / _LOOKS
        self.longest_wait, self._read = due - now, now
        few = int(slack * turns / took) if took > 0 else _TURNS
        self._most_turns = self.turns_left = max(1, min(few, _TURNS))

    def _next_look(self, group: _Group, now: float) -> tuple[float, int, _Group]:
        self._count += 1
        return now + group.pause, self._count, group
