"""A mux in another mux: it is watched like any handle, and has more to tell than its descriptor.

Its descriptor is readable when a handle of it is ready. What else it has (events in its queue,
timers, output that was put off) it tells by `timeout()`, and the table asks at each turn. What it
watches is the program's affair: the outer mux never closes it.
"""

from __future__ import annotations

from selectors import EVENT_READ
from typing import cast

from eventmux._channels.channel import Channel
from eventmux.events import CanRead

__all__ = ["Nestable", "Nested"]


class Nestable:
    """What can be watched as a mux is."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when a handle is ready."""
        raise NotImplementedError

    def timeout(self) -> float | None:
        """Return for how long there is nothing else to do, in seconds; None is for ever."""
        raise NotImplementedError


class Nested(Channel):
    """A mux that another one watches."""

    why_not = "it is a mux"
    __slots__ = ()

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        return 0 if self.closing or self.muted else EVENT_READ

    def readable(self) -> None:
        """Tell the program."""
        if not self.closing:
            self._emit(CanRead(self.fh))

    def writable(self) -> None:
        """Do nothing: it never wants to write."""

    def until_due(self) -> float | None:
        """Return for how long it has nothing besides its handles; None is for ever."""
        return None if self.muted else cast("Nestable", self.fh).timeout()

    def shut(self) -> None:
        """Leave it as it is."""
        self.release()

    def drop(self) -> None:
        """Leave it as it is."""

    def _prepare(self) -> None:
        """Leave it as it is."""
