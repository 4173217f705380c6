"""How long a handle may take to close: it has output that its peer does not read.

The one rule: nothing closes for ever. A time that the program gave is kept, as a total. Without
one, a connection may take as long as its peer reads at all. Pipes and terminals have no such
limit: who reads them belongs to the user of this program, and may be a pager.

This file knows that channels close, and not how.
"""

from __future__ import annotations

from collections.abc import Callable

from eventmux._channels.channel import Channel
from eventmux._watching.timers import Entry

__all__ = ["STALL", "Endings"]

STALL = 90.0
"""Seconds that a closing connection may be without any progress of its output."""

_LOOK = 30.0  # until the next one, after a look has seen some


class _Ending:
    """One handle that is closing."""

    __slots__ = ("due", "entry", "left", "seconds", "since")

    def __init__(self, now: float, left: int) -> None:
        self.due: float | None = None  # when it is given up, whatever happens
        self.seconds: float = STALL  # how long it had then
        self.entry: Entry | None = None
        self.left = left  # the least that was left to be sent
        self.since = now  # when that was seen


class Endings:
    """The handles that are closing.

    Args:
        clock: seconds that never go back.
        later: does something after so many seconds.
        cancel: takes that back.
        arm: sees what a channel wants then.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Entry],
        cancel: Callable[[Entry], None],
        arm: Callable[[Channel], None],
    ) -> None:
        self._clock = clock
        self._later = later
        self._cancel = cancel
        self._arm = arm
        self._endings: dict[Channel, _Ending] = {}

    def begin(self, channel: Channel, seconds: float | None = None, added: int = 0) -> None:
        """See to it that a channel closes.

        Args:
            channel: what is closing.
            seconds: how long it may take; a second time can only shorten that.
            added: how much was added to its output since it was closing.
        """
        ending = self._endings.get(channel)
        if ending is None and seconds is None and channel.closed is not None:
            return  # as most: there was nothing to wait for
        now = self._clock()
        if ending is None:
            ending = self._endings[channel] = _Ending(now, channel.left_to_send())
        else:
            ending.left += added
        if seconds is not None and (ending.due is None or now + seconds < ending.due):
            ending.due, ending.seconds = now + seconds, seconds
        self._look(channel, ending)

    def forget(self, channel: Channel) -> None:
        """It is closed."""
        ending = self._endings.pop(channel, None)
        if ending is not None and ending.entry is not None:
            self._cancel(ending.entry)

    def _look(self, channel: Channel, ending: _Ending) -> None:
        """Give a channel up if it is time; else look again when it may be."""
        if ending.entry is not None:
            self._cancel(ending.entry)
            ending.entry = None
        if not channel.closing:  # it is read from again, with another buffer
            del self._endings[channel]
            return
        if channel.closed is not None:  # all that is left to do is the program's
            if ending.due is None:
                del self._endings[channel]
            return
        now = self._clock()
        if ending.due is not None:
            wait, within = ending.due - now, f"{ending.seconds:g} seconds"
        elif channel.is_socket:
            wait = _until_stalled(channel, ending, now)
            within = f"{STALL:g} seconds without progress"
        else:
            return
        if wait > 0:
            ending.entry = self._later(wait, lambda: self._look(channel, ending))
        else:
            channel.give_up(within)
            self._arm(channel)


def _until_stalled(channel: Channel, ending: _Ending, now: float) -> float:
    """Return when to look again, 0 or less if there was no progress for too long."""
    left = channel.left_to_send()
    if left >= ending.left:
        return ending.since + STALL - now
    ending.left, ending.since = left, now  # it was before now: the next look is sooner for that
    return _LOOK
