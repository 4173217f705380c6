"""What the poller can wait for: a descriptor, and what to do when it is ready.

Channels are so, and what the mux waits for itself. This file waits for nothing.
"""

from __future__ import annotations

from selectors import EVENT_READ
from typing import Protocol

from eventmux.events import Handle

__all__ = ["HANGUP", "HELD", "Ending", "Internal", "Pollable"]

HELD = 1  # a bit of `muted`: the poller waits for another handle alone
HANGUP = 4
"""In the place of a mask of the selectors module: wait only for the end of both directions.

A selector reports that as well, but only with readiness to read or to write, and one direction of
a socket whose peer has finished is ready for ever.
"""


class Pollable(Protocol):
    """What can be waited for.

    `armed` and `armed_fd` are the poller's own notes of what it asked the selector for; of the
    reasons in `muted` it knows HELD alone.
    """

    armed: int
    armed_fd: int
    muted: int

    @property
    def fd(self) -> int:
        """The descriptor."""
        ...

    @property
    def fh(self) -> Handle | None:
        """The handle that the program knows; None for the mux's own."""
        ...

    @property
    def wanted(self) -> int:
        """The readiness to wait for, as a mask of the selectors module; or HANGUP."""
        ...

    def readable(self) -> None:
        """It is ready to be read from."""
        ...

    def writable(self) -> bool | None:
        """It is ready to be written to; True if it is not to be read from in this turn."""
        ...

    def fail(self, error: OSError) -> None:
        """It cannot be waited for."""
        ...

    def is_lost(self) -> bool:
        """True if the program closed it without telling, so that the number may be another's."""
        ...


class Ending(Pollable, Protocol):
    """What may want HANGUP."""

    def hung_up(self) -> None:
        """Nothing can reach the peer any more: this is what comes of HANGUP."""
        ...


class Internal:
    """Something of the mux's own, which only ever becomes readable."""

    __slots__ = ("armed", "armed_fd", "fd", "muted")
    fh = None

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.armed = 0
        self.armed_fd = -1
        self.muted = 0

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        return EVENT_READ if self.fd >= 0 else 0

    def writable(self) -> None:
        """Do nothing: it never wants to write."""

    def fail(self, error: OSError) -> None:
        """Raise: without it the mux does not work."""
        raise error

    def is_lost(self) -> bool:
        """False: only the mux closes it."""
        return False
